"""Raw files of known data sets: downloaded from their publishers, recognised, and read."""

from __future__ import annotations

from forethought.data.public.known import KNOWN, PublicDataset, detect, fetch, read_raw
from forethought.data.public.tables import RawTables

__all__ = ["KNOWN", "PublicDataset", "RawTables", "detect", "fetch", "read_raw"]
