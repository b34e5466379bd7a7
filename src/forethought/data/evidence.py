"""Evidence: what speaks for an item beside the sequence model, read from the training part and from features of items.

Each kind of it is a table of neighbours: the last items of a history speak for the neighbours they have in it. What
co-occurrence says is learned from the training part alone; likeness of texts needs no interaction, so that it speaks
for new items too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch

from forethought.data.features import TEXT, Feature, Features, read_features
from forethought.data.linear import item_regression
from forethought.data.neighbours import Neighbours, alike, co_occurrence
from forethought.data.popularity import popular
from forethought.data.splits import Split
from forethought.data.texts import VECTORS
from forethought.errors import ConfigError, DataError, nearest
from forethought.settings import Between, Count, Settings, Share, asked_among, check_keys, without_unread
from forethought.tensor_files import checksum

CO_OCCURRENCE, REPEAT, LINEAR, POPULAR = "co_occurrence", "repeat", "ease", "popular"
KNOWN = (CO_OCCURRENCE, TEXT, REPEAT, LINEAR, POPULAR)
OF_CO_OCCURRENCE = "neighbours", "window", "directed"
OF_POPULAR = "most_popular", "weeks"
EvidenceKind = Literal["met", "like", "popular", "recent"]
LISTED = ("popular", "recent")  # kinds that are a list of items, whatever the history is
COUNTED = ("met", *LISTED)  # kinds that keep the counts they are made of
Fitting = Literal["validation", "training", "both"]


@dataclass(frozen=True, kw_only=True)
class Evidence(Settings):
    """Configuration: what speaks for items beside the model, and how its weights are found."""

    use: str = "auto"
    """Names with commas between: `co_occurrence` (items that users met near each other), `text` (items with like text
    vectors), `repeat` (an item speaks for itself), `ease` (the largest weights of EASE, which takes some minutes and
    two matrices of all pairs of items; not where weights are trained), `popular` (items that were met most of late), or
    any feature that is vectors, as `--features` names it; `auto`: co_occurrence, text if there are text vectors, repeat
    where users meet items again."""
    fit: Fitting = "validation"
    """`validation`: weights are chosen on the validation part once the model is trained; `training`: they are trained
    with it, which then learns what the evidence does not say; `both`: trained first, and then chosen."""
    gate: bool = False
    """Weights depend on what the history came to; where they are trained."""
    neighbours: Annotated[int, Between(1, 1_000)] = 20
    """Most neighbours of an item by co-occurrence; more found nothing more on Beauty."""
    likenesses: Annotated[int, Between(1, 1_000)] = 50
    """Most neighbours of an item by likeness."""
    most_popular: Annotated[int, Between(1, 10_000)] = 200
    """How many items speak for themselves by being popular."""
    weeks: Annotated[float, Between(0, 100_000, above=True)] = 4.0
    """Popular is what was met in the last so many weeks of the training part, or in all of it if it has no times."""
    window: Annotated[int, Between(1, 1_000)] = 20
    """How many places apart items co-occur."""
    directed: bool = False
    """What came later speaks for nothing earlier."""
    last: Annotated[int, Between(1, 1_000)] = 10
    """How many items of a history speak, the last ones."""
    recency: Share = 0.8
    """An item k places back counts recency^k."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate and not self.is_trained:
            raise ConfigError(
                "Evidence's gate would do nothing, because weights are chosen on the validation part alone: choose fit "
                "training or both, or leave the gate out."
            )
        names = self.asked()
        if twice := [name for at, name in enumerate(names) if name in names[:at]]:
            raise ConfigError(f"Evidence's use names {twice[0]!r} twice.")

        for kind, unread in _unread(names):
            if asked := asked_among(self, unread):
                raise ConfigError(
                    f"{' and '.join(asked)} would change nothing, because evidence is {self.use}: name {kind} too, or "
                    "leave that out."
                )

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        names = [word.strip() for word in str(values.get("use", cls.use)).split(",")]
        return without_unread(cls, values, [name for _, unread in _unread(names) for name in unread])

    @property
    def is_trained(self) -> bool:
        """Whether the weights are trained with the model."""
        return self.fit != "validation"

    def asked(self) -> list[str]:
        """The names."""
        names = [word.strip() for word in self.use.split(",")]
        if not all(names):
            raise ConfigError(
                "Evidence's use has an empty name: give names with commas between, such as co_occurrence,text."
            )
        return names


def _unread(names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What would read them, and settings that nothing reads where these kinds are asked for; auto has no popularity."""
    kinds: dict[str, tuple[str, ...]] = {CO_OCCURRENCE: OF_CO_OCCURRENCE, POPULAR: OF_POPULAR}
    unread = [(kind, of) for kind, of in kinds.items() if kind not in names]
    if "auto" in names:
        unread = [(POPULAR, kinds[POPULAR])]
    elif not set(names) - {CO_OCCURRENCE, REPEAT, POPULAR}:
        unread.append((TEXT, ("likenesses",)))
    return unread


class EvidenceShape(NamedTuple):
    """What a model must know of a kind of evidence before it has read it.

    Attributes:
        kind: "met" (co-occurrence: a training history is part of what it counts), "like", or, whatever the history is,
            "popular" in all of training or "recent", in its last weeks.
        neighbours: columns of its table; of popularity 1, which is a list.
    """

    name: str
    kind: EvidenceKind
    neighbours: int


def evidence_shape(parts: object) -> EvidenceShape:
    """A shape as a run folder has it.

    Raises:
        ConfigError: something in it is damaged.
    """
    kinds = {"name": str, "kind": EvidenceKind, "neighbours": Count}
    return EvidenceShape(
        **{key: value for key, value in check_keys(parts, kinds, "an evidence").items() if key in kinds}
    )


class EvidenceTable(NamedTuple):
    """One kind of evidence for all items.

    Attributes:
        vectors_sum: checksum of the vectors whose likeness it is; None where it is made of interactions.
    """

    shape: EvidenceShape
    table: Neighbours
    counts_N: np.ndarray
    vectors_sum: str | None = None


def read_evidence(split: Split, config: Evidence) -> tuple[EvidenceTable, ...]:
    """The tables of a split's training part, in the order in which they were asked for.

    Raises:
        ConfigError: there is no such evidence, or it is not made of vectors.
        DataError: a feature is not there, or does not fit the data.
    """
    names = config.asked()
    if names == ["auto"]:
        texts = [TEXT] if split.data.texts is not None else []
        names = [CO_OCCURRENCE, *texts, *([REPEAT] if split.data.repeats else [])]
    counts_N = split.train.item_counts(split.data.n_items)
    tables = tuple(_read(split, config, name, counts_N) for name in names)
    called = [each.shape.name for each in tables]
    if twice := [name for at, name in enumerate(called) if name in called[:at]]:
        raise ConfigError(f"Evidence's use has two kinds called {twice[0]!r}: leave one out, or rename its file.")
    return tables


def _linear(split: Split, config: Evidence) -> Neighbours:
    """The largest weights of EASE's matrix.

    Raises:
        ConfigError: they are to be trained with, and every history is among what they were fitted to.
    """
    if config.is_trained:
        raise ConfigError(
            "Evidence 'ease' is fitted to the histories that are trained on, and what one of them added cannot be "
            "taken off again: choose evidence's fit validation."
        )
    values_NN = item_regression(split.train, split.data.n_items)
    values_NK, items_NK = values_NN.topk(min(config.likenesses, len(values_NN)), dim=1)
    values_NK = values_NK.clamp_min_(0.0)
    items_NK = items_NK.masked_fill(values_NK == 0, 0)
    return Neighbours(items_NK.numpy().astype(np.int32), values_NK.numpy())


def _read(split: Split, config: Evidence, name: str, counts_N: np.ndarray) -> EvidenceTable:
    n_items = split.data.n_items
    if name == CO_OCCURRENCE:
        table = co_occurrence(
            split.train, n_items, most=config.neighbours, window=config.window, directed=config.directed
        )
        return EvidenceTable(EvidenceShape(name, "met", table.items_NK.shape[1]), table, counts_N)
    if name == REPEAT:
        itself = Neighbours(np.arange(n_items, dtype=np.int32)[:, None], np.ones((n_items, 1), np.float32))
        return EvidenceTable(EvidenceShape(name, "like", 1), itself, counts_N)
    if name == POPULAR:
        table = popular(split.train, n_items, most=config.most_popular, weeks=config.weeks)
        kind = "popular" if split.train.histories.times is None else "recent"
        return EvidenceTable(EvidenceShape(name, kind, 1), table, counts_N)
    if name == LINEAR:
        table = _linear(split, config)
        return EvidenceTable(EvidenceShape(name, "like", table.items_NK.shape[1]), table, counts_N)
    if name == "auto":
        raise ConfigError("Evidence's use says auto beside other names: say auto alone, or the names.")
    feature = _feature(split, name)
    if feature.shape.kind != "vectors" or feature.shape.width < 2:
        raise ConfigError(
            f"Evidence {name!r} is no vector of an item, so that no two are more alike than others: "
            f"choose one of {', '.join(KNOWN)}, or a feature that is vectors."
        )
    table = alike(feature.values, most=config.likenesses)
    shape = EvidenceShape(feature.shape.name, "like", table.items_NK.shape[1])
    return EvidenceTable(shape, table, counts_N, checksum({"values": torch.from_numpy(feature.values)}))


def _feature(split: Split, name: str) -> Feature:
    """The feature whose likeness is evidence.

    Raises:
        ConfigError: no feature is called so, or it is asked for as something other than vectors.
        DataError: it does not fit the data.
    """
    ((called, kind),) = Features(use=name).asked()
    columns = [column for column in split.data.item_table.columns if column not in ("item_id", "source_row")]
    if called == TEXT and TEXT not in columns and split.data.texts is None:
        raise DataError(
            f"There are no text vectors of items beside the data ({VECTORS}) whose likeness could be evidence: make "
            "them with forethought embed, or name an .npy file."
        )
    if called != TEXT and called not in columns and not called.endswith(".npy"):
        known = [*KNOWN, *columns]
        raise ConfigError(
            f"There is no evidence {name!r}: choose {', '.join(KNOWN)}, a column of vectors of the item table, or an "
            f".npy file.{nearest(name, known)}"
        )
    if kind not in (None, "vectors"):
        raise ConfigError(f"Evidence {name!r} is read as {kind}, but only vectors are more or less alike: say vectors.")
    if called.endswith(".npy") and (stem := Path(called).stem) in (CO_OCCURRENCE, REPEAT, LINEAR, POPULAR):
        raise ConfigError(f"Evidence {called!r} would be called {stem!r}, which is a kind of its own: rename the file.")
    (feature,) = read_features(split.data, Features(use=name))
    return feature
