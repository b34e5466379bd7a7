"""How deep to think: quality against cost, for every fixed depth and every rule that stops by itself.

Thresholds are set on the validation part, so that each rule is tried at several mean depths; the best fixed depth and
the threshold of ARH that is told of in words are chosen there too. Every figure is of the test part. Nothing is
trained: one model, halted in many ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from scipy.optimize import brentq

from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.flops import flops_per_history
from forethought.evaluation.groups import quantile_groups
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.statistics import bootstrap_sums, cluster_sums, interval
from forethought.evaluation.thresholds import fit_threshold, traced
from forethought.methods.interface import Method
from forethought.reasoning.halting import INDICATORS, Halting, Trace
from forethought.recommender import Recommender
from forethought.studies import misread
from forethought.studies.oracle import learnt, oracle
from forethought.studies.page import Page
from forethought.studies.results import Result, run_name
from forethought.studies.study import Study
from forethought.studies.variants import ALIGNED

DELTAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
QUANTILES = (0.15, 0.3, 0.5, 0.7, 0.85)
TOLERANCE = 0.01  # of NDCG@10, where validation chooses the threshold
REPETITIONS = 3  # of what is timed
FITTED = "ARH, fitted on validation"
LOSS = 0.01  # relative; less is no loss


@dataclass(frozen=True)
class Measured:
    """One way of halting on one part: per case, and what it cost."""

    ndcg: np.ndarray
    recall: np.ndarray
    steps: np.ndarray
    encode_s: float


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """All curves of one model."""
    method, exclude = model.method, model.about["exclude_history"]
    T = 0 if method.reasoning is None else method.reasoning.depth
    valid = {d: _measure(method, split.valid, exclude, Halting(rule="fixed", max_steps=d), 1) for d in range(T + 1)}
    best = max(valid, key=lambda d: valid[d].ndcg.mean())
    of_valid = _trace(method, split.valid)
    ways = [("fixed depth", Halting(rule="fixed", max_steps=d)) for d in range(T + 1)]
    ways += [("soft", Halting(rule="soft"))]
    ways += [("ARH", Halting(rule="arh", threshold=delta)) for delta in DELTAS]
    ways += [("ARH, quantiles", Halting(rule="arh", threshold=t)) for t in _thresholds(of_valid.halts_PT)]
    for name, rule in (("change (REE)", "change"), ("entropy", "entropy")):
        column = of_valid.indicators_PT3[..., INDICATORS.index(rule)]
        ways += [(name, Halting(rule=rule, threshold=t)) for t in _thresholds(column)]  # type: ignore[arg-type]
    fitted = None
    if T > 1 and "arh" in method.reasoning.rules:  # type: ignore[union-attr]
        own = replace(method.reasoning.halting, rule="arh")  # type: ignore[union-attr]
        fitted = fit_threshold(method, split.valid, exclude_history=exclude, halting=own, tolerance=TOLERANCE)
        ways += [(FITTED, fitted.halting)]
    base = _measure(method, split.test, exclude, Halting(rule="fixed", max_steps=best), REPETITIONS)
    curve = [_point(name, way, model, split, base) for name, way in ways]
    for point, (_, way) in zip(curve, ways, strict=True):
        if way.rule == "arh" and point["way"] != FITTED:
            got = _measure(method, split.valid, exclude, way, 1)
            point["valid"] = {"steps": float(got.steps.mean()), **_relative(got, valid[best], split.valid)}
    for point in [p for p in curve if p["way"] == "ARH, quantiles" and 1 < p["steps"] < T]:
        random = Halting(rule="random", threshold=_chance(point["steps"], T))
        curve.append(_point("random", random, model, split, base, seed))
    return {
        "trained_steps": T,
        "best_fixed": best,
        "valid_ndcg": {str(d): float(m.ndcg.mean()) for d, m in valid.items()},
        "curve": curve,
        "bounds": _bounds(model, split, best, seed),
        "fitted": None if fitted is None else str(fitted),
        "misread": _misread(model, split, of_valid, seed),
        "indicators": _indicators_compared(model, split),
    }


def _bounds(model: Recommender, split: Split, best: int, seed: int) -> dict[str, Any]:
    """What any rule could reach, on the cases whose indicators are traced."""
    method, cases = model.method, split.test
    rows = _traced_rows(len(cases))
    depth = 0 if method.reasoning is None else method.reasoning.depth
    fixed = [Halting(rule="fixed", max_steps=steps) for steps in range(depth + 1)]
    exclude = model.about["exclude_history"]
    values_Dn = np.stack([_measure(method, cases.take(rows), exclude, way, 1).ndcg for way in fixed])
    of_test, history = _trace(method, cases), cases.history.take(rows)
    read_nF = torch.cat([of_test.indicators_PT3.flatten(1), of_test.halts_PT], dim=1).double().numpy()
    features_nF = np.column_stack([read_nF, history.lengths])
    chosen = learnt(values_Dn, features_nF, history.users, seed) if depth and len(np.unique(history.users)) > 1 else []
    base, points = Measured(values_Dn[best], values_Dn[best], np.full(len(rows), best), 0.0), []
    for price, depth_n in chosen:
        quality_n = values_Dn[depth_n, np.arange(len(rows))]
        point = {"price": price, "steps": float(depth_n.mean()), "ndcg@10": float(quality_n.mean())}
        points.append(point | _relative(Measured(quality_n, quality_n, depth_n, 0.0), base, cases.take(rows)))
    return {
        "cases": len(rows),
        "best_fixed_ndcg": float(values_Dn[best].mean()),
        "oracle": oracle(values_Dn, best),
        "learnt": points,
    }


def _bounds_words(figures: dict[str, Any]) -> str:
    """What any rule could reach, in sentences."""
    bounds, known = figures["bounds"], figures["bounds"]["oracle"]
    said = (
        f"On {bounds['cases']:,} of these cases an oracle that knows what comes next has NDCG@10 "
        f"{known['ndcg@10']:.4f} with {known['steps']:.2f} steps. With {known['steps_at_no_loss']:.2f} it is as good "
        f"as the best fixed depth ({bounds['best_fixed_ndcg']:.4f} with {figures['best_fixed']}), and no rule can do "
        "with fewer."
    )
    points = [point for point in bounds["learnt"] if _known(point)]
    if not points:
        return said
    top = max(points, key=lambda point: point["ndcg@10"])
    sound = [point for point in points if point["relative_ci95"][0] > -LOSS]
    least = min(sound, key=lambda point: point["steps"], default=None)
    return (
        f"{said} A rule fitted to other users' cases, which reads the indicators of all steps and the length of the "
        f"history, has at best {top['ndcg@10']:.4f} with {top['steps']:.2f} steps ({_relative_words(top)} against the "
        "best fixed depth); "
        + ("no price of a step keeps" if least is None else f"{least['steps']:.2f} steps are the fewest that keep")
        + f" the lower end of its interval above -{LOSS:.0%}."
    )


def _measure(method: Method, cases: Cases, exclude: bool, halting: Halting, repetitions: int) -> Measured:
    ranked = [rank_cases(method, cases, exclude_history=exclude, halting=halting) for _ in range(repetitions)]
    seconds = min(each.seconds["encode"] for each in ranked)
    return Measured(ndcg(ranked[0].ranks, 10), recall(ranked[0].ranks, 10), ranked[0].steps, seconds)


def _point(
    name: str, halting: Halting, model: Recommender, split: Split, base: Measured, seed: int = 0
) -> dict[str, Any]:
    """One point of the curve, with its paired difference to the best fixed depth, relative."""
    torch.manual_seed(seed)
    cases = split.test
    got = _measure(model.method, cases, model.about["exclude_history"], halting, REPETITIONS)
    groups = quantile_groups(cases.history.lengths)
    return {
        "way": name,
        "rule": halting.rule,
        "threshold": halting.threshold,
        "steps": float(got.steps.mean()),
        "steps_quantiles": np.quantile(got.steps, [0.1, 0.5, 0.9]).tolist(),
        "steps_by_length": {str(g): float(got.steps[groups == g].mean()) for g in np.unique(groups)},
        "ndcg@10": float(got.ndcg.mean()),
        "recall@10": float(got.recall.mean()),
        **_relative(got, base, cases),
        "flops": flops_per_history(model.method, cases, halting=halting)["encode"],
        "ms": 1000 * got.encode_s / len(cases),
    }


def _relative(got: Measured, base: Measured, cases: Cases) -> dict[str, Any]:
    """Difference in NDCG@10 to the base, paired over users, as a share of the base."""
    sums = cluster_sums(np.column_stack([got.ndcg - base.ndcg, base.ndcg]), cases.history.users)
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
    """Quantiles of what a rule compares, so that mean depths are spread out; equal ones once; none with one step."""
    flat = values_PT[:, :-1].flatten().double()
    if not len(flat):
        return []
    return sorted({float(q) for q in torch.quantile(flat, torch.tensor(QUANTILES, dtype=torch.float64))})


def _chance(steps: float, most: int) -> float:
    """The halting probability that takes so many steps on average: (1 - (1 - p)^T) / p."""
    return cast("float", brentq(lambda p: (1 - (1 - p) ** most) / p - steps, 1e-9, 1.0))


def _misread(model: Recommender, split: Split, of_valid: Trace, seed: int) -> list[dict[str, Any]]:
    """What each rule bears; with one step there is nothing to decide, so nothing is told."""
    method, exclude = model.method, model.about["exclude_history"]

    def ask(way: Halting) -> dict[str, Any]:
        torch.manual_seed(seed)  # the same draws for every rule and amount
        got = _measure(method, split.test, exclude, way, 1)
        return {"exits": got.steps, "ndcg": got.ndcg, "measured": got}

    return misread.probe(of_valid, ask, lambda got, still: _relative(got["measured"], still["measured"], split.test))


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
        aggregated = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else float("nan")
        named[name] = {
            "correlation": aggregated,
            "mean_difference": float(np.abs(x - y).mean()),
            "mean": float(y.mean()),
        }
    return {**named, "same_decision": {str(d): float(((p > d) == (q > d)).mean()) for d in DELTAS}}


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    for variant, runs in runs_of.items():
        for run in runs:
            if run.probe is None:
                continue
            page.heading(run_name(run.variant, run.dataset, run.seed))
            _one_run(page, f"{variant}-{run.dataset.data}-{run.dataset.cut}-{run.seed}", run.probe)


def _one_run(page: Page, name: str, figures: dict[str, Any]) -> None:
    page.say(
        f"Trained for {figures['trained_steps']} steps; best fixed depth on validation: {figures['best_fixed']} "
        f"(NDCG@10 by depth: {', '.join(f'{d}: {v:.4f}' for d, v in figures['valid_ndcg'].items())}). "
        f"{_verdict(figures)}"
    )
    if "bounds" in figures:  # results of before they were asked for have none
        page.say(_bounds_words(figures))
    with page.plot(name, "NDCG@10 against mean steps and against time, a line for each way of halting", 2) as both:
        for axes, x, label in zip(both, ("steps", "ms"), ("mean steps", "ms a history"), strict=True):
            for way in dict.fromkeys(p["way"] for p in figures["curve"]):
                points = sorted((p[x], p["ndcg@10"]) for p in figures["curve"] if p["way"] == way)
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=way)
            axes.set_xlabel(label)
            axes.set_ylabel("NDCG@10")
        both[1].legend(frameon=False, fontsize=8)
    page.table(
        [
            "way",
            "threshold",
            "steps",
            "NDCG@10",
            "Recall@10",
            "against best fixed depth",
            "MFLOPs",
            "ms",
            "steps by length G1..G5",
        ],
        [
            (
                p["way"],
                "" if p["rule"] in ("fixed", "soft") else f"{p['threshold']:.3g}",
                f"{p['steps']:.2f}",
                p["ndcg@10"],
                p["recall@10"],
                _relative_words(p),
                f"{p['flops'] / 1e6:.2f}",
                f"{p['ms']:.3f}",
                ", ".join(f"{s:.2f}" for s in p["steps_by_length"].values()),
            )
            for p in figures["curve"]
        ],
    )
    if figures.get("fitted"):
        page.say(_fitted_words(figures))
    if figures.get("misread"):
        misread.write(page, figures["misread"])
    elif figures.get("noise"):
        _raw_noise(page, figures["noise"])
    of = figures["indicators"]
    page.say("Indicators as the model reads them beside exact ones (test part, all steps):")
    page.table(
        ["indicator", "correlation", "mean absolute difference", "mean"],
        [
            (n, f"{of[n]['correlation'] or float('nan'):.3f}", of[n]["mean_difference"], of[n]["mean"])
            for n in INDICATORS
        ],
    )
    same = ", ".join(f"{d}: {share:.0%}" for d, share in of["same_decision"].items())
    page.say(f"The halting net decides alike on both, by threshold: {same}.")


def _raw_noise(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Results of before noise was told in deviations."""
    page.say("Noise on the indicators (Gaussian, in their own scale), each rule at its median threshold:")
    page.table(
        ["way", "noise", "steps", "same exit as without", "NDCG@10"],
        [(n["way"], f"{n['noise']:g}", f"{n['steps']:.2f}", f"{n['same_exit']:.0%}", n["ndcg@10"]) for n in rows],
    )


def _fitted_words(figures: Mapping[str, Any]) -> str:
    """The threshold that validation chose, and what it comes to on the test part."""
    point = next(p for p in figures["curve"] if p["way"] == FITTED)
    return (
        f"{figures['fitted']} On the test part it takes {point['steps']:.2f} steps, with NDCG@10 "
        f"{point['ndcg@10']:.4f} ({_relative_words(point)} against the best fixed depth)."
    )


def _verdict(figures: dict[str, Any]) -> str:
    """The issue's question: how many steps are saved at no loss? Chosen on validation, told of the test part."""
    best = next(p for p in figures["curve"] if p["way"] == "fixed depth" and p["steps"] == figures["best_fixed"])
    if not best["steps"]:
        return "No step is needed."
    ways = [p for p in figures["curve"] if p["rule"] == "arh" and "valid" in p and _known(p["valid"])]
    sound = [p for p in ways if p["valid"]["relative_ci95"][0] > -LOSS]
    if not sound:
        return f"On validation no ARH point keeps the lower end of its interval above -{LOSS:.0%}."
    chosen = min(sound, key=lambda p: p["valid"]["steps"])
    all_steps = max((p for p in figures["curve"] if p["way"] == "fixed depth"), key=lambda p: p["steps"])
    return (
        f"ARH with the fewest steps whose interval on validation is above -{LOSS:.0%} has the threshold "
        f"{chosen['threshold']:.3g}. On the test part it takes {chosen['steps']:.2f} steps; against the best fixed "
        f"depth NDCG@10 {_relative_words(chosen)}, {_saved(chosen, best)}. Against always taking all "
        f"{all_steps['steps']:.0f} steps: NDCG@10 {chosen['ndcg@10'] / all_steps['ndcg@10'] - 1:+.1%}, "
        f"{_saved(chosen, all_steps)}."
    )


def _saved(point: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    shares = (
        (what, 1 - point[key] / base[key]) for what, key in (("steps", "steps"), ("FLOPs", "flops"), ("time", "ms"))
    )
    return ", ".join(f"{what} saved {share:.1%}" for what, share in shares)


def _known(figures: Mapping[str, Any]) -> bool:
    """Of a base that finds nothing in some resample there are no shares."""
    return None not in figures["relative_ci95"]


def _relative_words(difference: Mapping[str, Any]) -> str:
    if not _known(difference):
        return "unknown"
    low, high = difference["relative_ci95"]
    return f"{difference['relative']:+.1%} [{low:+.1%}, {high:+.1%}]"


STUDY = Study(
    name="halting",
    title="Adaptive depth: quality against cost",
    question=(
        "Does a learned halting rule beat every fixed depth, simple thresholds and chance at the same cost, and does "
        "it save time or only steps? Intervals are paired, over users, relative to the best fixed depth."
    ),
    variants=(
        "dtrec",
        "dtrec-exact",
        "dtrec-wide",
        *(name for name, (of, _) in ALIGNED.items() if of.startswith("dtrec")),
    ),
    write=write,
    probe=probe,
)
