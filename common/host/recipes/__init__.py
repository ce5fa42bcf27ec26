"""Recipes: one Python file for one cell, which runs it without framewatt. See program.py."""
