"""An explanation of what is decided token by token: the paths, and what each token adds to the answer's scores.

What is told of a method is what `Method.token_paths` says of it, its lists and its ranks, whichever method it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems, best
from forethought.data.batches import Batch
from forethought.decoding.item_paths import ItemPaths
from forethought.explaining.evidence_sums import SummedScores, evidence_in_use
from forethought.explaining.explanation import Explanation
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import Candidate, Certainty, ItemRef, RankChange
from forethought.explaining.token_parts import (
    Belief,
    PrunedToken,
    Token,
    TokenPath,
    TokenShare,
    TokenStep,
    TokenSum,
)
from forethought.methods.interface import Method, UserRepresentation
from forethought.reasoning.halting import Halting

MOST_PATHS = 3
BELIEVED = 3  # categories
TYPICAL = 3  # items of a token, and of a path


def explain_tokens(
    method: Method,
    represented: UserRepresentation,
    batch: Batch,
    metadata: ItemMetadata,
    *,
    history: np.ndarray,
    dropped: list[Any],
    k: int,
    target: int | None,
    excluded: np.ndarray | None,
    halting: Halting | None,
) -> Explanation | None:
    """One history's answer and its paths, the target's rank, and why; None where the method knows no tokens."""
    if (item_paths := method.token_paths(represented)) is None:
        return None
    summed = SummedScores.of(method.scorer(replace(represented, added=None), "Explaining"), represented.added, 1.0)
    left_out = None if excluded is None else FilteredItems.alike(excluded, 1, method.device)
    lists = method.recommend(represented, min(k, method.n_items), left_out)
    answer = [each for each in zip(*(of[0].tolist() for of in lists), strict=True) if each[0] >= 0]
    tracked = list(dict.fromkeys([item for item, _ in answer] + ([] if target is None else [target])))
    ranks = _ranks(method, represented, tracked, excluded)
    named = [metadata.named(row) for row in tracked]
    kinds, contributions = evidence_in_use(method, batch, represented, tracked, metadata, 1.0)
    spoken = represented.added is not None
    alone = _ranks(method, replace(represented, added=None), tracked, excluded) if spoken else []
    probabilities_N, certainty = _certainty(summed, history, excluded)
    told = TokenStory.of(item_paths, metadata, tracked, probabilities_N[tracked[: len(answer)]])
    return Explanation(
        history=[metadata.named(row) for row in history.tolist()],
        dropped=dropped,
        read=int(batch.lengths_B[0]),
        history_excluded=False,
        halting=halting,
        centroid=None,
        answer=[
            Candidate(n.item, n.title, score, float(probabilities_N[item]))
            for n, (item, score) in zip(named, answer, strict=False)
        ],
        answer_step=None,
        steps=[],
        movements=[RankChange(n.item, n.title, [], rank) for n, rank in zip(named, ranks, strict=True)],
        target=None if target is None else metadata.named(target),
        plane=None,
        contributions=contributions if spoken else None,
        evidence=kinds,
        sums=summed.sums(tracked, alone, contributions, kinds, metadata) if spoken else None,
        certainty=certainty,
        paths=told.paths(left_out),
        pruned=told.pruned(),
        token_sums=told.sums(named),
    )


def _certainty(summed: SummedScores, history: np.ndarray, excluded: np.ndarray | None) -> tuple[Tensor, Certainty]:
    """Probabilities of the candidates, and how sure they are.

    Those of the whole catalogue would be hidden behind the history: its items, whose tokens were just read, often have
    nearly all of the mass.
    """
    logits_N = summed.scores_N.double()
    if excluded is not None:
        logits_N[torch.from_numpy(excluded).to(logits_N.device)] = -torch.inf
    log_p_N = logits_N.log_softmax(0)
    p_N = log_p_N.exp()
    entropy = max(-float((p_N * log_p_N.clamp_min(-1e9)).sum()), 0.0)
    whole = summed.certainty(history)
    return p_N, Certainty(entropy, entropy / math.log(max(len(p_N), 2)), whole.on_history)


def _ranks(
    method: Method, represented: UserRepresentation, tracked: list[int], excluded: np.ndarray | None
) -> list[float | None]:
    """Of items of the first row, None where they are no candidates."""
    items_K = torch.tensor(tracked, dtype=torch.int64, device=method.device)
    left_out = None if excluded is None else FilteredItems.alike(excluded, 1, method.device)
    # one after the other: whatever is left out is not repeated for each of them
    ranks = [float(method.rank_of(represented, item_1, left_out)) for item_1 in items_K.split(1)]
    return [rank if math.isfinite(rank) else None for rank in ranks]


@dataclass(frozen=True, eq=False)
class TokenStory:
    """The first row's paths, and the scores of some items, in the words of the items.

    Attributes:
        tracked_K: the items.
        summands: of their scores, as `ItemPaths` has them.
        told: numbers of the paths that are told of, the one that carries most of the answer first.
        carries_P: of each path; 0 where paths count for nothing, as REG4Rec's validation may have it.
    """

    item_paths: ItemPaths
    metadata: ItemMetadata
    tracked_K: Tensor
    summands: tuple[Tensor, Tensor, Tensor]
    told: list[int]
    carries_P: Tensor

    @classmethod
    def of(cls, item_paths: ItemPaths, metadata: ItemMetadata, tracked: list[int], p_K: Tensor) -> TokenStory:
        """Of some items; the first ones, those that have probabilities, are the answer."""
        items_K = torch.tensor(tracked, dtype=torch.int64, device=item_paths.codes_NM.device)
        summands = item_paths.summands(items_K)
        weights_P = item_paths.paths.weights_BP[0].double().exp()
        carries_P = summands[2][:, : len(p_K)] @ p_K / p_K.sum() if len(p_K) else weights_P
        order_P = carries_P
        if item_paths.idle:
            carries_P, order_P = torch.zeros_like(carries_P), weights_P
        order = order_P.argsort(descending=True, stable=True)[:MOST_PATHS].tolist()
        return cls(item_paths, metadata, items_K, summands, [p for p in order if weights_P[p] > 0], carries_P)

    def token(self, codebook: int, token: int) -> Token:
        member_N = (self.item_paths.codes_NM[:, codebook] == token).cpu().numpy()
        rows = np.flatnonzero(member_N)
        if self.metadata.met_N is not None:
            rows = rows[np.argsort(-self.metadata.met_N[rows], kind="stable")]
        categories, brands = self.metadata.categories, self.metadata.brands
        return Token(
            codebook,
            token,
            len(rows),
            [self.metadata.named(row) for row in rows[:TYPICAL].tolist()],
            None if categories is None else categories.typical(member_N),
            None if brands is None else brands.typical(member_N),
        )

    def paths(self, left_out: FilteredItems | None) -> list[TokenPath]:
        """Those that carry most of the answer."""
        weights_P, paths = self.item_paths.paths.weights_BP[0].exp(), []
        for path in self.told:
            items_1K, _ = best(self.item_paths.alone(path), TYPICAL, left_out)
            items = [self.metadata.named(row) for row in items_1K[0].tolist() if row >= 0]
            paths.append(TokenPath(float(weights_P[path]), float(self.carries_P[path]), self._steps(path), items))
        return paths

    def _steps(self, path: int) -> list[TokenStep]:
        paths, steps = self.item_paths.paths, []
        for step in range(paths.books_BPT.shape[2]):
            book, token = int(paths.books_BPT[0, path, step]), int(paths.tokens_BPT[0, path, step])
            said = paths.categories_BTPG
            steps.append(
                TokenStep(
                    step=step + 1,
                    token=self.token(book, token),
                    probability=float(paths.table_BPMC[0, path, book, token].exp()),
                    confidence=float(paths.confidence_BPT[0, path, step]),
                    belief=[] if said is None else self._belief(said[0, step, path]),
                    moved=_moved(paths.jensen_shannon_BPT[0, path, step]),
                )
            )
        return steps

    def _belief(self, log_probs_G: Tensor) -> list[Belief]:
        most, at = log_probs_G.exp().topk(min(BELIEVED, len(log_probs_G)))
        return [Belief(self._category(g), p) for p, g in zip(most.tolist(), at.tolist(), strict=True)]

    def _category(self, number: int) -> str:
        return self.item_paths.categories[number]

    def pruned(self) -> list[PrunedToken]:
        """Each once, in order of the steps, those that would have moved the belief furthest first."""
        if (gone := self.item_paths.paths.pruned) is None:
            return []
        furthest: dict[tuple[int, int, int], PrunedToken] = {}
        for at in (gone.rows_E == 0).nonzero()[:, 0].tolist():
            step, book, token = int(gone.steps_E[at]) + 1, int(gone.books_E[at]), int(gone.tokens_E[at])
            moved, kept = _moved(gone.jensen_shannon_E[at]) or 0.0, bool(gone.kept_E[at])
            known = furthest.get((step, book, token))
            if known is None or (kept, moved) > (known.kept, known.moved):
                before, after = self._category(int(gone.before_E[at])), self._category(int(gone.after_E[at]))
                described = self.token(book, token) if known is None else known.token
                furthest[step, book, token] = PrunedToken(step, described, before, after, moved, kept)
        return sorted(furthest.values(), key=lambda each: (each.step, -each.moved))

    def sums(self, named: list[ItemRef]) -> list[TokenSum]:
        """Of the items, with what each of their tokens adds."""
        codes_NM, (scores_KM, paths_K, r_PK) = self.item_paths.codes_NM, self.summands
        codes_KM = codes_NM[self.tracked_K]
        offsets = self.item_paths.offsets(self.tracked_K).tolist()
        overall_KM = torch.stack([(codes_NM == codes_M).double().mean(0) for codes_M in codes_KM])
        sums = []
        for k, of in enumerate(named):
            each = zip(codes_KM[k].tolist(), scores_KM[k].tolist(), overall_KM[k].tolist(), strict=True)
            shares = [
                TokenShare(book, token, score, math.exp(score / self.item_paths.sharpness), overall)
                for book, (token, score, overall) in enumerate(each)
            ]
            apart, carried_by = float(paths_K[k]), r_PK[self.told, k].tolist() if self.carries_P.any() else []
            score = float(scores_KM[k].sum()) + apart + offsets[k]
            sums.append(TokenSum(of.item, of.title, score, shares, apart, carried_by, offsets[k]))
        return sums


def _moved(nats: Tensor) -> float | None:
    share = float(nats) / math.log(2)
    return share if math.isfinite(share) else None
