"""A table of items that a trained model never saw, read as the items were that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from forethought.data.features import TEXT, Feature, FeatureScale, FeatureShape, of_column, of_vectors
from forethought.data.popularity import RECENT_COUNT, TRAIN_COUNT
from forethought.data.sources import open_table, readable
from forethought.data.texts import check_finite, table_texts
from forethought.data.vocabulary import UNKNOWN, Vocabulary, id_column
from forethought.errors import ConfigError, DataError, nearest, some


class NewItems(NamedTuple):
    """Items to be added.

    Attributes:
        table: one row an item, with the columns of the run's own table; what is not said of them is empty.
        features: made with the run's scales.
    """

    table: pl.DataFrame
    features: tuple[Feature, ...]


def read_new_items(
    source: Any,
    known: Vocabulary,
    own: pl.DataFrame,
    read: Sequence[tuple[FeatureShape, FeatureScale]],
    *,
    item: str | None = None,
    usual: str = "item_id",
    texts: str | Path | None = None,
) -> NewItems:
    """New items as a run takes them.

    Args:
        source: whatever `open_table` opens, one row an item.
        known: the items of the run.
        own: its table of them, whose columns new ones may have.
        read: the features that it reads; each in a column of its name, vectors also in `texts`.
        item: name of the column of ids; None: as they were called in the run's own data, else item_id.
        usual: what they were called there.
        texts: an .npy with a text vector for each row of the source.

    Raises:
        DataError: no rows, ids of another kind, twice or known already, a column that is missing or unknown, or values
            that cannot be read as the run's are.
        ConfigError: texts that the run does not read.
    """
    names = [shape.name for shape, _ in read]
    if texts is not None and (TEXT not in names or TEXT in own.columns):
        raise ConfigError(
            f"The run reads no text vectors ({TEXT}) but {', '.join(names)}, so that texts would change nothing: leave "
            "them out."
        )
    table = _table(source, item, usual, known)
    _check_columns(table, own, names)
    features = []
    for shape, scale in read:
        if shape.name == TEXT and texts is not None:
            vectors = table_texts(texts, len(table))
            check_finite(Path(texts), vectors)
            features.append(of_vectors(TEXT, vectors.astype(np.float32), scale))
        elif shape.name in table.columns:
            dtype = own.schema.get(shape.name)
            column = table[shape.name] if dtype is None else _cast(table[shape.name], dtype)
            features.append(of_column(shape.name, column, scale.kind, scale))
        else:
            also = " (on the command line --texts FILE)" if shape.name == TEXT else ""
            raise DataError(
                f"The new items have no column {shape.name!r}, which the run reads: give it{also}, empty where nothing "
                f"is known.{nearest(shape.name, [name for name in table.columns if name not in own.columns])}"
            )
    rows = {name: _cast(table[name], dtype) for name, dtype in own.schema.items() if name in table.columns}
    return NewItems(pl.DataFrame(rows), tuple(features))


def _table(source: Any, item: str | None, usual: str, known: Vocabulary) -> pl.DataFrame:
    """The rows of the source, ids as the run has them, none of which it knows."""
    with readable(source):
        opened = open_table(source)
        names = opened.frame.collect_schema().names()
        candidates = (usual, "item_id") if item is None else (item,)
        column = next((name for name in candidates if name in names), None)
        if column is None:
            raise DataError(
                f"The table of new items has no column {candidates[0]!r} of ids; it has {some(names, 100) or 'none'}: "
                f"say which it is with item=... (on the command line --item).{nearest(candidates[0], names)}"
            )
        ids, kind = id_column(opened.frame, column)
        if kind != known.kind:
            raise DataError(
                f"The ids of the new items are of kind {kind}, but those of the run of kind {known.kind}, such as "
                f"{known.id_list([0])[0]!r}: cast the column {column!r}."
            )
        table = opened.frame.select(ids.alias("item_id"), pl.exclude(column, "item_id")).collect()
    if not len(table):
        raise DataError("The table of new items has no rows: there is nothing to add.")
    table = table.with_columns(_cast(table["item_id"], known.ids.dtype))
    twice = table["item_id"].drop_nulls().value_counts().filter(pl.col("count") > 1)["item_id"]
    if len(twice):
        raise DataError(
            f"The column {column!r} of the new items lists some ids more than once ({some(sorted(twice), 3)}): keep "
            "one row for each."
        )
    new = Vocabulary.from_series(table["item_id"], known.kind)
    met = np.flatnonzero(known.index_of(new.ids) != UNKNOWN)
    if len(met):
        raise DataError(
            f"The run knows {len(met):,} of the {len(new):,} new items already ({some(new.id_list(met), 5)}): "
            "leave them out."
        )
    return table


def _check_columns(table: pl.DataFrame, own: pl.DataFrame, features: Sequence[str]) -> None:
    known = [*(name for name in own.columns if name not in ("item_id", TRAIN_COUNT, RECENT_COUNT)), *features]
    unknown = [name for name in table.columns if name not in known and name != "item_id"]
    # a feature's column under a slip of the pen is told where it is missed
    missed = [name for name in features if name in own.columns and name not in table.columns]
    if unknown and not missed:
        raise DataError(
            f"The new items have a column {unknown[0]!r} that the run does not know; it knows "
            f"{', '.join(dict.fromkeys(known)) or 'none'}: leave it out.{nearest(unknown[0], known)}"
        )


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    try:
        return column.cast(dtype)
    except pl.exceptions.PolarsError as error:
        lists = dtype.is_nested() and not column.dtype.is_nested()
        how = "give the new items as Parquet, which holds lists" if lists else "cast it"
        raise DataError(
            f"The column {column.name!r} of the new items ({column.dtype}) cannot be read as that of the run "
            f"({dtype}): {how}."
        ) from error
