"""What a converter raises for a node that it does not convert; a file of its own, as recipes take it with any of the converters."""

from __future__ import annotations


class UnsupportedNode(Exception):
    """This form of the operator has no counterpart in PyTorch here; the text says which part of it. The importer adds the node."""
