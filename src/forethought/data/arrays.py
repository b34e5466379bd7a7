"""Where flat arrays live: in memory while small, in a nameless temporary file mapped into memory when large."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from forethought.errors import DataError

LARGE = 20_000_000  # values; below, a plain array is 160 MB at most


def allocate(length: int, dtype: DTypeLike, cache: str | Path | None = None) -> np.ndarray:
    """An array for `length` values, its content not yet defined.

    Args:
        length: number of values.
        dtype: of one value.
        cache: an existing folder on a disk with room; large arrays are mapped there (default: the system's
            temporary folder). The file has no name, so that nothing is left behind however the process ends.

    Raises:
        DataError: the folder is missing or its disk is full.
    """
    if length < LARGE:
        return np.empty(length, dtype)
    size = length * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=cache) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a crash on first touch
                os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype, "w+", shape=(length,)))  # a plain view indexes faster
    except OSError as error:
        where = cache or tempfile.gettempdir()
        raise DataError(
            f"{size / 1e9:.1f} GB could not be set aside in {str(where)!r} ({error.strerror}): "
            "free some space there, or name another folder with cache=."
        ) from error
