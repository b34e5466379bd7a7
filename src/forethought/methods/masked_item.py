"""BERT4Rec's training: hide some items of a row, name them from both sides (Sun et al., CIKM 2019, arXiv 1904.06690).

To recommend, a [MASK] is put behind the history and the state at it is held against the items.

Deviation: a row's hidden items share a weight that depends on the row's length alone and is, in expectation, the
number of its next-item positions, what `Batch.weight` counts. So the loss is a mean over the global batch that
no process needs to count, and a history weighs what it weighs in next-item training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.backbones.all import BidirectionalBackbone
from forethought.backbones.bert4rec import BERT4Rec
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.split import Shard
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.methods.configuration import MethodConfig, check_mask
from forethought.methods.interface import DenseStates, Inputs, Losses, Method
from forethought.methods.items import ItemLoss, ItemTable
from forethought.nn.transformer import initialise
from forethought.reasoning.halting import Halting
from forethought.reasoning.mask_sampler import MaskSampler
from forethought.settings import Scale, SearchRange, Share


@dataclass(frozen=True, kw_only=True)
class MaskedItem(MethodConfig):
    """Configuration: a backbone that looks both ways, and how much is hidden from it."""

    backbone: BidirectionalBackbone = field(default_factory=BERT4Rec)
    """The encoder of rows; its window counts the [MASK] behind a history."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """What each hidden item is trained on; `bias=True` adds one an item, b^O of eq. 7."""
    mask_share: Annotated[Share, SearchRange(0.1, 0.6)] = 0.4
    """Share of a row's items that is hidden, rho, 0 to 1 and at least one item (the paper: 0.2 to 0.6, by data set)."""
    last_item_share: Annotated[Share, SearchRange(0.0, 0.5)] = 0.2
    """Share of rows, 0 to 1, in which the last item alone is hidden, as it is when one recommends."""
    projection: bool = False
    """Pass the states through a layer of their own, GELU(W^P h + b^P) of eq. 7, before the items (the paper: yes)."""
    item_std: Scale = 0.02
    """Spread of the initial vectors of items and [MASK]."""

    def build(self, sizes: DataSizes) -> MaskedItemModel:
        return MaskedItemModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_mask(self.backbone)


class MaskedItemModel(Method):
    inputs = Inputs(masked_items=True)

    def __init__(self, config: MaskedItem, n_items: int, *, mask_last: bool = False) -> None:
        super().__init__()
        width = config.backbone.width
        self.mask_sampler = MaskSampler(config.mask_share, config.last_item_share)
        self.items = ItemTable(n_items, width, config.loss, config.item_std)
        # As an encoder of another method it draws [MASK] last: a seed keeps coming to the same weights there.
        first = config.backbone.build() if mask_last else None
        self.mask = nn.Parameter(torch.randn(width) * config.item_std)
        self.backbone = config.backbone.build() if first is None else first
        self.projection = nn.Sequential(nn.Linear(width, width), nn.GELU()) if config.projection else nn.Identity()
        initialise(self.projection)
        self.window = config.backbone.window - 1

    def split_items(self, shard: Shard, rows: slice) -> None:
        self.items.split(shard, rows)

    def loss(self, batch: Batch) -> Losses:
        assert batch.targets_BL is not None
        items_BN, lengths_B = torch.cat([batch.items_BL[:, :1], batch.targets_BL], dim=1), batch.lengths_B + 1
        masked_BN = self._draw_mask(lengths_B, items_BN.shape[1])
        states_PD = self.projection(self._states(items_BN, masked_BN, lengths_B)[masked_BN])
        weights_B = batch.lengths_B / self.mask_sampler.expected(lengths_B) / batch.weight
        weights_P = weights_B[:, None].expand_as(masked_BN)[masked_BN].to(self.mask.dtype)
        total = self.items.loss_of(states_PD, items_BN[masked_BN], weights_P)
        return Losses(total, {"loss": total.detach()})

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        items_BN = F.pad(batch.items_BL, (0, 1))  # the slot for [MASK]; what stands in it is never read
        masked_BN = torch.arange(items_BN.shape[1], device=items_BN.device) == batch.lengths_B[:, None]
        states_BD = self.projection(self._states(items_BN, masked_BN, batch.lengths_B + 1, last_only=True)[:, 0])
        return DenseStates.unreasoned(self.items.states(states_BD))

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()

    def _states(self, items_BN: Tensor, masked_BN: Tensor, lengths_B: Tensor, *, last_only: bool = False) -> Tensor:
        x_BND = torch.where(masked_BN[..., None], self.mask, self.items(items_BN))
        return self.backbone.encode(x_BND, lengths_B, last_only=last_only).states_BLD

    def _draw_mask(self, lengths_B: Tensor, slots: int) -> Tensor:
        return self.mask_sampler.draw(lengths_B, slots)
