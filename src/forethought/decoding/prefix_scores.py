"""Scores of all items out of a beam search over ordered tokens: exact inside the beam, estimated outside of it.

    inside     ln p(c_1) + ln p(c_2 | c_1) + .. of the tuples that are among the best W of the last level
    outside    ln p(prefix) - ln(tuples that begin with it), of the longest prefix of the item that was scored

At each level the W best prefixes that lead to an item are followed, and whatever follows those is scored. An item
outside has what is known of it, its longest scored prefix, shared evenly by the tuples below; the scores of all items
outside are lowered together, so far that the best of them stands below the last one inside. So each user has all N
items in an order that ends in estimates, the first W tuples are those of the beam, and items of the same tuple tie.
Where W reaches all tuples, every score is exact.

Shapes: B rows, P prefixes that are followed, W continuations of one, C codes a book, M books, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from forethought.catalogue.sparse_scores import SparseScores
from forethought.decoding.decoder import TokenDecoder
from forethought.decoding.prefix_table import PrefixTable

GAP = 0.01  # nats between the last item inside and the best outside, far above rounding


@dataclass(frozen=True, eq=False)
class ScoredLevel:
    """The continuations of the prefixes that were followed, by one book.

    Attributes:
        scores_BPW: of the items that go no deeper; -inf where there is no continuation.
        followed_BPW: the number of a continuation among the prefixes that are followed next, int32; -1 where it is not.
    """

    scores_BPW: Tensor
    followed_BPW: Tensor

    def take(self, rows: Tensor) -> ScoredLevel:
        return ScoredLevel(self.scores_BPW[rows], self.followed_BPW[rows])


@dataclass(frozen=True, eq=False)
class PrefixScorer:
    """Rows that have searched ordered tokens, as `ranking.Scorer` wants them; all items are in one process.

    Attributes:
        levels: one a book.
        places_MN: which continuation an item is at each level (`PrefixTable.places`); -1: its score is -inf.
        added: to the scores of a few items of each row.
        offsets_N: added to the scores of the items in every row, inside the beam and outside; None: nothing.
    """

    levels: tuple[ScoredLevel, ...]
    places_MN: Tensor
    added: SparseScores | None = None
    offsets_N: Tensor | None = None
    shard = None

    @property
    def like_BX(self) -> Tensor:
        return self.levels[0].scores_BPW[:, 0]

    @property
    def n_items(self) -> int:
        return self.places_MN.shape[1]

    def take(self, rows: Tensor) -> PrefixScorer:
        added = None if self.added is None else self.added.take(rows)
        return replace(self, levels=tuple(level.take(rows) for level in self.levels), added=added)

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """A look-up an item, and one more for each book that the search followed it by."""
        levels = [ScoredLevel(level.scores_BPW[rows], level.followed_BPW[rows]) for level in self.levels]
        places_MN = self.places_MN[:, items]
        n_rows = len(levels[0].scores_BPW)
        scores_RN = _looked_up(levels, places_MN[:, None].expand(-1, n_rows, -1))
        if self.offsets_N is not None:
            scores_RN.add_(self.offsets_N[items])
        if self.added is not None:
            self.added.add_(scores_RN, rows, items)
        return scores_RN

    def scores_of(self, items_BM: Tensor) -> Tensor:
        """The same numbers as `scores` has for them."""
        scores_BM = _looked_up(self.levels, self.places_MN[:, items_BM])
        if self.offsets_N is not None:
            scores_BM.add_(self.offsets_N[items_BM])
        return scores_BM if self.added is None else self.added.add_each_(scores_BM, items_BM)


def _looked_up(levels: Sequence[ScoredLevel], places_MBN: Tensor) -> Tensor:
    """The score of each item, by the deepest level that it was followed to, [B, N]."""
    first_BN = places_MBN[0].clamp(min=0)
    scores_BN = levels[0].scores_BPW[:, 0].gather(1, first_BN)
    followed_BN = levels[0].followed_BPW[:, 0].gather(1, first_BN)
    row_T, column_T = (followed_BN >= 0).nonzero(as_tuple=True)  # pairs that go deeper: fewer with each level
    prefix_T = followed_BN[row_T, column_T]
    for level, places_BN in zip(levels[1:], places_MBN[1:], strict=True):
        at = row_T, prefix_T, places_BN[row_T, column_T].clamp(min=0)
        scores_BN[row_T, column_T] = level.scores_BPW[at]
        prefix_T = level.followed_BPW[at]
        deeper_T = prefix_T >= 0
        row_T, column_T, prefix_T = row_T[deeper_T], column_T[deeper_T], prefix_T[deeper_T]
    return scores_BN.masked_fill_(places_MBN[0] < 0, -torch.inf)


@torch.no_grad()
def search_prefixes(
    decoder: TokenDecoder, rows: int, table: PrefixTable, places_MN: Tensor, beams: int
) -> PrefixScorer:
    """The scores of all items of the table, after a search that follows the best prefixes of each level.

    Args:
        decoder: may give the log-probabilities of the next book alone, [B, P, 1, C].
        places_MN: of the table's items (`PrefixTable.places`).
        beams: prefixes that are followed at each level (W).
    """
    state = decoder.begin(rows)
    log_probs_BPMC = decoder.log_probs(state)
    paths_BP = log_probs_BPMC.new_zeros(rows, 1)
    prefixes_BP = torch.zeros(rows, 1, dtype=torch.int64, device=paths_BP.device)
    levels: list[ScoredLevel] = []
    for step in range(table.codebooks):
        at_BPW, tokens_BPW, real_BPW = table.ranges(prefixes_BP, step)
        rows_BPC = log_probs_BPMC[:, :, step if log_probs_BPMC.shape[2] > 1 else 0]
        said_BPW = (paths_BP[..., None] + rows_BPC.gather(2, tokens_BPW)).masked_fill_(~real_BPW, -torch.inf)
        best_BQ, at_BQ = said_BPW.flatten(1).topk(min(beams, said_BPW.shape[1] * said_BPW.shape[2]), dim=1)
        number_BQ = torch.arange(best_BQ.shape[1], device=at_BQ.device, dtype=torch.int32).expand_as(at_BQ)
        number_BQ = number_BQ.masked_fill(best_BQ == -torch.inf, -1)
        followed_BX = torch.full_like(said_BPW.flatten(1), -1, dtype=torch.int32).scatter_(1, at_BQ, number_BQ)
        followed_BPW = followed_BX.view_as(said_BPW)
        shared_X = table.tuples_of(step + 1).to(said_BPW.dtype).log()
        scores_BPW = torch.where(followed_BPW < 0, said_BPW - shared_X[at_BPW], said_BPW)
        levels.append(ScoredLevel(scores_BPW, followed_BPW))
        if step + 1 < table.codebooks:
            parents_BQ = at_BQ // said_BPW.shape[2]
            longer_BQ, chosen_BQ = (each.flatten(1).gather(1, at_BQ) for each in (at_BPW, tokens_BPW))
            prefixes_BP, paths_BP = longer_BQ.masked_fill(number_BQ < 0, -1), best_BQ
            state = decoder.advance(state.select(parents_BQ), torch.full_like(chosen_BQ, step), chosen_BQ)
            log_probs_BPMC = decoder.log_probs(state)
    return PrefixScorer(_outside_below(levels), places_MN)


def _outside_below(levels: Sequence[ScoredLevel]) -> tuple[ScoredLevel, ...]:
    """What was not followed, lowered so far that the best of it stands below the last tuple inside."""
    last = levels[-1]
    lowest_B = last.scores_BPW.masked_fill(last.followed_BPW < 0, torch.inf).flatten(1).amin(1)
    outside = [level.scores_BPW.masked_fill(level.followed_BPW >= 0, -torch.inf).flatten(1).amax(1) for level in levels]
    above_B = (torch.stack(outside).amax(0) + GAP - lowest_B).clamp(min=0)
    lowered = []
    for level in levels:
        below_BPW = torch.where(level.followed_BPW < 0, above_B[:, None, None], 0.0)
        lowered.append(replace(level, scores_BPW=level.scores_BPW - below_BPW))
    return tuple(lowered)


def joined(parts: Sequence[PrefixScorer]) -> PrefixScorer:
    """The rows of several searches along the same table, one after the other."""
    levels = tuple(
        ScoredLevel(torch.cat([each.scores_BPW for each in same]), torch.cat([each.followed_BPW for each in same]))
        for same in zip(*(part.levels for part in parts), strict=True)
    )
    return replace(parts[0], levels=levels)
