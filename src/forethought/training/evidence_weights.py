"""Weights of evidence, chosen on the validation part once the method is trained."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from forethought.catalogue.held_scores import HeldScores
from forethought.catalogue.ranking import ranks
from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import filtered_items
from forethought.methods.interface import DenseStates, Method, UserRepresentation

COARSE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
FINE = (0.6, 0.8, 1.25, 1.6)  # times what the round before chose
CERTAIN = 2.0  # standard errors of the gain by which a kind must help to be heard at all
MOST_CASES = 20_000  # drawn evenly where there are more
FEWER_CASES = 5_000  # of methods without vectors, which take a hundred times as long to read a history and rank for it
BATCH = 1024
HELD = 2**27  # numbers, half a gigabyte


class Fitted(NamedTuple):
    """What was chosen, and NDCG@10 on the cases that were looked at."""

    weights: list[float]
    without: float
    best: float


def some_cases(cases: Cases, seed: int, most: int = 5_000) -> Cases:
    """Drawn evenly where there are more."""
    if len(cases) <= most:
        return cases
    return cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), most, replace=False)))


@torch.inference_mode()
def fit_weights(method: Method, cases: Cases, *, exclude_history: bool, seed: int = 0) -> Fitted:
    """Set each kind's weight, one after the other, to the one of a grid that ranks the cases best; then nearer.

    Of equally good ones the smaller is taken, and a gain that may be chance is none, so that evidence that does not
    help comes to 0: the best of several weights is always a little better on the cases that it was chosen by.

    Args:
        method: with evidence; its weights are changed.
        cases: of the validation part.
        exclude_history: whether items of the histories are no candidates.
        seed: of the draw of cases.
    """
    evidence = method.evidence
    assert evidence is not None
    method.eval()
    cases = some_cases(cases, seed, MOST_CASES if method.state_width is not None else FEWER_CASES)
    weights = [0.0] * len(evidence.shapes)  # whatever they are now, so that a finished run comes to the same again
    without_C = best_C = _quality(method, cases, [weights], exclude_history)[0]
    for fine in (False, True):
        for e in range(len(weights)):
            values = [weights[e] * factor for factor in FINE] if fine and weights[e] else COARSE
            tried = [[*weights[:e], value, *weights[e + 1 :]] for value in values]
            quality_TC = _quality(method, cases, tried, exclude_history)
            at = int(np.argmax(quality_TC.mean(1)))
            gain_C = quality_TC[at] - best_C
            by_chance = 0.0 if weights[e] else CERTAIN * float(gain_C.std()) / math.sqrt(len(gain_C))
            if gain_C.mean() > by_chance:
                weights, best_C = tried[at], quality_TC[at]
    evidence.weights_E.copy_(torch.tensor(weights))
    return Fitted(weights, float(without_C.mean()), float(best_C.mean()))


def _quality(method: Method, cases: Cases, tried: list[list[float]], exclude_history: bool) -> np.ndarray:
    """NDCG@10 of each case with each of some weights, [T, C]; histories are read once for all of them."""
    evidence, device = method.evidence, method.device
    assert evidence is not None
    quality_TC = np.zeros((len(tried), len(cases)))
    for rows, histories in case_batches(cases, method.window, BATCH):
        batch = histories.to(device)
        represented = method.user_states(batch)
        states_BD = represented.states_BD if isinstance(represented, DenseStates) else None
        some = torch.arange(len(rows), device=device)
        support = evidence.support(batch.items_BL, some, batch.lengths_B - 1)
        excluded = filtered_items(cases.met.take(rows), device) if exclude_history else None
        targets = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(device)
        held = _held(method, represented)
        for at, weights in enumerate(tried):
            evidence.weights_E.copy_(torch.tensor(weights))
            added = evidence.weighted(support, states_BD)
            if held is None:
                ranks_B = method.rank_of(replace(represented, added=added), targets, excluded)
            else:
                ranks_B = ranks(replace(held, added=added), targets, excluded)
            quality_TC[at, rows] = ndcg(ranks_B.cpu().numpy(), 10)
    return quality_TC


def _held(method: Method, represented: UserRepresentation) -> HeldScores | None:
    """The scores of all items, where they are looked up path by path and fit: evidence then changes a few of them."""
    if not represented.look_ups or method.search is not None:
        return None
    scorer = method.scorer(replace(represented, added=None), "Choosing weights of evidence")
    return HeldScores.of(scorer) if len(scorer.like_BX) * scorer.n_items <= HELD else None
