"""Feedback of people on what paths decide, as a reward of the next rollouts.

    r_t = s(f, book_t:token_t) + s(f, category believed in most after t)        r_T += s(f, path)        s in {1, 0, -1}

Somebody looked at what a run said of a history f, and accepted a path, a token or a category, or rejected it. A rollout
of that same history earns 1 for what was accepted and loses 1 for what was rejected. It earns nothing else: what comes
next is not known of a history that ends now. A path is had by a rollout that decided all of its tokens, in any order.

Shapes: F histories with feedback, J judged paths, B cases, G rollouts of each, T choices, M codebooks, Q categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from forethought.data.batches import Batch, history_batch
from forethought.data.histories import Spans
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import DrawnPaths

NOBODY = -1  # judged a case


class Signs(NamedTuple):
    """What was judged of each history, 1 or -1, by keys that ascend."""

    keys_K: Tensor
    signs_K: Tensor

    @classmethod
    def of(cls, judged: dict[int, int]) -> Signs:
        keys = sorted(judged)
        return cls(torch.tensor(keys, dtype=torch.int64), torch.tensor([judged[key] for key in keys]))

    def look_up(self, asked: Tensor) -> Tensor:
        """0 where nothing was said."""
        if not len(self.keys_K):
            return torch.zeros_like(asked)
        keys_K, signs_K = self.keys_K.to(asked.device), self.signs_K.to(asked.device)
        at = torch.searchsorted(keys_K, asked).clamp_max(len(keys_K) - 1)
        return torch.where(keys_K[at] == asked, signs_K[at], 0)


class JudgedPaths(NamedTuple):
    """Whole paths.

    Attributes:
        owners_J: the history that each was judged for.
        codes_JM: its tokens; -1 where it decides nothing.
        signs_J: 1 accepted, -1 rejected.
    """

    owners_J: Tensor
    codes_JM: Tensor
    signs_J: Tensor


@dataclass(frozen=True, eq=False)
class Feedback:
    """All that was said.

    Attributes:
        rows: the histories, to their ends.
        window: of the method.
        tokens: by (history * codebooks + book) * codes a book + token.
        categories: by history * categories + category.
        checksum: of all of it, by which a resumed run knows it again.
    """

    rows: Spans
    window: int
    tokens: Signs
    categories: Signs
    paths: JudgedPaths
    checksum: str

    def mixed_in(self, case: Batch, share: float) -> tuple[Batch, Tensor]:
        """The cases, each with this chance replaced by a history that has feedback; and which one that is, [B]."""
        device, B = case.lengths_B.device, len(case.lengths_B)
        drawn_B = torch.randint(len(self.rows), (B,), device=device)
        judged_B = torch.where(torch.rand(B, device=device) < share, drawn_B, NOBODY)
        at_X = (judged_B != NOBODY).nonzero()[:, 0]
        if not len(at_X):
            return case, judged_B
        others = history_batch(self.rows.take(judged_B[at_X].cpu().numpy()), self.window).to(device)
        length = max(case.items_BL.shape[1], others.items_BL.shape[1])

        def put(ours: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            if ours is None or theirs is None:
                return None
            ours, theirs = _padded(ours, length), _padded(theirs, length)
            return ours.index_copy(0, at_X, theirs)

        items_BL = put(case.items_BL, others.items_BL)
        assert items_BL is not None
        mixed = Batch(
            items_BL,
            case.lengths_B.index_copy(0, at_X, others.lengths_B),
            times_BL=put(case.times_BL, others.times_BL),
            users_B=put(case.users_B, others.users_B),
        )
        return mixed, judged_B

    def earned(self, facts: PathFacts, judged_B: Tensor) -> Tensor:
        """What each choice earned, [B, G, T]; what a path did comes with its last choice."""
        paths = facts.paths
        _, _, M, C = paths.table_BGMC.shape
        of_B11 = judged_B[:, None, None]
        told_BGT = self.tokens.look_up((of_B11 * M + paths.books_BGT) * C + paths.tokens_BGT)
        if paths.categories_BGTQ is not None:
            believed_BGT = paths.categories_BGTQ[:, :, 1:].argmax(-1)
            told_BGT = told_BGT + self.categories.look_up(of_B11 * paths.categories_BGTQ.shape[-1] + believed_BGT)
        last_BGT = torch.zeros_like(told_BGT)
        last_BGT[..., -1] = self._of_paths(paths, judged_B)
        return torch.where(of_B11 == NOBODY, 0, told_BGT + last_BGT)

    def _of_paths(self, paths: DrawnPaths, judged_B: Tensor) -> Tensor:
        """[B, G]"""
        device, (B, G, M, _) = judged_B.device, paths.table_BGMC.shape
        decided_BGM = torch.full((B, G, M), -1, device=device).scatter(2, paths.books_BGT, paths.tokens_BGT)
        owners_J, codes_JM, signs_J = (part.to(device) for part in self.paths)
        case_X, path_X = (judged_B[:, None] == owners_J).nonzero(as_tuple=True)
        asked_X1M = codes_JM[path_X][:, None]
        had_XG = ((asked_X1M == decided_BGM[case_X]) | (asked_X1M == -1)).all(-1)
        told_BG = torch.zeros((B, G), dtype=torch.int64, device=device)
        return told_BG.index_add(0, case_X, had_XG * signs_J[path_X][:, None])


def _padded(values: Tensor, length: int) -> Tensor:
    """Further slots, which nobody reads, repeat the first; what has no slots stays as it is."""
    if values.ndim == 1:
        return values
    return torch.cat([values, values[:, :1].expand(-1, length - values.shape[1])], dim=1)
