"""ItemKNN: what the items of a history were met with speaks (Sarwar et al., WWW 2001; co-occurrence by distance).

    c(j, i) = n_ji / (n_j^a n_i^b)              n_ji: how often j and i were met near each other in training, nearer
                                                ones counting more; the most valued neighbours of each j alone
    score(u, i) = sum_p recency^p c(h_p, i)     h_p the item that was met p places before the end, p < window

The table is `data/neighbours.py`, which says what n, a and b are. It holds (items x neighbours) numbers and is counted
in seconds. Candidates that no item of the history speaks for have a score of 0 and are ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from forethought.catalogue.history_sums import SparseSimilarities, latest_weights
from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.data.interactions import DataSizes
from forethought.data.neighbours import co_occurrence
from forethought.methods.closed_form import ItemToItemModel, WeightedHistory
from forethought.methods.configuration import MethodConfig
from forethought.reasoning.halting import Halting
from forethought.settings import Between, SearchChoices, SearchRange, Window


@dataclass(frozen=True, kw_only=True)
class ItemKNN(MethodConfig):
    """Configuration: co-occurrence with the last items."""

    closed_form = True

    neighbours: Annotated[int, Between(1, 10_000), SearchChoices((20, 50, 100, 200, 500))] = 100
    """Kept of each item."""
    near: Annotated[int, Between(1, 1_000), SearchChoices((1, 3, 10, 20, 50))] = 20
    """Two items of a history were met near each other if they stand at most so many places apart."""
    directed: Annotated[bool, SearchChoices((False, True))] = False
    """Only what came after an item is its neighbour."""
    recency: Annotated[float, Between(0, 1, above=True), SearchRange(0.3, 1.0)] = 0.7
    """What an item of the history counts against the one behind it; 1: all alike."""
    window: Window = 20
    """Last items of a history that speak."""

    def build(self, sizes: DataSizes) -> ItemKNNModel:
        return ItemKNNModel(self, sizes.n_items)


class ItemKNNModel(ItemToItemModel):
    items_NK: Tensor

    def __init__(self, config: ItemKNN, n_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        shape = n_items, min(config.neighbours, max(n_items - 1, 1))
        self.values_NK = nn.Parameter(torch.zeros(*shape), requires_grad=False)
        self.register_buffer("items_NK", torch.zeros(*shape, dtype=torch.int32))

    @torch.no_grad()
    def fit_closed_form(self, train: Spans) -> None:
        config, (n_items, most) = self.config, self.items_NK.shape
        found = co_occurrence(train, n_items, most=most, window=config.near, directed=config.directed)
        width = found.items_NK.shape[1]  # what no item has so many of is left at 0
        self.items_NK.zero_()[:, :width] = torch.from_numpy(found.items_NK)
        self.values_NK.zero_()[:, :width] = torch.from_numpy(found.values_NK)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> WeightedHistory:
        weights_BL = latest_weights(batch.items_BL, batch.lengths_B, self.config.recency, self.values_NK.dtype)
        return WeightedHistory.unreasoned(batch.items_BL, weights_BL)

    def similarities(self) -> SparseSimilarities:
        return SparseSimilarities(self.items_NK, self.values_NK)
