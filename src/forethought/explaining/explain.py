"""From a history to an explanation, with whatever method: it knows states, the catalogue, and centroids if any.

What comes to no state and whose score is a sum over the history is explained by that sum (`sums.py`); what evidence
adds to the answer, by who speaks for it (`evidence_sums.py`).

Each state of the chain is asked what it would have recommended. Entropy and divergence are those of the exact softmax
over the whole catalogue, from its moments, whatever the halting rule itself had read.

Shapes: one history; S = T + 1 states of steps, and the final one behind them; N items, D width, U items told of.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue import losses
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import Moments, moments
from forethought.catalogue.ranking import FilteredItems
from forethought.data.batches import Batch
from forethought.explaining.evidence_sums import SummedScores, behind, evidence_in_use
from forethought.explaining.explanation import Explanation
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import (
    Candidate,
    Centroid,
    Intent,
    ItemRef,
    Plane,
    PlanePoint,
    PointKind,
    RankChange,
    Step,
)
from forethought.explaining.plane import project
from forethought.explaining.steering import Steered
from forethought.explaining.sums import explain_sum
from forethought.explaining.token_paths import explain_tokens
from forethought.methods.interface import (
    Centroids,
    DenseStates,
    IntentWeights,
    Method,
    dense_states,
)
from forethought.reasoning.halting import INDICATORS, Halting, Trace

NEAREST, CENTRAL = 3, 3  # centroids a step, and items that stand for each (and for an intent)
LED_TO = 20  # best items by an intent alone, whose category is told
SAME = 1e-5  # two states are the same answer


class StepStates(NamedTuple):
    """All states held against the catalogue: the steps', then the final one."""

    catalogue: Catalogue
    raw_SD: Tensor
    ready_SD: Tensor
    scaled_SD: Tensor
    of: Moments


@torch.inference_mode()
def explain(
    method: Method,
    batch: Batch,
    metadata: ItemMetadata,
    *,
    history: np.ndarray,
    dropped: list[Any],
    k: int,
    target: int | None = None,
    excluded: np.ndarray | None = None,
    halting: Halting | None = None,
    steered: Steered | None = None,
) -> Explanation:
    """Every step of one history, or what its items add to each score where there are no steps but sums.

    Steps are the model's own. The answer is that of `recommend`, with evidence where there is some.

    Args:
        batch: the history, as the method reads it.
        history: all of its item rows.
        dropped: unknown ids, to be told of.
        target: an item row whose rank is followed.
        excluded: item rows that are no candidates.
        halting: another than the method's own.
        steered: what the user wants to see and what not.

    Raises:
        ConfigError: a halting that the method cannot obey, or items that are split over processes.
    """
    halting = method.resolve_halting(halting)
    constraints = None if steered is None else steered.constraints
    made = method.represent(batch.to(method.device), halting, trace=True, constraints=constraints)
    gone = excluded if steered is None else steered.left_out(excluded)
    asked: dict[str, Any] = {"history": history, "dropped": dropped, "k": k, "target": target, "excluded": gone}
    explained = None
    if not isinstance(made, DenseStates):
        explained = explain_tokens(method, made, batch, metadata, halting=halting, **asked)
        explained = explained or explain_sum(method, made, batch, metadata, **asked)
    if explained is None:
        represented = dense_states(made, "Explaining step by step")
        explained = _explain_steps(method, represented, batch, metadata, halting=halting, **asked)
    steering = None if steered is None else steered.steering
    return replace(explained, history_excluded=excluded is not None, steering=steering)


def _explain_steps(
    method: Method,
    represented: DenseStates,
    batch: Batch,
    metadata: ItemMetadata,
    *,
    history: np.ndarray,
    dropped: list[Any],
    k: int,
    target: int | None,
    excluded: np.ndarray | None,
    halting: Halting | None,
) -> Explanation:
    """Of a method that comes to one vector a user: every state of its chain."""
    used = 0 if represented.trace is None else int(represented.steps_B[0])
    step_states = _step_states(method.catalogue().whole("Explaining"), represented)
    met_S = _mass(step_states, torch.from_numpy(np.unique(history)).long().to(method.device)).tolist()
    summed = _summed(method, represented, step_states.catalogue)
    lists, tracked = _rank(method, step_states, represented, summed, k, target, excluded)
    intents = _intents(method, step_states.catalogue, method.intent_weights(represented), metadata, excluded)
    answer, *best = [_candidates(each, metadata) for each in (lists[-1], *lists[: len(step_states.ready_SD) - 1])]
    items, steps_taken = [item for item, _ in tracked], len(best)
    kinds, contributions = evidence_in_use(
        method, batch, represented, items, metadata, step_states.catalogue.temperature
    )
    centroids_S = [method.centroids(step) for step in range(len(best))]
    steps = _steps(step_states, best, centroids_S, met_S, used, represented.trace, metadata)
    own = torch.allclose(step_states.ready_SD[used], step_states.ready_SD[-1], rtol=SAME, atol=SAME)
    return Explanation(
        history=[metadata.named(row) for row in history.tolist()],
        dropped=dropped,
        read=int(batch.lengths_B[0]),
        history_excluded=excluded is not None,
        halting=halting,
        centroid=next((m.name for m in centroids_S if m is not None), None),
        answer=answer,
        answer_step=used if own else None,
        steps=steps,
        movements=[
            RankChange(n.item, n.title, r[:steps_taken], r[-1]) for n, r in ((metadata.named(u), r) for u, r in tracked)
        ],
        target=None if target is None else metadata.named(target),
        plane=_plane(step_states, steps, centroids_S, items, target, metadata, used),
        intents=intents,
        contributions=None if summed is None else contributions,
        evidence=kinds,
        sums=None
        if summed is None
        else summed.sums(items, [r[steps_taken] for _, r in tracked], contributions, kinds, metadata),
        certainty=None if summed is None else summed.certainty(history),
    )


def _summed(method: Method, represented: DenseStates, catalogue: Catalogue) -> SummedScores | None:
    """None where no evidence is added."""
    if represented.added is None:
        return None
    scorer = method.scorer(replace(represented, added=None), "Explaining")
    return SummedScores.of(scorer, represented.added, catalogue.temperature)


def _steps(
    step_states: StepStates,
    best: list[list[Candidate]],
    centroids_S: list[Centroids | None],
    met_S: list[float],
    used: int,
    trace: Trace | None,
    metadata: ItemMetadata,
) -> list[Step]:
    return [
        Step(
            step=step,
            taken=step <= used,
            stopped=step == used,
            items=items,
            **_certainty(step_states, step),
            on_history=met_S[step],
            **_read(trace, step),
            centroids=_near(step_states, step, level, metadata),
            n_centroids=0 if level is None else int((level.sizes_K > 0).sum()),
        )
        for step, (items, level) in enumerate(zip(best, centroids_S, strict=True))
    ]


def _step_states(catalogue: Catalogue, represented: DenseStates) -> StepStates:
    """Moments of every state: two products of (states x items x width)."""
    final_SD = represented.states_BD[:1]
    raw_SD = final_SD if represented.trace is None else represented.trace.states_PSD[0]
    steps_SD = raw_SD if represented.trace is None else catalogue.comparable(raw_SD)
    ready_SD = torch.cat([steps_SD, final_SD])
    scaled_SD = catalogue.tempered(ready_SD)
    return StepStates(catalogue, raw_SD, ready_SD, scaled_SD, moments(scaled_SD, catalogue))


def _rank(
    method: Method,
    step_states: StepStates,
    represented: DenseStates,
    summed: SummedScores | None,
    k: int,
    target: int | None,
    excluded: np.ndarray | None,
) -> tuple[list[list[tuple[int, float, float]]], list[tuple[int, list[float | None]]]]:
    """Each state's k best as (item, score, probability), and the ranks of all of these items at each state.

    With evidence the final state stands there twice: alone, and behind that with what is added to it.
    """
    ready_SD, lse_S, added = step_states.ready_SD, step_states.of.lse_P, represented.added
    if summed is not None:
        ready_SD, lse_S = torch.cat([ready_SD, ready_SD[-1:]]), torch.cat([lse_S, lse_S.new_tensor([summed.lse])])
    S, device, catalogue = len(ready_SD), ready_SD.device, step_states.catalogue

    def states(times: int) -> DenseStates:
        """So many times all of them, one after the other."""
        last_M = S - 1 + S * torch.arange(times, device=device)
        more = None if added is None else behind(added, last_M, S * times)
        return replace(DenseStates.unreasoned(ready_SD.repeat(times, 1)), added=more)

    k = min(k, len(catalogue))
    items_SK, scores_SK = method.recommend(states(1), k, _left_out(excluded, S, device))
    logs_SK = scores_SK / catalogue.temperature - lse_S[:, None]
    candidates = zip(items_SK.tolist(), scores_SK.tolist(), logs_SK.exp().tolist(), strict=True)
    lists = [[each for each in zip(*row, strict=True) if each[0] >= 0] for row in candidates]
    if catalogue.bias_N is None:  # a state of nothing likes all items alike: it has no best ones
        lists = [
            each if state.any() or (summed is not None and s == S - 1) else []
            for s, (each, state) in enumerate(zip(lists, ready_SD, strict=True))
        ]
    tracked = list(dict.fromkeys([i for each in lists for i, _, _ in each] + ([] if target is None else [target])))
    targets = torch.tensor(tracked, dtype=torch.int64, device=device).repeat_interleave(S)
    left_out = _left_out(excluded, S * len(tracked), device)
    ranks = method.rank_of(states(len(tracked)), targets, left_out).view(len(tracked), S).tolist()
    moved = [(u, [r if math.isfinite(r) else None for r in each]) for u, each in zip(tracked, ranks, strict=True)]
    return lists, sorted(moved, key=lambda each: math.inf if each[1][-1] is None else each[1][-1])


def _left_out(excluded: np.ndarray | None, rows: int, device: torch.device) -> FilteredItems | None:
    return None if excluded is None else FilteredItems.alike(excluded, rows, device)


def _intents(
    method: Method,
    catalogue: Catalogue,
    weights: IntentWeights | None,
    metadata: ItemMetadata,
    excluded: np.ndarray | None,
) -> list[Intent]:
    """How much the history leaned on each intent, and what each would have led to by itself.

    Intents have no place among the items, so no item is near to one: what typifies an intent is what it leads to.
    """
    if weights is None:
        return []
    alone_MD, intent_weights = weights.alone_BMD[0], weights.weights_BM[0].tolist()
    left_out = _left_out(excluded, len(alone_MD), alone_MD.device)
    best = method.recommend(DenseStates.unreasoned(alone_MD), min(LED_TO, len(catalogue)), left_out)
    lse_M = moments(catalogue.tempered(alone_MD), catalogue).lse_P
    intents = []
    for number, (weight, rows, scores, lse) in enumerate(zip(intent_weights, *best, lse_M, strict=True)):
        logs = scores / catalogue.temperature - lse
        candidates = [
            each for each in zip(rows.tolist(), scores.tolist(), logs.exp().tolist(), strict=True) if each[0] >= 0
        ]
        member_N = np.zeros(len(catalogue), dtype=bool)
        member_N[[row for row, _, _ in candidates]] = True
        category = None if metadata.categories is None else metadata.categories.typical(member_N)
        intents.append(Intent(number, weight, _candidates(candidates[:CENTRAL], metadata), category))
    return intents


def _candidates(candidates: list[tuple[int, float, float]], metadata: ItemMetadata) -> list[Candidate]:
    named = [(metadata.named(item), score, probability) for item, score, probability in candidates]
    return [Candidate(n.item, n.title, score, probability) for n, score, probability in named]


def _mass(step_states: StepStates, items: Tensor) -> Tensor:
    """Share of each state's prediction that lies on some items, [S]; two products over these alone."""
    return (moments(step_states.scaled_SD, step_states.catalogue.take(items)).lse_P - step_states.of.lse_P).exp()


def _certainty(step_states: StepStates, step: int) -> dict[str, Any]:
    """How sure a step was, and how far it moved."""
    at, before = slice(step, step + 1), slice(step - 1, step)
    of = Moments(step_states.of.lse_P[at], step_states.of.mean_PD[at])
    entropy = max(float(losses.entropy(step_states.scaled_SD[at], of)), 0.0)
    consistency = change = None
    if step:
        old = Moments(step_states.of.lse_P[before], step_states.of.mean_PD[before])
        consistency = max(float(losses.kl(step_states.scaled_SD[before], old, step_states.scaled_SD[at], of)), 0.0)
        change = float((step_states.raw_SD[step] - step_states.raw_SD[step - 1]).norm())
    share = entropy / math.log(max(len(step_states.catalogue), 2))
    return {"entropy_nats": entropy, "entropy": share, "consistency": consistency, "change": change}


def _read(trace: Trace | None, step: int) -> dict[str, Any]:
    """What the halting rule read at a step, and what its net said."""
    if trace is None or step < trace.first:
        return {"halt": None, "read": None}
    seen = [_number(value) for value in trace.indicators_PT3[0, step - trace.first]]
    read = None if seen == [None] * len(seen) else dict(zip(INDICATORS, seen, strict=True))
    return {"halt": _number(trace.halts_PT[0, step - trace.first]), "read": read}


def _near(step_states: StepStates, step: int, centroids_S: Centroids | None, metadata: ItemMetadata) -> list[Centroid]:
    """The nearest centroids of a step that stand for anything, each with what typifies it."""
    if centroids_S is None:
        return []
    directions_KD = F.normalize(centroids_S.vectors_KD.to(step_states.ready_SD.dtype), dim=-1)
    near_K = (directions_KD @ F.normalize(step_states.ready_SD[step], dim=-1)).masked_fill(
        centroids_S.sizes_K == 0, -torch.inf
    )
    nearest = []
    for row in near_K.argsort(descending=True, stable=True)[:NEAREST].tolist():
        if centroids_S.sizes_K[row] == 0:
            break
        member_N = centroids_S.cluster_N == row
        rows = member_N.nonzero()[:, 0]
        vectors_CD = F.normalize(step_states.catalogue.comparable_ND[rows], dim=-1)
        central = (vectors_CD @ directions_KD[row]).argsort(descending=True, stable=True)[:CENTRAL]
        nearest.append(
            Centroid(
                number=row,
                similarity=float(near_K[row]),
                probability=float(_mass(step_states, rows)[step]),
                size=int(centroids_S.sizes_K[row]),
                central=[metadata.named(item) for item in rows[central].tolist()],
                category=None if metadata.categories is None else metadata.categories.typical(member_N.cpu().numpy()),
            )
        )
    return nearest


def _plane(
    step_states: StepStates,
    steps: list[Step],
    centroids_S: list[Centroids | None],
    items: list[int],
    target: int | None,
    metadata: ItemMetadata,
    used: int,
) -> Plane:
    """Steps, their centroids, the items told of and the target, in the plane that shows most of them."""
    vectors = [*step_states.ready_SD[:-1]]
    named: list[tuple[PointKind, str, int | None]] = [("step", f"step {step.step}", step.step) for step in steps]
    for step, level in zip(steps, centroids_S, strict=True):
        for each in step.centroids:
            assert level is not None
            vectors.append(level.vectors_KD[each.number].to(step_states.ready_SD.dtype))
            label = _word(each.central[0]) if each.category is None else each.category.label
            named.append(("centroid", label, step.step))
    for item in items:
        vectors.append(step_states.catalogue.comparable_ND[item])
        named.append(("target" if item == target else "item", _word(metadata.named(item)), None))
    places, share = project(torch.stack(vectors).double().cpu().numpy(), 0, used)
    points = [
        PlanePoint(kind, label, float(x), float(y), at) for (kind, label, at), (x, y) in zip(named, places, strict=True)
    ]
    return Plane(share, points)


def _word(of: ItemRef) -> str:
    return str(of.title or of.item)


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
