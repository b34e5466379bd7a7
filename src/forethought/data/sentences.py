"""Text vectors of items, made by a sentence encoder from what an item table says of them (extra `text`)."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from forethought.data.encoders import load_encoder
from forethought.data.progress import Report, silent
from forethought.data.sources import describe, folder_of, open_table, readable
from forethought.devices import Device, resolve_device
from forethought.errors import ConfigError, DataError, nearest, shown, some
from forethought.files import first_line
from forethought.settings import Part, check

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
    model: str | PathLike[str] = MODEL,
    batch: int = 64,
    device: Device = "auto",
    report: Report = silent,
) -> np.ndarray:
    """A vector of length 1 for each row of an item table, zeros where the row says nothing.

    Args:
        items: the item table: whatever `open_table` opens, or a data folder that holds an `items.parquet`.
        columns: what is read, in this order; by default those of title, brand and categories that there are.
        model: a sentence encoder, as a folder or by its name on the hub, whence it is fetched once.
        batch: texts encoded together.
        device: where they are encoded, as in `load`.
        report: told how many texts are done.

    Returns:
        float16 [rows, E], in the order of the table.

    Raises:
        DataError: the table cannot be read, has no such column, or says nothing of any item.
        ConfigError: the encoder cannot be loaded, would run code of its own, or fails.
        RunError: there is no such device.
        MissingExtraError: sentence-transformers is not installed.
    """
    check(batch, Part, "batch")
    resolve_device(device)  # before anything is read
    texts = sentences(items, columns)
    with_text = [row for row, text in enumerate(texts) if text]
    if not with_text:
        raise DataError(f"Of no item is anything said in {describe(items)}: name other columns.")
    encoder, parts = load_encoder(fspath(model), device), []
    for start in range(0, len(with_text), BLOCK):
        report("items", start, len(with_text))
        parts.append(_encoded(encoder, model, [texts[row] for row in with_text[start : start + BLOCK]], batch))
    report("items", len(with_text), len(with_text))
    encoded = np.concatenate(parts)
    vectors = np.zeros((len(texts), encoded.shape[1]), np.float16)
    vectors[with_text] = encoded
    return vectors


def sentences(items: Any, columns: Sequence[str] | None = None) -> list[str]:
    """What the table says of each item, in one line; "" where that is nothing.

    Raises:
        DataError: a folder without an item table, no such column, or one that holds no text.
        ConfigError: columns that are no list of names.
    """
    if columns is not None and (
        isinstance(columns, str) or not columns or not all(isinstance(c, str) for c in columns)
    ):
        raise ConfigError(f"columns is {columns!r}, but must be a list of names, one at least.")
    source = _table_of(items)
    with readable(source):
        frame = open_table(source).frame
        schema = frame.collect_schema()
        chosen = [name for name in COLUMNS if name in schema] if columns is None else columns
        for name in chosen or COLUMNS:
            if name not in schema:
                raise DataError(
                    f"There is no column {shown(name)} in {describe(source)}, which has "
                    f"{some(schema.names(), 100)}: name those that hold text with columns=... (on the "
                    f"command line --columns).{nearest(name, schema.names())}"
                )
        parts = [_part(name, schema[name]) for name in chosen]
        lines = frame.select(pl.concat_str(parts, separator=". ", ignore_nulls=True).fill_null("")).collect()
    return lines.to_series().to_list()


def _table_of(items: Any) -> Any:
    """A data folder stands for its item table here, as it stands for its interactions elsewhere."""
    folder = folder_of(items)
    if folder is None:
        return items
    if not (folder / "items.parquet").is_file():
        raise DataError(f"The folder {str(items)!r} has no items.parquet: give the table that tells of items.")
    return str(folder / "items.parquet")


def _part(name: str, kind: pl.DataType) -> pl.Expr:
    """ "Brand: Acme" and the like; null where the cell says nothing."""
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    if inner.is_nested() or inner == pl.Binary:
        raise DataError(f"The column {name!r} has type {kind}, which is no text: leave it out of the columns.")
    value = pl.col(name)
    if inner is kind:
        value = _told(value.cast(pl.String))
    else:
        value = value.cast(pl.List(pl.String)).list.eval(_told(pl.element())).list.drop_nulls()
        value = pl.when(value.list.len() > 0).then(value.list.join(" > "))
    return value if name in NAMELESS else pl.lit(f"{name.capitalize()}: ") + value


def _told(text: pl.Expr) -> pl.Expr:
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def _encoded(encoder: SentenceTransformer, model: str | PathLike[str], texts: list[str], batch: int) -> np.ndarray:
    """float32 [texts, E], each of length 1."""
    try:
        vectors = encoder.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
    except Exception as error:  # one that loads may still not know how to pad, or ask for too much memory
        raise ConfigError(
            f"The sentence encoder {str(model)!r} fails ({first_line(error).rstrip('.')}): choose another one or, if "
            "memory is short, a smaller batch."
        ) from error
    if not np.isfinite(vectors).all():
        raise ConfigError(f"The sentence encoder {str(model)!r} gives NaN or infinity: choose another one.")
    return np.asarray(vectors)
