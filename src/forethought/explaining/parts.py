"""What an explanation is made of: items, steps, centroids, intents and places in a plane, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PointKind = Literal["step", "centroid", "item", "target"]


@dataclass(frozen=True)
class ItemRef:
    """An item's id, and its title; where the data has none, its brand and category."""

    item: Any
    title: str | None


@dataclass(frozen=True)
class Steering:
    """What the user wanted and what not.

    Attributes:
        only, never: labels of categories.
        forbidden: tokens, each a codebook and its number.
        wanted: likewise, one of each codebook that is named.
        candidates: items that are left, those of the history among them.
    """

    only: list[str]
    never: list[str]
    forbidden: list[tuple[int, int]]
    wanted: list[tuple[int, int]]
    candidates: int


@dataclass(frozen=True)
class Candidate:
    """An item as one state sees it.

    Attributes:
        score: what items are ranked by; comparable within one list.
        probability: of the softmax over the whole catalogue, at the temperature of training; None where there is no
            softmax.
    """

    item: Any
    title: str | None
    score: float
    probability: float | None


@dataclass(frozen=True)
class Contribution:
    """What an item of the history adds to a score.

    Attributes:
        score: its summand; below 0 it speaks against.
        by: the kind of evidence that says so; None where the method itself does.
        met: how often training histories hold it; of co-occurrence, and of popularity, perhaps in its last weeks alone.
        near: of co-occurrence alone, how often the item that it speaks for stands near it in training: pairs of places
            in one history, which are more than `met` where histories repeat items.
        cosine: of the two items' vectors; of likeness alone.
    """

    item: Any
    title: str | None
    score: float
    by: str | None = None
    met: int | None = None
    near: int | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class EvidenceUse:
    """A kind of evidence beside the model, as it is weighed for one history.

    Attributes:
        name: as it was asked for.
        weight: fitted or trained, in logits.
        gate: what this history makes of the weight, a factor; None where there is no gate, and where several members
            of an ensemble speak: then `weight` is the sum of theirs, gates in it.
        most: what is added to the score of the item for which most speaks; the others have their share of it.
        read: how many of the last items speak.
        window: how many places apart items are near each other; of co-occurrence alone, as is `directed`.
        directed: whether only what came later is near.
        weeks: of training that are counted, the last ones; of popularity alone, and None where all of it is.
    """

    name: str
    weight: float
    gate: float | None
    most: float
    read: int
    window: int | None
    directed: bool | None
    weeks: float | None = None


@dataclass(frozen=True)
class ItemSum:
    """A score as the sum that it is.

    Attributes:
        score: what items are ranked by: `model` and all that is `added`.
        model: what the model itself says.
        model_rank: the rank by that alone; None where the item is no candidate.
        added: by each kind of evidence, 0 where it says too little to be heard.
    """

    item: Any
    title: str | None
    score: float
    model: float
    model_rank: float | None
    added: dict[str, float]


@dataclass(frozen=True)
class Certainty:
    """How sure an answer is.

    Attributes:
        entropy_nats, entropy, on_history: as a step has them.
    """

    entropy_nats: float
    entropy: float
    on_history: float


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
class Centroid:
    """A prototype (or whatever a method thinks along) that a state is near to, and what typifies it.

    Attributes:
        number: its row among the centroids of this step, from 0.
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
    central: list[ItemRef]
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
        centroids: nearest first.
        n_centroids: how many there are at this step.
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
    centroids: list[Centroid]
    n_centroids: int


@dataclass(frozen=True)
class RankChange:
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
        weight: share of the attention that the history's last position gave it, over all layers.
        items: the best by it alone, with the other intents masked.
        category: what sets the best of them apart; None where the items have no categories or none stands out.
    """

    number: int
    weight: float
    items: list[Candidate]
    category: Category | None


@dataclass(frozen=True)
class PlanePoint:
    """A place in the plane of an explanation; `step` says where it belongs, None for items."""

    kind: PointKind
    label: str
    x: float
    y: float
    step: int | None = None


@dataclass(frozen=True)
class Plane:
    """States, centroids and items in two dimensions, by principal components of their directions.

    Attributes:
        share: of their spread that the plane shows, 0 to 1.
    """

    share: float
    points: list[PlanePoint]
