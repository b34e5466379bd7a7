"""Features of items: what is known of them beside their ids, as numbers that a model can read.

Text vectors, categories and tags, numbers, and vectors of any kind (of images, say), from columns of the item table or
from `.npy` files. What is missing is told apart from zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from forethought.data.interactions import Interactions
from forethought.data.texts import VECTORS, item_texts
from forethought.errors import ConfigError, DataError, nearest
from forethought.settings import Between, Count, Settings, Whole, check_keys

FeatureKind = Literal["vectors", "tags", "numbers"]
TEXT = "text"
AUTO = ("categories", "category", "genres", "genre", "brand", "tags")  # columns that `auto` reads, if there
_Finite = Annotated[float, Between(-1e300, 1e300)]
FARTHEST = 1e6  # standard deviations; float32 squares no more than some 1e19
MOST_TAGS = 64  # an item; more are cut, the rarest first


@dataclass(frozen=True, kw_only=True)
class Features(Settings):
    """Configuration: which features of the items a model reads."""

    use: str = "auto"
    """Names with commas between: `text` (the text vectors beside the data), columns of the item table, `.npy` files
    with a row for each of its rows; `auto`: text vectors if there are any, categories, genres, tags and brand. A column
    of words or of lists is tags, one of numbers numbers, one of lists of decimals vectors; `name:tags` says it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked()

    def asked(self) -> list[tuple[str, FeatureKind | None]]:
        """Each name with its kind, where it is said."""
        return [_asked(word) for word in self.use.split(",")]


def _asked(word: str) -> tuple[str, FeatureKind | None]:
    name, _, kind = word.strip().rpartition(":") if ":" in word else (word.strip(), "", "")
    if kind and kind not in get_args(FeatureKind):
        raise ConfigError(
            f"Features' use says {word.strip()!r}, but a kind is one of {', '.join(get_args(FeatureKind))}."
            f"{nearest(kind, get_args(FeatureKind))}"
        )
    if not name:
        raise ConfigError("Features' use has an empty name: give names with commas between, such as text,categories.")
    return name, kind or None  # type: ignore[return-value]


class FeatureShape(NamedTuple):
    """What a model must know of a feature before it has read it.

    Attributes:
        kind: "vectors" (numbers are vectors of width 1) or "tags".
        width: numbers an item, or the most tags that one has.
        tags: how many tags there are; 0 for vectors.
    """

    name: str
    kind: Literal["vectors", "tags"]
    width: int
    tags: int = 0


def feature_shape(parts: object) -> FeatureShape:
    """A shape as a run folder has it.

    Raises:
        ConfigError: something in it is damaged.
    """
    kinds = {"name": str, "kind": Literal["vectors", "tags"], "width": Count, "tags": Whole}
    return FeatureShape(**{key: value for key, value in check_keys(parts, kinds, "a feature").items() if key in kinds})


class FeatureScale(NamedTuple):
    """What a feature's values were made with, so that those of other items are made alike.

    Attributes:
        kind: what its column was read as.
        mean: of the vectors or numbers, which was taken off; of tags empty.
        std: of numbers, which they were divided by.
        labels: of the tags; others count as none.
    """

    kind: FeatureKind
    mean: tuple[float, ...] = ()
    std: float = 1.0
    labels: tuple[str, ...] = ()


def feature_scale(parts: object) -> FeatureScale:
    """A scale as a run folder has it.

    Raises:
        ConfigError: something in it is damaged or missing.
    """
    kinds = {"kind": FeatureKind, "mean": list[_Finite], "std": _Finite, "labels": list[str]}
    known = check_keys(parts, kinds, "a feature's scale")
    return FeatureScale(known["kind"], tuple(known["mean"]), known["std"], tuple(known["labels"]))


class Feature(NamedTuple):
    """One feature of all items.

    Attributes:
        shape: its name and sizes.
        values: float32 [N, F], of length about 1 and centred, or int32 [N, T], rows of tags, filled up with `tags`.
        known_N: False where an item has none; its values are then zeros, or no tags.
        scale: what the values were made with.
    """

    shape: FeatureShape
    values: np.ndarray
    known_N: np.ndarray
    scale: FeatureScale = FeatureScale("vectors")

    def to_json(self) -> dict[str, Any]:
        """What a run folder says of it: shape and scale."""
        scale = self.scale._asdict() | {"mean": list(self.scale.mean), "labels": list(self.scale.labels)}
        return {**self.shape._asdict(), "scale": scale}


def read_features(
    data: Interactions, config: Features, scales: Mapping[str, FeatureScale] | None = None
) -> tuple[Feature, ...]:
    """The features of the data's items, in order of the vocabulary.

    Args:
        scales: of features by name, which other weights were trained with; None: each is made of this data.

    Raises:
        DataError: there is no such column or file, it does not fit the data, or holds NaN or infinity.
    """
    asked = config.asked()
    if asked == [("auto", None)]:
        columns = [name for name in AUTO if name in data.item_table.columns]
        texts = [_read(data, TEXT, None, scales)] if data.texts is not None else []
        told = [_read_if_it_tells(data, name, scales) for name in columns]
        return (*texts, *(feature for feature in told if feature is not None))
    features = tuple(_read(data, name, kind, scales) for name, kind in asked)
    if twice := [name for name, n in Counter(each.shape.name for each in features).items() if n > 1]:
        raise ConfigError(f"Features' use names {twice[0]!r} twice.")
    return features


def _read_if_it_tells(data: Interactions, name: str, scales: Mapping[str, FeatureScale] | None) -> Feature | None:
    """A column that nobody named: one that no two items share anything of is left out."""
    try:
        return _read(data, name, None, scales)
    except DataError:
        return None


def _read(
    data: Interactions, name: str, kind: FeatureKind | None, scales: Mapping[str, FeatureScale] | None
) -> Feature:
    scale = None if scales is None else scales.get(Path(name).stem if name.endswith(".npy") else name)
    if name == TEXT and TEXT not in data.item_table.columns:
        if data.texts is None:
            raise DataError(
                f"There are no text vectors of items beside the data ({VECTORS}): make them with forethought embed, or "
                "name an .npy file in the place of text."
            )
        return of_vectors(name, item_texts(data).astype(np.float32), scale)
    if name.endswith(".npy"):
        return of_vectors(Path(name).stem, item_texts(data, name).astype(np.float32), scale)
    if name not in data.item_table.columns:
        known = [column for column in data.item_table.columns if column not in ("item_id", "source_row")]
        if not known:
            raise DataError(
                f"Nothing is known of the items, and so there is no column {name!r} to be a feature: name a table of "
                "them with items=... (on the command line --items FILE)."
            )
        raise DataError(
            f"The item table has no column {name!r} to be a feature; it has {', '.join(known)}.{nearest(name, known)}"
        )
    column = data.item_table[name]
    return of_column(name, column, kind or _kind_of(column.dtype), scale)


def of_column(name: str, column: pl.Series, kind: FeatureKind, scale: FeatureScale | None = None) -> Feature:
    """A feature of a column of the item table; with a scale as that says, else one of its own is made.

    Raises:
        DataError: the column cannot be read as that kind, tells nothing, or holds NaN or infinity.
    """
    try:
        if kind == "tags":
            return _tags(name, column, scale)
        return _numbers(name, column, scale) if kind == "numbers" else _listed(name, column, scale)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            f"The column {name!r} ({column.dtype}) cannot be read as {kind}: say {name}:tags, or another."
        ) from error


def _kind_of(dtype: pl.DataType) -> FeatureKind:
    inner = getattr(dtype, "inner", None)
    if inner is not None and inner.is_float():
        return "vectors"
    return "numbers" if dtype.is_numeric() or dtype.is_temporal() else "tags"


def of_vectors(name: str, values_NF: np.ndarray, scale: FeatureScale | None = None) -> Feature:
    """Centred over the items that have some, since encoders share a large mean, and of unit length each.

    A row of zeros is an item without.

    Raises:
        DataError: they are not as wide as those of the scale.
    """
    known_N: np.ndarray = np.any(values_NF != 0, axis=1)
    if scale is None:
        scale = FeatureScale("vectors", tuple(values_NF[known_N].mean(axis=0, dtype=np.float64).tolist()))
    if values_NF.shape[1] != len(scale.mean):
        raise DataError(
            f"The vectors of {name!r} have {values_NF.shape[1]} numbers, but those that the run was trained with "
            f"{len(scale.mean)}: make them as those were made."
        )
    centred_NF = values_NF - np.array(scale.mean)
    lengths_N1 = np.linalg.norm(centred_NF, axis=1, keepdims=True)
    values_NF = np.where(known_N[:, None], centred_NF / np.maximum(lengths_N1, 1e-12), 0.0).astype(np.float32)
    return Feature(FeatureShape(name, "vectors", values_NF.shape[1]), values_NF, known_N, scale)


def _numbers(name: str, column: pl.Series, scale: FeatureScale | None) -> Feature:
    """One number an item, standardised; a moment is one too."""
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        column = column.cast(pl.Datetime("us"))  # of whatever unit, the same number
    values = column.to_physical().cast(pl.Float64).fill_nan(None)  # as pandas writes what is missing
    known_N = values.is_not_null().to_numpy()
    values_N = values.fill_null(0.0).to_numpy()
    _refuse_unbounded(name, values_N)
    if scale is None:
        if not known_N.any():
            raise DataError(f"The column {name!r} has no number for any item, which tells nothing: leave it out.")
        mean, std = values_N[known_N].mean(), values_N[known_N].std()
        if std == 0:
            raise DataError(
                f"The column {name!r} has the same number for all items, which tells nothing: leave it out."
            )
        scale = FeatureScale("numbers", (float(mean),), float(std))
    values_N = np.where(known_N, (values_N - scale.mean[0]) / scale.std, 0.0)
    if len(far := np.flatnonzero(np.abs(values_N) > FARTHEST)):
        raise DataError(
            f"The column {name!r} holds {column[int(far[0])]}, more than {FARTHEST:,.0f} standard deviations from "
            f"{scale.mean[0]:g}, the mean of what it was trained with: mend it, or leave it empty."
        )
    return Feature(FeatureShape(name, "vectors", 1), values_N[:, None].astype(np.float32), known_N, scale)


def _listed(name: str, column: pl.Series, scale: FeatureScale | None) -> Feature:
    rows = [None if row is None else [float(x) for x in row] for row in column.to_list()]
    widths = {len(row) for row in rows if row is not None}
    if not widths and scale is not None:  # none of these items has one
        widths = {len(scale.mean)}
    if len(widths) != 1:
        raise DataError(f"The vectors in the column {name!r} are of several lengths or of none: make them one.")
    values_NF = np.array([[0.0] * min(widths) if row is None else row for row in rows])
    _refuse_unbounded(name, values_NF)
    if scale is None and not values_NF.any():
        raise DataError(f"No item has a vector in the column {name!r}, where all numbers are 0: leave it out.")
    return of_vectors(name, values_NF.astype(np.float32), scale)


def _refuse_unbounded(name: str, values: np.ndarray) -> None:
    if not (np.abs(values) < np.finfo(np.float32).max).all():
        raise DataError(
            f"The column {name!r} holds NaN, infinity or numbers beyond float32: mend it, or leave it empty."
        )


def _tags(name: str, column: pl.Series, scale: FeatureScale | None) -> Feature:
    """Rows of tags, most frequent first; a tag that one item alone has tells it from no other and is left out."""
    rows = [_words(value) for value in column.to_list()]
    if scale is None:
        count = Counter(chain.from_iterable(rows))
        scale = FeatureScale("tags", labels=tuple(label for label, n in count.most_common() if n > 1))
        if not scale.labels:
            raise DataError(
                f"The column {name!r} has no tag that two items share: leave it out, or, if it holds texts, make "
                "vectors of it with forethought embed."
            )
    labels = scale.labels
    row_of = {label: row for row, label in enumerate(labels)}
    kept = [sorted(row_of[word] for word in words if word in row_of)[:MOST_TAGS] for words in rows]
    width = max((len(each) for each in kept), default=0) or 1
    values_NT = np.full((len(kept), width), len(labels), dtype=np.int32)
    for row, tags in enumerate(kept):
        values_NT[row, : len(tags)] = tags
    shape = FeatureShape(name, "tags", width, len(labels))
    return Feature(shape, values_NT, np.array([bool(tags) for tags in kept]), scale)


def _words(value: Any) -> Sequence[str]:
    """The tags of one cell: its words, each once; a cell of text is one tag."""
    parts = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(str(part) for part in parts if part is not None and part != ""))
