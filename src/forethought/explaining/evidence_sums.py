"""The answer of a method with evidence beside it, as the sum that it is: the model's own score, and who speaks for it.

    score(i) = temperature * (logit(i) + sum_e g_e c_e(i))    c_e(i) = sum_j c_e(j, i), j the last items of the history

Steps of reasoning are the model's own, and so are what halts them and their figures: evidence knows of no step and is
added once, behind the last one. Whatever is said of the answer (scores, ranks, probabilities, entropy) is of the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.ranking import Scorer
from forethought.catalogue.sparse_scores import SparseScores
from forethought.data.batches import Batch
from forethought.data.evidence import LINEAR, LISTED, REPEAT
from forethought.data.neighbours import LIKENESS_POWER
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import Certainty, Contribution, EvidenceUse, ItemSum
from forethought.methods.interface import Method, Spoken, UserRepresentation


@dataclass(frozen=True, eq=False)
class SummedScores:
    """One history's scores of all items, alone and with what evidence adds.

    Attributes:
        alone_N: the model's own.
        scores_N: the sums.
        log_p_N: log-probabilities of the softmax of the sums; float64.
    """

    alone_N: Tensor
    scores_N: Tensor
    log_p_N: Tensor
    lse: float

    @classmethod
    def of(cls, scorer: Scorer, added: SparseScores | None, temperature: float) -> SummedScores:
        """Of the first row.

        Args:
            scorer: of the model alone.
            temperature: what a score is divided by to be a logit.
        """
        first, n_items = slice(0, 1), scorer.n_items
        alone_1N = scorer.scores(first, slice(0, n_items), scorer.like_BX.new_empty(n_items)).clone()
        scores_1N = alone_1N.clone()
        if added is not None:
            added.add_(scores_1N, first, slice(0, n_items), temperature)
        logits_N = scores_1N[0].double() / temperature
        return cls(alone_1N[0], scores_1N[0], logits_N.log_softmax(0), float(logits_N.logsumexp(0)))

    def certainty(self, history: np.ndarray) -> Certainty:
        """How sure the answer is.

        Args:
            history: item rows.
        """
        p_N = self.log_p_N.exp()
        entropy = max(-float((p_N * self.log_p_N.clamp_min(-1e9)).sum()), 0.0)
        met = torch.from_numpy(np.unique(history)).long().to(p_N.device)
        return Certainty(entropy, entropy / math.log(max(len(p_N), 2)), float(p_N[met].sum()))

    def sums(
        self,
        tracked: list[int],
        model_ranks: list[float | None],
        contributions_of: list[list[Contribution]],
        kinds: list[EvidenceUse],
        metadata: ItemMetadata,
    ) -> list[ItemSum]:
        """Of some items."""
        found = []
        for item, rank, contributions in zip(tracked, model_ranks, contributions_of, strict=True):
            added = {kind.name: sum((c.score for c in contributions if c.by == kind.name), 0.0) for kind in kinds}
            named = metadata.named(item)
            found.append(
                ItemSum(named.item, named.title, float(self.scores_N[item]), float(self.alone_N[item]), rank, added)
            )
        return found


def behind(added: SparseScores, rows_M: Tensor, n_rows: int) -> SparseScores:
    """What is added to the only row, to these ones of more rows."""
    repeated = added.repeated(len(rows_M))
    return replace(repeated, rows_T=rows_M[repeated.rows_T], n_rows=n_rows)


def evidence_in_use(
    method: Method,
    batch: Batch,
    represented: UserRepresentation,
    items: list[int],
    metadata: ItemMetadata,
    temperature: float,
) -> tuple[list[EvidenceUse], list[list[Contribution]]]:
    """The kinds of evidence, and for each of some items who speaks for it in the first history, most first.

    An item that stands in the history several times speaks once, with all that it adds; so does one that speaks by
    several members of an ensemble.
    """
    batch, scale = batch.to(method.device), temperature
    items_K = torch.tensor(items, dtype=torch.int64, device=method.device)
    kinds: dict[str, EvidenceUse] = {}
    of_each: list[dict[tuple[str, int], Contribution]] = [{} for _ in items]
    for said in method.spoken(batch, items_K, represented):
        name, heard = said.shape.name, said.items_A.tolist()
        kinds[name] = _together(kinds.get(name), said, scale)
        for k, row_A in enumerate((said.added_KA * scale).tolist()):
            for at, (item, score) in enumerate(zip(heard, row_A, strict=True)):
                if not score:
                    continue
                if (before := of_each[k].get((name, item))) is not None:
                    of_each[k][name, item] = replace(before, score=before.score + score)
                    continue
                named = metadata.named(item)
                of_each[k][name, item] = Contribution(named.item, named.title, score, name, *_basis(said, k, at))
    return list(kinds.values()), [sorted(each.values(), key=lambda c: -abs(c.score)) for each in of_each]


def _together(before: EvidenceUse | None, said: Spoken, scale: float) -> EvidenceUse:
    """A kind as one member has it, with what others have of it."""
    most, read = said.most * scale, 0 if said.shape.kind in LISTED else len(said.items_A)
    if before is None:
        return EvidenceUse(said.shape.name, said.weight, said.gate, most, read, said.window, said.directed, said.weeks)
    weight = before.weight * (1.0 if before.gate is None else before.gate) + said.most
    return replace(before, weight=weight, gate=None, most=before.most + most, read=max(before.read, read))


def _basis(said: Spoken, k: int, at: int) -> tuple[int | None, int | None, float | None]:
    """Of one item and one place of the history: how often they were met, how often near each other, their cosine."""
    if said.pairs_KA is not None:
        return int(said.counts_A[at]), int(said.pairs_KA[k, at]), None
    if said.shape.kind in LISTED:
        return int(said.counts_A[at]), None, None
    if said.shape.name in (REPEAT, LINEAR):
        return None, None, None
    return None, None, float(said.values_KA[k, at]) ** (1 / LIKENESS_POWER)
