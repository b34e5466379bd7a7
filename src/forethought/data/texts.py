"""Text vectors of items, one row an item: what a sentence encoder made of titles, brands and categories.

They lie beside the data as `item_text_embeddings.npy` (the uniform layout), or in any such file.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from forethought.data.interactions import Interactions
from forethought.errors import DataError
from forethought.files import check_ordinary, first_line, replace_file

VECTORS = "item_text_embeddings.npy"
# What a broken header of an .npy makes of itself: it is read as Python writes its values.
UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, RecursionError, TokenError)
MEND = "make it anew, a row of numbers for each row of the item table"


def item_texts(data: Interactions, file: str | Path | None = None) -> np.ndarray:
    """[N, E] in the order of the data's items; zeros where an item has none.

    Args:
        file: an `.npy` with a row for each row of the item table that the data was read with; None: the one beside it.

    Raises:
        DataError: there is no such file, or it does not fit the data.
    """
    path = data.texts if file is None else Path(file)
    if path is None:
        raise DataError(
            f"There are no text vectors of items beside the data ({VECTORS}): make them with forethought embed, or "
            "name a file with texts=... (on the command line --texts FILE)."
        )
    if data.table_rows is None:
        raise DataError(
            f"The rows of {str(path)!r} are those of an item table, and the data was read without one: name it with "
            "items=... (on the command line --items FILE)."
        )
    vectors = table_texts(path, data.table_rows)
    row = data.item_table["source_row"].fill_null(-1).to_numpy()
    vectors = np.where(row[:, None] >= 0, vectors[row], 0).astype(vectors.dtype)
    check_finite(path, vectors)
    if not vectors.any():
        raise DataError(f"No item has a text in {str(path)!r}, where all numbers are 0: {MEND}.")
    return vectors


def table_texts(path: str | Path, rows: int) -> np.ndarray:
    """[rows, E] as the file has them, mapped.

    Raises:
        DataError: it cannot be read, or has another number of rows.
    """
    path = Path(path)
    try:
        check_ordinary(path)
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(f"The text vectors in {str(path)!r} cannot be read ({first_line(error)}): {MEND}.") from error
    if not isinstance(vectors, np.ndarray):
        raise DataError(f"{str(path)!r} holds several arrays: {MEND}, as .npy.")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"The text vectors in {str(path)!r} are {vectors.dtype} {list(vectors.shape)}: {MEND}.")
    if len(vectors) != rows:
        raise DataError(f"{str(path)!r} has {len(vectors):,} rows, but the item table {rows:,}: {MEND}.")
    return vectors


def check_finite(path: Path, vectors: np.ndarray) -> None:
    if not (np.abs(vectors) < np.finfo(np.float32).max).all():
        raise DataError(f"The text vectors in {str(path)!r} hold NaN, infinity or numbers beyond float32: {MEND}.")


def check_vectors(path: Path) -> None:
    """Refuse to replace a file that holds anything but vectors.

    Raises:
        DataError: it does, or cannot be read.
    """
    try:
        check_ordinary(path)
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        ours = isinstance(kept, np.ndarray) and kept.ndim == 2 and np.issubdtype(kept.dtype, np.floating)
    except UNREADABLE:
        ours = False
    if not ours:
        raise DataError(f"{str(path)!r} holds no text vectors, so it is not overwritten: choose another name.")


def write_texts(path: Path, vectors: np.ndarray) -> None:
    """Text vectors as `item_texts` reads them; the file appears whole or not at all."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, vectors)

    replace_file(path, write)
