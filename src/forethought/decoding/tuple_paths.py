"""`TuplePaths`: a search along ordered tokens beside the items it leads to, for whoever explains a ranking.

The score of an item inside the beam is ln p(c_1) + ln p(c_2 | c_1) + .. of its own tuple, so that each tuple is a path
of its own, which one item (or those that share all tokens) has its whole score from. An item outside has an estimate
(`prefix_scores.py`), and what that differs from the sum is told apart from its tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from forethought.decoding.item_paths import ItemPaths
from forethought.decoding.paths import Paths
from forethought.decoding.prefix_scores import PrefixScorer
from forethought.decoding.token_scores import TokenScorer

Rows = Callable[[Tensor], Tensor]
"""Some tuples [K, M] -> ln p of every code of each book behind the history and the codes before it, [K, M, C]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TuplePaths(ItemPaths):
    """How the first row of histories came to its ranking.

    Attributes:
        searched: the scores that the search came to, without offsets.
        rows: what the model says along a tuple.
    """

    searched: PrefixScorer = field(repr=False)
    rows: Rows = field(repr=False)

    @classmethod
    def of(
        cls, searched: PrefixScorer, rows: Rows, codes_NM: Tensor, items_K: Tensor, offsets_N: Tensor | None = None
    ) -> TuplePaths:
        """The tuples of some items as paths, the most probable first."""
        codes_PM = torch.unique(codes_NM[items_K], dim=0)
        table_PMC = rows(codes_PM)
        log_probs_P = _along(table_PMC, codes_PM).sum(1)
        order_P = log_probs_P.argsort(descending=True, stable=True)
        codes_1PM, table_1PMC = codes_PM[order_P][None], table_PMC[order_P][None]
        paths = Paths(
            books_BPT=torch.arange(codes_1PM.shape[2], device=codes_NM.device).expand_as(codes_1PM),
            tokens_BPT=codes_1PM,
            log_probs_BP=log_probs_P[order_P][None],
            table_BPMC=table_1PMC,
            confidence_BPT=table_1PMC.amax(-1).exp(),
            categories_BTPG=None,
            jensen_shannon_BPT=torch.full_like(table_1PMC[..., 0], torch.nan),
            pruned=None,
        )
        return cls(paths, table_1PMC, codes_NM, offsets_N=offsets_N, searched=searched, rows=rows)

    @property
    def idle(self) -> bool:
        """Never: each item has its score along its own tuple."""
        return False

    def alone(self, path: int) -> TokenScorer:
        """The items of one tuple, and no others."""
        codes_1M = self.paths.tokens_BPT[:1, path]
        table_1MC = torch.full_like(self.table_BPMC[:1, path], -torch.inf).scatter(2, codes_1M[..., None], 0.0)
        return TokenScorer(table_1MC[:, None], table_1MC.new_zeros(1, 1), self.codes_NM, offsets_N=self.offsets_N)

    def summands(self, items_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln p of each token of some items along their own tuples, what the search takes away, and whose path it is.

        Returns:
            [K, M] and [K], which with the offsets sum to the scores without evidence, and [P, K], 1 where a path is the
            item's own.
        """
        codes_KM = self.codes_NM[items_K]
        said_KM = _along(self.rows(codes_KM), codes_KM).double()
        scores_K = self.searched.take(torch.zeros(1, dtype=torch.int64, device=items_K.device)).scores_of(items_K[None])
        own_PK = (self.paths.tokens_BPT[0][:, None] == codes_KM).all(-1)
        return said_KM, scores_K[0].double() - said_KM.sum(1), own_PK.double()


def _along(table_PMC: Tensor, codes_PM: Tensor) -> Tensor:
    """ln p of the tuples' own codes, [P, M]."""
    return table_PMC.gather(2, codes_PM[..., None])[..., 0]
