"""A toy method: the mean of all states of a backbone names the next item."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from forethought.backbones.all import CausalBackbone
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.methods.configuration import MethodConfig, check_times
from forethought.methods.interface import DenseStates, Inputs, Losses, Method
from forethought.methods.items import ItemLoss, ItemTable
from forethought.reasoning.halting import Halting


@dataclass(frozen=True, kw_only=True)
class Averaged(MethodConfig):
    """Configuration of the toy."""

    backbone: CausalBackbone = field(default_factory=SASRec)
    """The encoder of histories."""

    def build(self, sizes: DataSizes) -> AveragedModel:
        return AveragedModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


class AveragedModel(Method):
    def __init__(self, config: Averaged, n_items: int) -> None:
        super().__init__()
        self.items = ItemTable(n_items, config.backbone.width, ItemLoss(), 0.02)
        self.backbone = config.backbone.build()
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times)

    def loss(self, batch: Batch) -> Losses:
        return self.items.next_item_loss(self._means(batch), batch)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        means_BLD, rows_B = self._means(batch), batch.lengths_B - 1
        last_BD = means_BLD.gather(1, rows_B[:, None, None].expand(-1, 1, means_BLD.shape[-1]))[:, 0]
        return DenseStates.unreasoned(self.items.states(last_BD))

    def catalogue(self):
        return self.items.catalogue()

    def _means(self, batch: Batch) -> Tensor:
        states_BLD = self.backbone.encode(self.items(batch.items_BL), batch.lengths_B, times=batch.times_BL).states_BLD
        counts_L = states_BLD.new_ones(states_BLD.shape[1]).cumsum(0)
        return states_BLD.cumsum(1) / counts_L[:, None]
