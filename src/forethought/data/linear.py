"""A linear model from items met to all items in closed form: the matrix of EASE (Steck, WWW 2019, arXiv 1905.03375).

min_B ||X - X B||^2 + lambda ||B||^2   with diag(B) = 0         X [U, N]: 1 where a user met an item in training
P = (X'X + lambda I)^-1                                          (8)
B_ij = -P_ij / P_jj for i != j, 0 on the diagonal                (8)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from forethought.data.histories import Spans
from forethought.errors import ConfigError
from forethought.memory import check_room

COPIES = 2  # of B while it is computed
REGULARISATION = 100.0  # lambda; docs/methods.md says how it was found
STRIPE = 2**26  # numbers of X'X that are made together
LEAVE = "take another method (itemknn needs far less), or fewer items (forethought prepare --k-core)"


@torch.no_grad()
def item_regression(
    train: Spans,
    n_items: int,
    regularisation: float = REGULARISATION,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Tensor:
    """B, [N, N]. Time grows with N^3, and hardly with the users; no more than two matrices are alive at any moment.

    Raises:
        ConfigError: the regularisation is too small for the precision at hand.
        ShortOfMemoryError: there is no room for the matrices.
    """
    check_room(COPIES * n_items**2 * dtype.itemsize, f"EASE of {n_items:,} items", LEAVE)
    G_NN = torch.empty(n_items, n_items, dtype=dtype, device=device)
    _gram(train, G_NN)
    G_NN.diagonal().add_(regularisation)
    L_NN, failed = torch.linalg.cholesky_ex(G_NN)
    del G_NN
    P_NN = L_NN if failed else torch.cholesky_inverse(L_NN).mT  # symmetric, and so in rows
    del L_NN
    P_NN.div_(-P_NN.diagonal().clone())
    P_NN.fill_diagonal_(0.0)
    if failed or not P_NN.sum().isfinite():
        raise ConfigError(
            f"regularisation is {regularisation:g}, which is too little for these items to be told apart in "
            "the precision at hand: give more."
        )
    return P_NN.contiguous()


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
