"""Popular: everybody is recommended what was met most often. The bar below all bars.

    score(u, i) = how often i occurs in the training part, perhaps of its last days alone

Costs N numbers. Scores are float64, so that counts are exact and equal ones are ties.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.data.interactions import DataSizes
from forethought.data.popularity import counts
from forethought.data.splits import Split
from forethought.errors import DataError
from forethought.methods.closed_form import ClosedFormModel
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import UserRepresentation
from forethought.reasoning.halting import Halting
from forethought.settings import Between


@dataclass(frozen=True, kw_only=True)
class Popular(MethodConfig):
    """Configuration: item counts."""

    closed_form = True

    days: Annotated[float, Between(0, 1_000_000, above=True)] | None = None
    """Count only the last so many days of the training part, for data with times; None: all of it."""

    def build(self, sizes: DataSizes) -> PopularModel:
        return PopularModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        if self.days is not None and split.train.histories.times is None:
            raise DataError(
                "days counts back from the last time of the training part, but this data has only an order: leave it "
                "out (on the command line --days), so that all interactions count."
            )


class PopularModel(ClosedFormModel):
    window = 1  # nothing of it is read

    def __init__(self, config: Popular, n_items: int) -> None:
        super().__init__()
        self.days = config.days
        self.counts_N = nn.Parameter(torch.zeros(n_items, dtype=torch.float64), requires_grad=False)

    def fit_closed_form(self, train: Spans) -> None:
        self.counts_N.copy_(torch.from_numpy(counts(train, len(self.counts_N), days=self.days)))

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> UserRepresentation:
        return UserRepresentation(torch.zeros_like(batch.lengths_B))

    def contributions(self, represented: UserRepresentation, items_K: Tensor) -> Tensor:
        return self.counts_N.new_zeros(len(items_K), 0)

    def scorer(self, represented: UserRepresentation, purpose: str) -> PopularityScorer:
        return PopularityScorer(self.counts_N.expand(len(represented), -1))


@dataclass(frozen=True, eq=False)
class PopularityScorer:
    """The same scores for everybody, as `ranking.Scorer` has them; `counts_BN` is one row in memory."""

    counts_BN: Tensor
    shard = None

    @property
    def like_BX(self) -> Tensor:
        return self.counts_BN

    @property
    def n_items(self) -> int:
        return self.counts_BN.shape[1]

    def take(self, rows: Tensor) -> PopularityScorer:
        return replace(self, counts_BN=self.counts_BN[:1].expand(len(rows), -1))

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        counts_Rn = self.counts_BN[rows, items]
        return into[: counts_Rn.numel()].view(counts_Rn.shape).copy_(counts_Rn)

    def scores_of(self, items_BM: Tensor) -> Tensor:
        return self.counts_BN.gather(1, items_BM)
