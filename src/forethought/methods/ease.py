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

import numpy as np
import torch
from torch import Tensor, nn

from forethought.catalogue.history_sums import DenseSimilarities, latest_weights
from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.memory import check_room
from forethought.methods.closed_form import ItemToItemModel, WeightedHistory
from forethought.methods.interface import MethodConfig
from forethought.reasoning.halting import Halting
from forethought.settings import Between, Window

COPIES = 3  # of B while it is written; fitting takes two
STRIPE = 2**26  # numbers of X'X that are made together
LEAVE = "take another method (itemknn needs far less), or fewer items (forethought prepare --k-core)"


@dataclass(frozen=True, kw_only=True)
class EASE(MethodConfig):
    """Configuration: one ridge regression of every item on all others."""

    closed_form = True

    regularisation: Annotated[float, Between(0, 1e9, above=True)] = 100.0
    """lambda > 0: what it takes, in users, to believe that one item leads to another."""
    recency: Annotated[float, Between(0, 1, above=True)] = 0.8
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
        """No more than two matrices are alive at any moment; the weights that were are let go."""
        self.weights_NN.data, G_NN = self.weights_NN.new_empty(0), self.weights_NN.data
        _gram(train, G_NN)
        G_NN.diagonal().add_(self.regularisation)
        L_NN, failed = torch.linalg.cholesky_ex(G_NN)
        del G_NN
        P_NN = L_NN if failed else torch.cholesky_inverse(L_NN).mT  # symmetric, and so in rows
        del L_NN
        P_NN.div_(-P_NN.diagonal().clone())
        P_NN.fill_diagonal_(0.0)
        if failed or not P_NN.sum().isfinite():
            raise ConfigError(
                f"regularisation is {self.regularisation:g}, which is too little for these items to be told apart in "
                "the precision at hand: give more."
            )
        self.weights_NN.data = P_NN.contiguous()

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> WeightedHistory:
        dtype = self.weights_NN.dtype
        weights_BL = latest_weights(batch.items_BL, batch.lengths_B, self.recency, dtype)
        return WeightedHistory.unreasoned(batch.items_BL, weights_BL)

    def similarities(self) -> DenseSimilarities:
        return DenseSimilarities(self.weights_NN)


def _gram(train: Spans, into_NN: Tensor) -> None:
    """X'X: in how many users' histories two items occur together, [N, N]; made stripe by stripe."""
    from scipy.sparse import csr_array

    N = len(into_NN)
    users = np.repeat(np.arange(len(train)), train.lengths)
    first = train.starts - np.cumsum(train.lengths) + train.lengths
    items = train.histories.items[np.arange(len(users)) + first[users]]
    users, items = np.divmod(np.unique(users * N + items), N)
    ones = np.ones(len(users), np.float64 if into_NN.dtype == torch.float64 else np.float32)
    X_UN = csr_array((ones, (users, items)), shape=(len(train), N))
    X_NU, height = X_UN.T.tocsr(), max(1, STRIPE // N)
    for start in range(0, N, height):
        stripe = (X_NU[start : start + height] @ X_UN).toarray()
        into_NN[start : start + height].copy_(torch.from_numpy(stripe))


def _n_bytes(n_items: int) -> int:
    return n_items**2 * torch.get_default_dtype().itemsize
