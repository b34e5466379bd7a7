"""Evidence: what speaks for an item beside the sequence model, read from the training part and from features of items.

Each kind of it is a table of neighbours: the last items of a history speak for the neighbours they have in it. What
co-occurrence says is learned from the training part alone; likeness of texts needs no interaction, so that it speaks
for new items too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np

from forethought.data.features import TEXT, Features, read_features
from forethought.data.neighbours import Neighbours, alike, co_occurrence
from forethought.data.splits import Split
from forethought.errors import ConfigError, nearest
from forethought.settings import Between, Count, Settings, Share, ShareBelowOne, check_keys

CO_OCCURRENCE, REPEAT = "co_occurrence", "repeat"
Fitting = Literal["validation", "training"]


@dataclass(frozen=True, kw_only=True)
class Evidence(Settings):
    """Configuration: what speaks for items beside the model, and how its weights are found."""

    use: str = "auto"
    """Names with commas between: `co_occurrence` (items that users met near each other), `text` (items with like text
    vectors), `repeat` (an item speaks for itself), or any feature that is vectors, as `--features` names it; `auto`:
    co_occurrence, text if there are text vectors, repeat where users meet items again."""
    fit: Fitting = "validation"
    """`validation`: weights are chosen on the validation part once the model is trained; `training`: they are trained
    with it, which then learns what the evidence does not say."""
    dropout: ShareBelowOne = 0.0
    """Chance of a position to be trained without the evidence, so that the model learns to do without; with `training`
    alone."""
    gate: bool = False
    """Weights depend on what the history came to; with `training` alone."""
    neighbours: Annotated[int, Between(1, 1_000)] = 20
    """Most neighbours of an item by co-occurrence; more found nothing more on Beauty."""
    likenesses: Annotated[int, Between(1, 1_000)] = 50
    """Most neighbours of an item by likeness."""
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
        if (self.gate or self.dropout) and self.fit != "training":
            name = "gate" if self.gate else "dropout"
            raise ConfigError(
                f"Evidence's {name} would do nothing, because weights are chosen on the validation part: choose fit "
                f"training, or leave the {name} out."
            )
        names = self.asked()
        if twice := [name for at, name in enumerate(names) if name in names[:at]]:
            raise ConfigError(f"Evidence's use names {twice[0]!r} twice.")

    def asked(self) -> list[str]:
        """The names."""
        names = [word.strip() for word in self.use.split(",")]
        if not all(names):
            raise ConfigError(
                "Evidence's use has an empty name: give names with commas between, such as co_occurrence,text."
            )
        return names


class EvidenceShape(NamedTuple):
    """What a model must know of a kind of evidence before it has read it.

    Attributes:
        kind: "met" (co-occurrence: a training history is part of what it counts) or "like".
        neighbours: columns of its table.
    """

    name: str
    kind: Literal["met", "like"]
    neighbours: int


def evidence_shape(parts: object) -> EvidenceShape:
    """A shape as a run folder has it.

    Raises:
        ConfigError: something in it is damaged.
    """
    kinds = {"name": str, "kind": Literal["met", "like"], "neighbours": Count}
    return EvidenceShape(
        **{key: value for key, value in check_keys(parts, kinds, "an evidence").items() if key in kinds}
    )


class EvidenceTable(NamedTuple):
    """One kind of evidence for all items."""

    shape: EvidenceShape
    table: Neighbours
    counts_N: np.ndarray


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
    return tuple(_read(split, config, name, counts_N) for name in names)


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
    if name == "auto":
        raise ConfigError("Evidence's use says auto beside other names: say auto alone, or the names.")
    (feature,) = read_features(split.data, Features(use=name))
    if feature.shape.kind != "vectors" or feature.shape.width < 2:
        known = (CO_OCCURRENCE, TEXT, REPEAT)
        raise ConfigError(
            f"Evidence {name!r} is no vector of an item, so that no two are more alike than others: "
            f"choose one of {', '.join(known)}, or a feature that is vectors.{nearest(name, known)}"
        )
    table = alike(feature.values, most=config.likenesses)
    return EvidenceTable(EvidenceShape(feature.shape.name, "like", table.items_NK.shape[1]), table, counts_N)
