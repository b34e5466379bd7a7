"""Text vectors of items, made by a sentence encoder from what an item table says of them (extra `text`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.sources import describe, readable, scan
from forethought.errors import ConfigError, DataError, MissingExtraError, check_count, nearest
from forethought.files import first_line

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

COLUMNS = ("title", "brand", "categories")
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
NAMELESS = ("title", "name")  # they stand as they are, "Red Pen. Brand: Acme. Categories: Office > Pens"
BLOCK = 1024  # texts between two reports


def embed(
    items: Any,
    *,
    columns: Sequence[str] | None = None,
    model: str = MODEL,
    batch: int = 64,
    report: Report = silent,
) -> np.ndarray:
    """A vector of length 1 for each row of an item table, zeros where the row says nothing.

    Args:
        items: the item table: whatever `scan` opens.
        columns: what is read, in this order; by default those of title, brand and categories that there are.
        model: a sentence encoder, as a folder or by its name on the hub, whence it is fetched once.
        batch: texts encoded together.
        report: told how many texts are done.

    Returns:
        float16 [rows, E], in the order of the table.

    Raises:
        DataError: the table cannot be read, has no such column, or says nothing of any item.
        ConfigError: the encoder cannot be loaded.
        MissingExtraError: sentence-transformers is not installed.
    """
    check_count(batch, "batch")
    texts = sentences(items, columns)
    told = [row for row, text in enumerate(texts) if text]
    if not told:
        raise DataError(f"Of no item is anything said in {describe(items)}: name other columns.")
    encoder = _encoder(model)
    parts = []
    for start in range(0, len(told), BLOCK):
        report("items", start, len(told))
        block = [texts[row] for row in told[start : start + BLOCK]]
        parts.append(encoder.encode(block, batch_size=batch, normalize_embeddings=True, show_progress_bar=False))
    report("items", len(told), len(told))
    found = np.concatenate(parts)
    vectors = np.zeros((len(texts), found.shape[1]), np.float16)
    vectors[told] = found
    return vectors


def sentences(items: Any, columns: Sequence[str] | None = None) -> list[str]:
    """What the table says of each item, in one line; "" where that is nothing.

    Raises:
        DataError: no such column, or one that holds no text.
    """
    with readable(items):
        frame = scan(items)
        schema = frame.collect_schema()
        chosen = [name for name in COLUMNS if name in schema] if columns is None else columns
        for name in chosen or COLUMNS:
            if name not in schema:
                raise DataError(
                    f"There is no column {name!r} in {describe(items)}, which has "
                    f"{', '.join(map(repr, schema.names()))}: name those that hold text with columns=... (on the "
                    f"command line --columns).{nearest(name, schema.names())}"
                )
        parts = [_part(name, schema[name]) for name in chosen]
        lines = frame.select(pl.concat_str(parts, separator=". ", ignore_nulls=True).fill_null("")).collect()
    return lines.to_series().to_list()


def _part(name: str, kind: pl.DataType) -> pl.Expr:
    """ "Brand: Acme" and the like; null where the cell says nothing."""
    value, depth = pl.col(name), 0
    while isinstance(kind, pl.List | pl.Array):
        kind, depth = kind.inner, depth + 1  # pyright: ignore[reportAssignmentType]
    if depth > 1 or kind.is_nested() or kind == pl.Binary:
        raise DataError(f"The column {name!r} has type {kind}, which is no text: leave it out of the columns.")
    value = value.cast(pl.List(pl.String)).list.join(" > ", ignore_nulls=True) if depth else value.cast(pl.String)
    value = value.str.replace_all(r"\s+", " ").str.strip_chars()
    told = value if name in NAMELESS else pl.lit(f"{name.capitalize()}: ") + value
    return pl.when(value != "").then(told)


def _encoder(model: str) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "text", "Making text vectors") from error
    try:  # weights as safetensors, no code of the model's own
        return SentenceTransformer(model, model_kwargs={"use_safetensors": True})
    except Exception as error:  # whatever a broken or absent model raises, in a package that is not ours
        raise ConfigError(
            f"The sentence encoder {model!r} cannot be loaded ({first_line(error).rstrip('.')}): give a folder that "
            "holds one, or a name that the hub knows and this machine can reach."
        ) from error
