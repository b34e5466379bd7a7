"""Which release this is, and the mark that files of ours carry."""

__version__ = "0.1.0"

MADE_BY = f"written by forethought {__version__}"
"""Stands in every page, picture and JSON that a verb may later replace: others' files are not replaced."""
