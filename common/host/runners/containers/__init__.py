"""Containers: the engine, the images of the frameworks, the runner that uses them."""
