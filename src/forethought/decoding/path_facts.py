"""What rewards of paths are made of: what was decided, what was believed, and where items end up by it.

Shapes: B histories, G paths of each, T steps, M codebooks, C codes, Q categories, N items, H items that follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from forethought.catalogue.blocks import accumulator
from forethought.decoding.rollouts import DrawnPaths
from forethought.decoding.token_scores import TokenScorer
from forethought.reasoning.policy import Future

ROWS = 64  # paths whose scores of all items are held together


@dataclass(frozen=True, eq=False)
class PathFacts:
    """Paths beside what came next.

    Attributes:
        codes_NM: the tokens of all items.
        category_N: their categories; nothing where no head names any.
        table_BGMC: what each token adds to the score of an item on each path.
        items_BL, lengths_B: the histories themselves, right-padded, where somebody has them.
    """

    paths: DrawnPaths
    future: Future
    codes_NM: Tensor
    category_N: Tensor
    table_BGMC: Tensor
    items_BL: Tensor | None = None
    lengths_B: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """B, G, T."""
        return self.paths.books_BGT.shape

    @cached_property
    def hits_BGTH(self) -> Tensor:
        """True where a token is one of those of an item that follows."""
        codes_BHM = self.codes_NM[self.future.items_BH]
        _, G, _ = self.shape
        books_BGTH = self.paths.books_BGT[..., None].expand(-1, -1, -1, codes_BHM.shape[1])
        own_BGTH = codes_BHM.transpose(1, 2)[:, None].expand(-1, G, -1, -1).gather(2, books_BGTH)
        return own_BGTH == self.paths.tokens_BGT[..., None]

    @cached_property
    def ranks_BGH(self) -> Tensor:
        """The mid-rank of each item that follows among all items, by what its path says of them."""
        return self._walked[0]

    @cached_property
    def best_BG(self) -> Tensor:
        """The item that each path thinks most of."""
        return self._walked[1]

    @cached_property
    def margins_BG(self) -> Tensor:
        """How far the next item's score lies above that of the best other one, in nats; mostly below 0."""
        return self._walked[2]

    @cached_property
    def leads_BG(self) -> Tensor:
        """How far the best item's score lies above that of the second, in nats, whatever comes next."""
        return self._walked[3]

    @cached_property
    def _walked(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All items scored once by each path; no tensor [paths, items] outlives a block."""
        B, G, _ = self.shape
        table_R1MC = self.table_BGMC.flatten(0, 1)[:, None]
        scorer = TokenScorer(table_R1MC, table_R1MC.new_zeros(len(table_R1MC), 1), self.codes_NM)
        targets_RH = self.future.items_BH.repeat_interleave(G, dim=0)
        room = table_R1MC.new_empty(ROWS * scorer.n_items, dtype=accumulator(table_R1MC.dtype))
        ranks, best, margins, leads = [], [], [], []
        for first in range(0, len(targets_RH), ROWS):
            rows = slice(first, min(first + ROWS, len(targets_RH)))
            scores_RN = scorer.scores(rows, slice(0, scorer.n_items), room)
            at_RH = targets_RH[rows]
            own_RH = scores_RN.gather(1, at_RH)
            for each in own_RH.T:
                better_R = (scores_RN > each[:, None]).sum(1)
                ranks.append(better_R + ((scores_RN == each[:, None]).sum(1) + 1) / 2)
            best.append(scores_RN.argmax(1))
            others_RN = scores_RN.scatter(1, at_RH[:, :1], -torch.inf)
            margins.append(own_RH[:, 0] - others_RN.amax(1))
            leads.append(scores_RN.amax(1) - scores_RN.scatter_(1, best[-1][:, None], -torch.inf).amax(1))
        H = targets_RH.shape[1]
        blocks = [torch.stack(ranks[n : n + H], dim=1) for n in range(0, len(ranks), H)]
        best_BG, margins_BG, leads_BG = (torch.cat(each).view(B, G) for each in (best, margins, leads))
        return torch.cat(blocks).view(B, G, H), best_BG, margins_BG, leads_BG
