"""Scores of all items that were made once, so that what is added to a few of them can be tried in many ways."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from forethought.catalogue.blocks import accumulator
from forethought.catalogue.ranking import Scorer
from forethought.catalogue.sparse_scores import SparseScores


@dataclass(frozen=True, eq=False)
class HeldScores:
    """Rows as `ranking.Scorer` wants them, whose scores are at hand; all items are in one process.

    Attributes:
        scores_BN: of all items, without what is added.
        added: to the scores of a few items of each row.
    """

    scores_BN: Tensor
    added: SparseScores | None = None
    shard = None

    @classmethod
    def of(cls, scorer: Scorer) -> HeldScores:
        """Those of a scorer to which nothing is added, number by number."""
        rows, n_items, like_BX = len(scorer.like_BX), scorer.n_items, scorer.like_BX
        room = like_BX.new_empty(rows * n_items, dtype=accumulator(like_BX.dtype))
        return cls(scorer.scores(slice(0, rows), slice(0, n_items), room))

    @property
    def like_BX(self) -> Tensor:
        return self.scores_BN[:, :1]

    @property
    def n_items(self) -> int:
        return self.scores_BN.shape[1]

    def take(self, rows: Tensor) -> HeldScores:
        added = None if self.added is None else self.added.take(rows)
        return replace(self, scores_BN=self.scores_BN[rows], added=added)

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """A copy, which costs what reading them costs."""
        held_RN = self.scores_BN[rows, items]
        scores_RN = into[: held_RN.numel()].view(held_RN.shape).copy_(held_RN)
        if self.added is not None:
            self.added.add_(scores_RN, rows, items)
        return scores_RN

    def scores_of(self, items_BM: Tensor) -> Tensor:
        """The same numbers as `scores` has for them."""
        scores_BM = self.scores_BN.gather(1, items_BM)
        return scores_BM if self.added is None else self.added.add_each_(scores_BM, items_BM)
