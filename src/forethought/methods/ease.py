"""EASE: a linear model from the items met to all items, in closed form (Steck, WWW 2019, arXiv 1905.03375).

    min_B ||X - X B||^2 + lambda ||B||^2   with diag(B) = 0         X [U, N]: 1 where a user met an item in training
    P = (X'X + lambda I)^-1                                          (8)
    B_ij = -P_ij / P_jj for i != j, 0 on the diagonal                (8)
    score(u, j) = sum_i x_ui B_ij                                    x_u the history at hand

X knows no order. `recency` weighs the history at hand by it: x_ui = recency^p for an item that was met p places before
the end, which the paper does not have; 1 is the paper.

It holds N^2 numbers, 4 bytes each, and a training needs them twice while it computes and a third time while it writes:
1.8 GB for 12,000 items, 4.8 GB for 20,000, 30 GB for 50,000. Time grows with N^3 (as many multiplications and
additions: some minutes for 20,000 items on one core), and hardly with the users. A user costs N additions an item of
the history. The run folder holds B whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from forethought.catalogue.history_sums import DenseSimilarities, latest_weights
from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.data.interactions import DataSizes
from forethought.data.linear import LEAVE, REGULARISATION, item_regression
from forethought.data.splits import Split
from forethought.memory import check_room
from forethought.methods.closed_form import ItemToItemModel, WeightedHistory
from forethought.methods.configuration import MethodConfig
from forethought.reasoning.halting import Halting
from forethought.settings import Between, SearchRange, Window

COPIES = 3  # of B while it is written; fitting takes two


@dataclass(frozen=True, kw_only=True)
class EASE(MethodConfig):
    """Configuration: one ridge regression of every item on all others."""

    closed_form = True

    regularisation: Annotated[float, Between(0, 1e9, above=True), SearchRange(1.0, 10_000.0, log=True)] = REGULARISATION
    """lambda > 0: what it takes, in users, to believe that one item leads to another."""
    recency: Annotated[float, Between(0, 1, above=True), SearchRange(0.4, 1.0)] = 0.8
    """What an item of the history counts against the one behind it; 1: all alike."""
    window: Window = 1000
    """Longest history that is read; older items are cut. Training reads whole histories."""

    def build(self, sizes: DataSizes) -> EASEModel:
        check_room(_n_bytes(sizes.n_items), f"EASE of {sizes.n_items:,} items", LEAVE)
        return EASEModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        n_items = split.data.n_items
        check_room(COPIES * _n_bytes(n_items), f"Fitting EASE to {n_items:,} items", LEAVE)


class EASEModel(ItemToItemModel):
    def __init__(self, config: EASE, n_items: int) -> None:
        super().__init__()
        self.regularisation, self.recency, self.window = config.regularisation, config.recency, config.window
        self.weights_NN = nn.Parameter(torch.zeros(n_items, n_items), requires_grad=False)

    @torch.no_grad()
    def fit_closed_form(self, train: Spans) -> None:
        """What was there before is let go first, so that no more than two matrices are alive at any moment."""
        n_items, kind = len(self.weights_NN), self.weights_NN
        self.weights_NN.data = kind.new_empty(0)
        self.weights_NN.data = item_regression(train, n_items, self.regularisation, kind.dtype, kind.device)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> WeightedHistory:
        dtype = self.weights_NN.dtype
        weights_BL = latest_weights(batch.items_BL, batch.lengths_B, self.recency, dtype)
        return WeightedHistory.unreasoned(batch.items_BL, weights_BL)

    def similarities(self) -> DenseSimilarities:
        return DenseSimilarities(self.weights_NN)


def _n_bytes(n_items: int) -> int:
    return n_items**2 * torch.get_default_dtype().itemsize
