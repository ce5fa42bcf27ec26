"""One folder for each framework image. A package of its own, so that no other package called `images` can take its place."""
