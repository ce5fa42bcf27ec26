"""Results that others measured, as runs: one file per format.

A module in this folder that defines `FORMAT` (see `analysis.importers.imported.Format`) is a format; nothing else
has to know of it.
"""
