"""`ItemPaths`: paths over tokens beside the items that are made of these tokens, for whoever explains a ranking.

The score of an item is ln sum_p w_p exp(s_p) over the paths of a row, s_p the sum of what its tokens add.
With r_p, the share of path p in it, the score comes apart into a summand for each token and one for the paths:

    score = sum_m sum_p r_p L_p[m, c_m]  -  KL(r | w)

and one more for items that training never met, where these are held back or lifted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.decoding.paths import Paths
from forethought.decoding.token_scores import TokenScorer


@dataclass(frozen=True, eq=False)
class ItemPaths:
    """How rows of histories came to their rankings.

    Attributes:
        paths: of no token where all tokens are named at once.
        table_BPMC: what each token adds to a score on each path, L.
        codes_NM: the tokens of the items.
        categories: names of those that a path believes in; none where it believes in none.
        sharpness: a token adds this times its log-probability.
        offsets_N: added to the scores of the items, whatever the history; None: nothing.
    """

    paths: Paths
    table_BPMC: Tensor
    codes_NM: Tensor
    categories: tuple[str, ...] = ()
    sharpness: float = 1.0
    offsets_N: Tensor | None = None

    @property
    def size(self) -> int:
        """Codes a book."""
        return self.paths.table_BPMC.shape[3]

    @property
    def idle(self) -> bool:
        """Whether tokens were decided that count for nothing: all paths of the first row say the same."""
        table_PMC = self.table_BPMC[0]
        return self.paths.books_BPT.shape[2] > 0 and len(table_PMC) > 1 and bool((table_PMC == table_PMC[:1]).all())

    def first(self) -> TokenScorer:
        """The first row."""
        return TokenScorer(self.table_BPMC[:1], self.paths.weights_BP[:1], self.codes_NM)

    def alone(self, path: int) -> TokenScorer:
        """One path of the first row."""
        table_11MC = self.table_BPMC[:1, path : path + 1]
        return TokenScorer(table_11MC, table_11MC.new_zeros(1, 1), self.codes_NM, offsets_N=self.offsets_N)

    def offsets(self, items_K: Tensor) -> Tensor:
        """Of some items, [K]."""
        if self.offsets_N is None:
            return torch.zeros(len(items_K), dtype=torch.float64, device=items_K.device)
        return self.offsets_N[items_K].double()

    def summands(self, items_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each token of some items adds to their scores in the first row, and what the paths take away.

        Returns:
            [K, M] and [K], which with the offsets sum to the scores without evidence, and r, [P, K].
        """
        scorer = self.first()
        said_PKM = scorer.contributions(items_K[None])[0].double()
        weights_P = scorer.weights_BP[0].double()
        log_PK = said_PKM.sum(-1) + weights_P[:, None]
        dead_K = (log_PK == -torch.inf).all(0)  # what must not be is on no path
        log_r_PK = torch.where(dead_K, weights_P[:, None], log_PK).log_softmax(0)
        r_PK = log_r_PK.exp()
        named_KM = torch.where(r_PK[..., None] > 0, r_PK[..., None] * said_PKM, 0.0).sum(0)
        apart_PK = torch.where(r_PK > 0, r_PK * (weights_P[:, None] - log_r_PK), 0.0)
        return named_KM, apart_PK.sum(0), r_PK
