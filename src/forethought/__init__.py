"""Forethought: sequential recommenders that think before they recommend."""

__version__ = "0.1.0"
