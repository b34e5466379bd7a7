"""A bare causal backbone trained to name the next item, at every position at once.

SASRec, GRU4Rec, HSTU and BSARec with any loss over the catalogue. With full cross-entropy this is the bar that every
reasoning method is held against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from forethought.backbones.all import CausalBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.split import Shard
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig, check_times
from forethought.methods.interface import DenseStates, Inputs, Losses, Method, Stage
from forethought.methods.items import ItemLoss, ItemTable
from forethought.methods.later_targets import soft_targets
from forethought.methods.outside import References, SideInformation, SoftTargets
from forethought.reasoning.halting import Halting
from forethought.settings import Between, Scale, Share


@dataclass(frozen=True, kw_only=True)
class NextItem(MethodConfig):
    """Configuration: a causal backbone and a loss."""

    backbone: CausalBackbone = field(default_factory=SASRec)
    """The encoder of histories."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """What each position is trained on."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors."""
    rounds: Annotated[int, Between(1, 100)] = 1
    """How often to train: each further round begins with the best weights so far and the whole schedule anew. With 2
    it is what a method in two stages is held against (IGR-SR 8.5: the same checkpoint, as many epochs)."""

    teacher: str | None = None
    """A run folder, perhaps an ensemble's, of the same data and split: what it says follows each training position
    becomes a part of the target. It is asked before training begins, and needed no more but to resume."""
    teacher_weight: Share = 0.5
    """Part of the teacher in the target, 0 to 1; the item that followed has the rest."""
    teacher_items: Annotated[int, Between(1, 1_000)] = 100
    """How many of the teacher's best items the target knows; 6 bytes each for each interaction while it trains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher is not None and self.loss.kind != "ce":
            raise ConfigError(
                f"A teacher's soft targets go with the softmax over all items, not with {self.loss.kind!r}: choose the "
                "loss ce, or leave the teacher out."
            )

    def references(self) -> References:
        return References(teacher_run=self.teacher, teacher_items=self.teacher_items)

    def build(self, sizes: DataSizes) -> NextItemModel:
        return NextItemModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


class NextItemModel(Method):
    def __init__(self, config: NextItem, n_items: int) -> None:
        super().__init__()
        self.rounds, self.teacher_weight = config.rounds, config.teacher_weight
        self.trains_evidence = config.teacher is None  # soft targets do not know what is added to logits
        self.has_teacher = config.teacher is not None
        self.taught: SoftTargets | None = None  # while it trains
        self.items = ItemTable(n_items, config.backbone.width, config.loss, config.item_std)
        self.backbone = config.backbone.build()
        self.window = config.backbone.window
        soft = config.loss.kind == "ce" and config.teacher is None
        self.inputs = Inputs(times=self.backbone.needs_times, later_targets=soft)

    def stages(self) -> tuple[Stage, ...]:
        return tuple(Stage(name="train" if n == 1 else f"round-{n}") for n in range(1, self.rounds + 1))

    def split_items(self, shard: Shard, rows: slice) -> None:
        if self.has_teacher:
            raise ConfigError(
                "A teacher's soft targets need all item vectors in every process, so the catalogue cannot be split: "
                "leave split_catalogue or the teacher out."
            )
        self.items.split(shard, rows)

    def fit_side_information(self, side: SideInformation) -> None:
        super().fit_side_information(side)
        self.taught = side.taught

    def loss(self, batch: Batch) -> Losses:
        soft = soft_targets(batch) if self.taught is None else self.taught.after(batch, self.teacher_weight)
        return self.items.next_item_loss(self._states(batch), batch, evidence=self.evidence, soft=soft)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        return DenseStates.unreasoned(self.items.states(self._states(batch, last_only=True)[:, 0]))

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()

    def _states(self, batch: Batch, *, last_only: bool = False) -> Tensor:
        x_BLD = self.items(batch.items_BL)
        return self.backbone.encode(x_BLD, batch.lengths_B, times=batch.times_BL, last_only=last_only).states_BLD
