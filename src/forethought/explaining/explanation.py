"""What an explanation holds: step by step, what a model would have recommended and what it was near to.

Plain values, with the user's own ids; `to_json` has all of it (docs/explain.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from forethought.thinking.halting import Halting

PointKind = Literal["step", "landmark", "item", "target"]


@dataclass(frozen=True)
class Named:
    """An item's id, and its title where the data has one."""

    item: Any
    title: str | None


@dataclass(frozen=True)
class Candidate:
    """An item as one state sees it.

    Attributes:
        score: what items are ranked by; comparable within one list.
        probability: of the softmax over the whole catalogue, at the temperature of training.
    """

    item: Any
    title: str | None
    score: float
    probability: float


@dataclass(frozen=True)
class Category:
    """What sets a cluster apart: a label far commoner among its items than in the catalogue.

    Attributes:
        label: the category.
        path: the labels that always stand before it, then itself; a list of one where there is no such order.
        share: of the cluster's items that carry it.
        overall: share of all items that do.
    """

    label: str
    path: list[str]
    share: float
    overall: float


@dataclass(frozen=True)
class Landmark:
    """A prototype (or whatever a method thinks along) that a state is near to, and what typifies it.

    Attributes:
        number: its row among the landmarks of this step, from 0.
        similarity: cosine of the angle between it and the state.
        probability: share of the step's prediction that lies on its items.
        size: how many items it stands for.
        central: those nearest to it, nearest first.
        category: None where the items have no categories or none stands out.
    """

    number: int
    similarity: float
    probability: float
    size: int
    central: list[Named]
    category: Category | None


@dataclass(frozen=True)
class Step:
    """One step of a chain; 0 is the history as it was read.

    Attributes:
        step: its number.
        taken: False for what the model would have thought had it gone on.
        stopped: whether it stopped here.
        items: the k best, best first; none where the state is zero, which likes all items alike.
        entropy_nats: of the softmax over the catalogue.
        entropy: the same as a share of ln N: 0 is certain, 1 knows nothing.
        on_history: share of the prediction that lies on the history's own items, candidates or not.
        consistency: KL(distribution of the step before || this one), in nats; None at step 0.
        change: length of the way that the state went since the step before; None at step 0.
        halt: halting probability; None where no halting net spoke.
        read: the indicators as the halting rule read them, scaled, perhaps from prototypes; None where it read none.
        landmarks: nearest first.
        n_landmarks: how many there are at this step.
    """

    step: int
    taken: bool
    stopped: bool
    items: list[Candidate]
    entropy_nats: float
    entropy: float
    on_history: float
    consistency: float | None
    change: float | None
    halt: float | None
    read: dict[str, float | None] | None
    landmarks: list[Landmark]
    n_landmarks: int


@dataclass(frozen=True)
class Movement:
    """How an item's rank moved; 1 is best, ties count half, None where the item is no candidate.

    Attributes:
        ranks: at each step.
        rank: in the answer.
    """

    item: Any
    title: str | None
    ranks: list[float | None]
    rank: float | None


@dataclass(frozen=True)
class Intent:
    """An intent of the history, and what the model would have recommended by it alone.

    Attributes:
        number: its slot, from 0.
        leaning: share of the attention that the history's last position gave it, over all layers.
        items: the best by it alone, with the other intents masked.
        category: what sets the best of them apart; None where the items have no categories or none stands out.
    """

    number: int
    leaning: float
    items: list[Candidate]
    category: Category | None


@dataclass(frozen=True)
class Point:
    """A place in the plane of an explanation; `step` says where it belongs, None for items."""

    kind: PointKind
    label: str
    x: float
    y: float
    step: int | None = None


@dataclass(frozen=True)
class Plane:
    """States, landmarks and items in two dimensions, by principal components of their directions.

    Attributes:
        share: of their spread that the plane shows, 0 to 1.
    """

    share: float
    points: list[Point]


@dataclass(frozen=True)
class Explanation:
    """How a model came from a history to its answer.

    Attributes:
        history: what was given, oldest first, unknown ids left out.
        dropped: ids that the model does not know.
        read: how many of the last items the model reads at once; earlier ones it has not seen.
        history_excluded: whether the history's items are no candidates.
        halting: the rule that was obeyed; None where the model does not reason.
        landmark: what a landmark is called, such as prototype; None where the method has none.
        answer: the k best items, as `recommend` gives them.
        answer_step: whose state the answer is; None where it blends several.
        steps: 0 to T, those after the exit too.
        movements: the best items of any step, best in the answer first; the target among them.
        target: the item that was asked about.
        plane: where all of it lies.
        intents: by slot, for methods that have intents.
    """

    history: list[Named]
    dropped: list[Any]
    read: int
    history_excluded: bool
    halting: Halting | None
    landmark: str | None
    answer: list[Candidate]
    answer_step: int | None
    steps: list[Step]
    movements: list[Movement]
    target: Named | None
    plane: Plane
    intents: list[Intent] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it: null for what is not a number, text for UUIDs."""
        return _plain(self)

    def __str__(self) -> str:
        from forethought.reports.explanation import as_text

        return as_text(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
