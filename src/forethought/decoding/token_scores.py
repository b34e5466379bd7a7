"""Scores of all items out of log-probabilities of tokens: a sum over the codebooks, merged over a row's paths.

    s_p(i) = w_p + sum_m L_p[m, c_im]        mixture: log sum_p exp(s_p(i))        max: max_p s_p(i)

Paths are the columns of one table with a row for each token of each book, and an item is a bag of M of its rows: what
is fetched for an item is of many paths at once and lies together, and nothing is of the size [paths, items] beyond a
block. Every item is added up book by book, path by path, by the same operations wherever it stands, so that items of
the same tokens have the same number, in `scores` as in `scores_of`, and ties are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.blocks import accumulator
from forethought.catalogue.sparse_scores import SparseScores

Merge = Literal["mixture", "max"]

FEW_COLUMNS = 2  # up to here one book after the other is faster than a bag, which fills no vector register
CPU_COLUMNS, CUDA_COLUMNS = 64, 1024  # paths whose table of 8 x 256 tokens stays in the second-level cache of a core
CPU_BLOCK, CUDA_BLOCK = 2**18, 2**26  # numbers of a block [items, paths]


@dataclass(frozen=True, eq=False)
class TokenScorer:
    """Paths over tokens as `ranking.Scorer` wants them; all items are in one process.

    Attributes:
        log_probs_BPMC: of each token of each book, on each path of a row; -inf is for what must not be.
        weights_BP: log-weights of the paths; -inf leaves one out.
        codes_NM: the tokens of the items, any integers.
        merge: what becomes of a row's paths, the mixture of their probabilities or the best of them.
        added: to the scores of a few items of each row.
        offsets_N: added to the scores of the items in every row, behind the mixture; None: nothing.
    """

    log_probs_BPMC: Tensor
    weights_BP: Tensor
    codes_NM: Tensor
    merge: Merge = "mixture"
    added: SparseScores | None = None
    offsets_N: Tensor | None = None
    shard = None

    def __post_init__(self) -> None:
        assert self.log_probs_BPMC.shape[:2] == self.weights_BP.shape, "each path has a weight"
        assert self.log_probs_BPMC.shape[2] == self.codes_NM.shape[1], "each book has log-probabilities"
        assert self.log_probs_BPMC.dtype == self.weights_BP.dtype, "log-probabilities and weights are of one type"

    @property
    def like_BX(self) -> Tensor:
        return self.weights_BP

    @property
    def n_items(self) -> int:
        return len(self.codes_NM)

    def take(self, rows: Tensor) -> TokenScorer:
        added = None if self.added is None else self.added.take(rows)
        return replace(self, log_probs_BPMC=self.log_probs_BPMC[rows], weights_BP=self.weights_BP[rows], added=added)

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """M look-ups an item and path, and an exponential where a row has several paths."""
        table_RPMC = self._weighted(rows)
        R, P, M, C = table_RPMC.shape
        n_items = items.stop - items.start
        scores_RN = into[: R * n_items].view(R, n_items)
        if R * n_items == 0:
            return scores_RN
        together = max(1, (CUDA_COLUMNS if scores_RN.is_cuda else CPU_COLUMNS) // P)  # rows
        # columns: the first path of each row of a group, the second one of each ..
        groups = [group.transpose(0, 1).reshape(-1, M * C).T.contiguous() for group in table_RPMC.split(together)]
        n_block = max(1, (CUDA_BLOCK if scores_RN.is_cuda else CPU_BLOCK) // (P * min(together, R)))
        books_M = torch.arange(M, device=scores_RN.device, dtype=torch.int32) * C
        for block_RN, codes_NM in zip(
            scores_RN.split(n_block, dim=1), self.codes_NM[items].split(n_block), strict=True
        ):
            at_NM = codes_NM.int() + books_M
            for part_RN, table_XS in zip(block_RN.split(together), groups, strict=True):
                sums_SN = _sums(table_XS, at_NM)
                part_RN.copy_(merged(sums_SN.view(P, *part_RN.shape), self.merge))
        if self.offsets_N is not None:
            scores_RN.add_(self.offsets_N[items])
        if self.added is not None:
            self.added.add_(scores_RN, rows, items)
        return scores_RN

    def scores_of(self, items_BM: Tensor) -> Tensor:
        """The same numbers as `scores` has for them."""
        B, P, M, C = self.log_probs_BPMC.shape
        table_BPX = self._weighted(slice(None)).view(B, P, M * C)
        codes_BKM = self.codes_NM[items_BM].long()
        sums_BPK = table_BPX.new_empty(B, P, codes_BKM.shape[1])
        for book in range(M):
            at_BPK = (codes_BKM[:, None, :, book] + book * C).expand(-1, P, -1)
            said_BPK = table_BPX.gather(2, at_BPK)
            sums_BPK = said_BPK if book == 0 else sums_BPK.add_(said_BPK)
        scores_BK = merged(sums_BPK.transpose(0, 1), self.merge)
        if self.offsets_N is not None:
            scores_BK.add_(self.offsets_N[items_BM])
        return scores_BK if self.added is None else self.added.add_each_(scores_BK, items_BM)

    def contributions(self, items_BK: Tensor) -> Tensor:
        """What each token of some items of each row says on each path, [B, P, K, M]; without the paths' weights."""
        B, P, M, _ = self.log_probs_BPMC.shape
        codes_BKM = self.codes_NM[items_BK].long()
        at_BPMK = codes_BKM.transpose(1, 2)[:, None].expand(B, P, M, -1)
        return self.log_probs_BPMC.gather(3, at_BPMK).transpose(2, 3)

    def _weighted(self, rows: slice) -> Tensor:
        """The log-probabilities of some rows, each path's weight added to all tokens of its first book."""
        log_probs_RPMC = self.log_probs_BPMC[rows]
        table_RPMC = log_probs_RPMC.to(accumulator(log_probs_RPMC.dtype), copy=True).contiguous()
        table_RPMC[:, :, 0] += self.weights_BP[rows, :, None]
        return table_RPMC


def _sums(table_XS: Tensor, at_NM: Tensor) -> Tensor:
    """The sum of M rows of a table for each item, [S, N], from the first book to the last."""
    if table_XS.shape[1] > FEW_COLUMNS:
        return F.embedding_bag(at_NM, table_XS, mode="sum").T.contiguous()
    table_SX, at_MN = table_XS.T.contiguous(), at_NM.T.contiguous()
    sums_SN = table_SX.index_select(1, at_MN[0])
    for at_N in at_MN[1:]:
        sums_SN.add_(table_SX.index_select(1, at_N))
    return sums_SN


def merged(sums_PX: Tensor, merge: Merge) -> Tensor:
    """The scores of paths, the first axis, become one. Overwrites them.

    One path after the other is added: the order of a reduction depends on where a number stands.
    """
    if len(sums_PX) == 1:
        return sums_PX[0]
    most_X = sums_PX.amax(0)
    if merge == "max":
        return most_X
    most_X.clamp_(min=torch.finfo(most_X.dtype).min)  # where all paths are at -inf, the mixture is too
    exp_PX = sums_PX.sub_(most_X).exp_()
    total_X = exp_PX[0]
    for exp_X in exp_PX[1:]:
        total_X.add_(exp_X)
    return total_X.log_().add_(most_X)
