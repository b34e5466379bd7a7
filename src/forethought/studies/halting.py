"""How deep to think: quality against cost, for every fixed depth and every rule that stops by itself.

Thresholds are set on the validation part, so that each rule is tried at several mean depths; the best fixed depth and
the threshold of each rule that is told of first are chosen there too. Every figure is of the test part. Nothing is
trained: one model, halted in many ways. The page is `halting_page`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from scipy.optimize import brentq

from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.flops import flops_per_history
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.statistics import bootstrap_sums, cluster_sums, interval
from forethought.evaluation.thresholds import compared, fit_threshold, traced
from forethought.methods.interface import Method
from forethought.reasoning.halting import INDICATORS, Halting, Trace
from forethought.recommender import Recommender
from forethought.studies import first_exits, misread
from forethought.studies.aligned_variants import ALIGNED
from forethought.studies.depth_mixes import best_mix
from forethought.studies.halting_page import write
from forethought.studies.halting_points import CAPPED, CHOSEN, FITTED, FIXED
from forethought.studies.oracle import beside as oracle_beside
from forethought.studies.oracle import learnt, oracle
from forethought.studies.shops import HALF_AIMLESS, MANY_CUSTOMERS
from forethought.studies.step_groups import sizes_of, steps_by
from forethought.studies.study import Study

DELTAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
QUANTILES = (0.15, 0.3, 0.5, 0.7, 0.85)
TOLERANCE = 0.01  # of NDCG@10, where validation chooses the threshold
REPETITIONS = 3  # of what is timed
STEP_QUANTILES = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}


@dataclass(frozen=True)
class Measured:
    """One way of halting on one part: per case, and what encoding took, in seconds."""

    ndcg: np.ndarray
    recall: np.ndarray
    steps: np.ndarray
    encode_s: float


@dataclass(frozen=True)
class Beside:
    """What every way of halting is held against, on the test part.

    Attributes:
        depths: every fixed depth, from 0 on.
        best: the one that validation chose.
        valid_D: NDCG@10 of each on the validation part.
        sizes: what cases are grouped by.
    """

    depths: list[Measured]
    best: int
    valid_D: list[float]
    sizes: Mapping[str, np.ndarray]

    @cached_property
    def values_Dn(self) -> np.ndarray:
        return np.stack([depth.ndcg for depth in self.depths])


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """All curves of one model."""
    method, exclude = model.method, model.about["exclude_history"]
    T = 0 if method.reasoning is None else method.reasoning.depth
    valid = {d: _measure(method, split.valid, exclude, Halting(rule="fixed", max_steps=d), 1) for d in range(T + 1)}
    best = max(valid, key=lambda d: valid[d].ndcg.mean())
    of_valid = _trace(method, split.valid)
    first = of_valid.first
    halting = partial(Halting, min_steps=first)
    ways = [(FIXED, Halting(rule="fixed", max_steps=d)) for d in range(T + 1)]
    ways += [("soft", halting(rule="soft"))]
    ways += [("ARH", halting(rule="arh", threshold=delta)) for delta in DELTAS]
    ways += [("ARH, quantiles", halting(rule="arh", threshold=t)) for t in _thresholds(of_valid.halts_PT)]
    for rule in ("change", "entropy"):
        of_rule = _thresholds(compared(of_valid, rule))
        ways += [(CHOSEN[rule], halting(rule=rule, threshold=t)) for t in of_rule]  # type: ignore[arg-type]
    ways += _capped(of_valid, best)
    fitted = None
    if first < T and "arh" in method.reasoning.rules:  # type: ignore[union-attr]
        own = replace(method.reasoning.halting, rule="arh")  # type: ignore[union-attr]
        fitted = fit_threshold(method, split.valid, exclude_history=exclude, halting=own, tolerance=TOLERANCE)
        ways += [(FITTED, fitted.halting)]
    depths = [_measure(method, split.test, exclude, way, REPETITIONS) for name, way in ways if name == FIXED]
    valid_D = [float(valid[d].ndcg.mean()) for d in range(T + 1)]
    beside = Beside(depths, best, valid_D, sizes_of(method, split.test, exclude_history=exclude))
    curve = [_point(name, way, model, split, beside) for name, way in ways]
    for point, (_, way) in zip(curve, ways, strict=True):
        if way.rule in CHOSEN and point["way"] != FITTED:
            got = _measure(method, split.valid, exclude, way, 1)
            point["valid"] = {"steps": float(got.steps.mean()), **_relative(got.ndcg, valid[best].ndcg, split.valid)}
    for point in [p for p in curve if p["way"] == "ARH, quantiles" and first < p["steps"] < T]:
        random = halting(rule="random", threshold=_chance(point["steps"], T, first))
        curve.append(_point("random", random, model, split, beside, seed))
    return {
        "trained_steps": T,
        "best_fixed": best,
        "valid_ndcg": {str(d): value for d, value in enumerate(valid_D)},
        "curve": curve,
        "bounds": _bounds(model, split, beside, seed),
        "fitted": None if fitted is None else str(fitted),
        "misread": _misread(model, split, of_valid, seed),
        "indicators": _indicators_compared(model, split),
        **({"at_start": _at_start(model, split, beside, seed)} if first == 0 else {}),
    }


def _bounds(model: Recommender, split: Split, beside: Beside, seed: int) -> dict[str, Any]:
    """What any rule could reach: an oracle on all cases, a learnt one on those whose indicators are traced."""
    method, cases, best = model.method, split.test, beside.best
    rows = _traced_rows(len(cases))
    depth, values_Dn = len(beside.depths) - 1, beside.values_Dn[:, rows]
    of_test, history = _trace(method, cases), cases.history.take(rows)
    features_nF = _features(of_test.indicators_PT3, of_test.halts_PT, history.lengths)
    chosen = learnt(values_Dn, features_nF, history.users, seed) if depth and len(np.unique(history.users)) > 1 else []
    points = []
    for price, depth_n in chosen:
        quality_n = values_Dn[depth_n, np.arange(len(rows))]
        point = {"price": price, "steps": float(depth_n.mean()), "ndcg@10": float(quality_n.mean())}
        points.append(point | _relative(quality_n, values_Dn[best], cases.take(rows)))
    return {
        "cases": len(rows),
        "best_fixed_ndcg": float(beside.values_Dn[best].mean()),
        "oracle": oracle(beside.values_Dn, best),
        "learnt": points,
    }


def _at_start(model: Recommender, split: Split, beside: Beside, seed: int) -> dict[str, Any]:
    """What a rule could reach that decides before the first step, on the cases that are traced."""
    rows = _traced_rows(len(split.test))
    cases, of_test = split.test.take(rows), _trace(model.method, split.test)
    users = cases.history.users
    features_nF = _features(of_test.indicators_PT3[:, :1], of_test.halts_PT[:, :1], cases.history.lengths)

    def relative(ndcg_n: np.ndarray, base_n: np.ndarray, of: np.ndarray) -> dict[str, Any]:
        return _relative(ndcg_n, base_n, cases.take(of))

    if len(np.unique(users)) < 2:
        return {"learnt": []}
    values_Dn = beside.values_Dn[:, rows]
    return {"learnt": first_exits.learnt_at_start(values_Dn, features_nF, users, seed, beside.best, relative)}


def _features(indicators_PT3: torch.Tensor, halts_PT: torch.Tensor, lengths_P: np.ndarray) -> np.ndarray:
    """What a learnt rule reads, [P, F]; without what is known of nobody, such as how far no step has moved."""
    read_PF = torch.cat([indicators_PT3.flatten(1), halts_PT], dim=1).double().numpy()
    return np.column_stack([read_PF[:, np.isfinite(read_PF).any(0)], lengths_P])


def _measure(method: Method, cases: Cases, exclude: bool, halting: Halting, repetitions: int) -> Measured:
    ranked = [rank_cases(method, cases, exclude_history=exclude, halting=halting) for _ in range(repetitions)]
    seconds = min(each.seconds["encode"] for each in ranked)
    return Measured(ndcg(ranked[0].ranks, 10), recall(ranked[0].ranks, 10), ranked[0].steps, seconds)


def _point(
    name: str, halting: Halting, model: Recommender, split: Split, beside: Beside, seed: int = 0
) -> dict[str, Any]:
    """One point of the curve: beside the best fixed depth, paired, beside an oracle, and who takes how many steps."""
    torch.manual_seed(seed)
    cases = split.test
    if name == FIXED and halting.max_steps is not None:
        got = beside.depths[halting.max_steps]
    else:
        got = _measure(model.method, cases, model.about["exclude_history"], halting, REPETITIONS)
    steps, quality = float(got.steps.mean()), float(got.ndcg.mean())
    quantiles = np.quantile(got.steps, list(STEP_QUANTILES.values()), method="inverted_cdf").tolist()
    # before the first step nothing has changed yet, so that who compares with that goes on
    first = min(1 if halting.rule in ("change", "consistency") else halting.min_steps, round(steps))
    free = halting.min_steps == 0 and halting.rule != "soft"

    def relative(ndcg_n: np.ndarray, base_n: np.ndarray, of: np.ndarray) -> dict[str, Any]:
        return _relative(ndcg_n, base_n, cases.take(of))

    mix = best_mix(beside.valid_D, steps)
    at_start = first_exits.at_start(got.steps, got.ndcg, beside.values_Dn, beside.best, relative) if free else None
    return {
        "way": name,
        "rule": halting.rule,
        "threshold": halting.threshold,
        "steps": steps,
        "steps_quantiles": dict(zip(STEP_QUANTILES, quantiles, strict=True)),
        "steps_by": steps_by(got.steps, beside.sizes, cases.history.users),
        "ndcg@10": quality,
        "recall@10": float(got.recall.mean()),
        **_relative(got.ndcg, beside.depths[beside.best].ndcg, cases),
        "mix": mix._asdict() | _relative(got.ndcg, mix.quality(beside.values_Dn), cases),
        # mixed states are those of no depth
        "oracle": None if halting.rule == "soft" else oracle_beside(beside.values_Dn, first, steps, quality),
        "flops": flops_per_history(model.method, cases, halting=halting)["encode"],
        "ms": 1000 * got.encode_s / len(cases),
        **({} if at_start is None else {"at_start": at_start}),
    }


def _relative(ndcg_n: np.ndarray, base_n: np.ndarray, cases: Cases) -> dict[str, Any]:
    """Difference in NDCG@10 to the base, paired over users, as a share of the base."""
    sums = cluster_sums(np.column_stack([ndcg_n - base_n, base_n]), cases.history.users)
    draws = bootstrap_sums(sums)
    with np.errstate(divide="ignore", invalid="ignore"):  # a base that finds nothing: NaN
        low, high = interval((draws[:, 0] / draws[:, 1])[:, None])
        relative = sums[:, 0].sum() / sums[:, 1].sum()
    return {"relative": float(relative), "relative_ci95": [float(low[0]), float(high[0])]}


def _trace(method: Method, cases: Cases) -> Trace:
    return traced(method, cases)


def _traced_rows(n: int) -> np.ndarray:
    return np.arange(0, n, max(1, -(-n // 5000)))


def _thresholds(values_PT: torch.Tensor) -> list[float]:
    """Quantiles of what a rule compares, so that mean depths are spread out; equal ones once; none with one step.

    Of what is known: before the first step nothing has changed yet.
    """
    flat = values_PT[:, :-1].flatten().double()
    flat = flat[flat.isfinite()]
    if not len(flat):
        return []
    return sorted({float(q) for q in torch.quantile(flat, torch.tensor(QUANTILES, dtype=torch.float64))})


def _capped(of_valid: Trace, best: int) -> list[tuple[str, Halting]]:
    """Rules that take no step beyond the best fixed depth, so that they but save some."""
    most = max(0, best + 1 - of_valid.first)
    way = partial(Halting, min_steps=of_valid.first, max_steps=best)
    return [
        (name, way(rule=rule, threshold=t))  # type: ignore[arg-type]
        for rule, name in CAPPED.items()
        for t in _thresholds(compared(of_valid, rule)[:, :most])
    ]


def _chance(steps: float, most: int, first: int = 1) -> float:
    """The halting probability that takes so many steps on average: (1 - (1 - p)^S) / p + first - 1, S = T + 1 - first.

    Args:
        first: the step after which it may first stop.
    """
    choices, wanted = most + 1 - first, steps + 1 - first
    return cast("float", brentq(lambda p: (1 - (1 - p) ** choices) / p - wanted, 1e-9, 1.0))


def _misread(model: Recommender, split: Split, of_valid: Trace, seed: int) -> list[dict[str, Any]]:
    """What each rule bears; with one step there is nothing to decide, so nothing is told."""
    method, exclude = model.method, model.about["exclude_history"]

    def ask(way: Halting) -> dict[str, Any]:
        torch.manual_seed(seed)  # the same draws for every rule and amount
        got = _measure(method, split.test, exclude, way, 1)
        return {"exits": got.steps, "ndcg": got.ndcg}

    return misread.probe(of_valid, ask, lambda got, still: _relative(got["ndcg"], still["ndcg"], split.test))


def _indicators_compared(model: Recommender, split: Split) -> dict[str, Any]:
    """Indicators as the model reads them beside exact ones, and how often the same net decides alike on both."""
    method: Any = model.method
    own, indicators_of = method.config, {}
    try:
        for indicator_source in (own.indicator_source, "exact"):
            clusters = None if indicator_source == "exact" else own.indicator_clusters  # which exact ones refuse
            method.config = replace(own, indicator_source=indicator_source, indicator_clusters=clusters)
            indicators_of[indicator_source] = _trace(method, split.test)
    finally:
        method.config = own
    a, b = (
        indicators_of[indicator_source].indicators_PT3.numpy() for indicator_source in (own.indicator_source, "exact")
    )
    p, q = (indicators_of[indicator_source].halts_PT.numpy() for indicator_source in (own.indicator_source, "exact"))
    named = {}
    for n, name in enumerate(INDICATORS):
        x, y = a[..., n].ravel(), b[..., n].ravel()
        known = np.isfinite(x) & np.isfinite(y)  # before the first step nothing has changed yet
        x, y = x[known], y[known]
        aggregated = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else float("nan")
        named[name] = {
            "correlation": aggregated,
            "mean_difference": float(np.abs(x - y).mean()),
            "mean": float(y.mean()),
        }
    return {**named, "same_decision": {str(d): float(((p > d) == (q > d)).mean()) for d in DELTAS}}


STUDY = Study(
    name="halting",
    title="Adaptive depth: quality against cost",
    question=(
        "Does a learned halting rule beat every fixed depth, simple thresholds and chance at the same cost, and does "
        "it save time or only steps? Who takes more steps, and what could any rule save? In `shop-8000-aimless` a rule "
        "that adapts must succeed: half of the users follow nothing, so that no step helps them, and their histories "
        "show it. Intervals are over users, and those of quality paired and relative to the best fixed depth."
    ),
    variants=(
        "dtrec",
        "dtrec-exact",
        "dtrec-wide",
        "dtrec-exit-0",
        "dtrec-wide-exit-0",
        "dtrec-refined",
        "dtrec-per-step",
        "dtrec-ponder",
        "dtrec-per-step-ponder",
        *(name for name, (of, _) in ALIGNED.items() if of.startswith("dtrec")),
    ),
    write=write,
    probe=probe,
    shops=MANY_CUSTOMERS | HALF_AIMLESS,
    anywhere=True,
)
