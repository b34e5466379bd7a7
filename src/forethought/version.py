"""Which release this is, and the mark that files of ours carry."""

__version__ = "0.1.0"

MARK = "written by forethought"
"""Stands in every file of ours that a verb may replace (tables, pages, pictures); `files.check_replaceable` looks."""

MADE_BY = f"{MARK} {__version__}"
