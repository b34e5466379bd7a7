"""The page of the study of halting: who saves what, beside what nobody could save more than.

Results of before something was asked for lack it; their cells are empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forethought.reasoning.halting import INDICATORS
from forethought.studies import misread
from forethought.studies.page import Page, number
from forethought.studies.results import Result, run_name
from forethought.studies.step_groups import GROUPED, difference_words

FIXED, FITTED = "fixed depth", "ARH, fitted on validation"
LOSS = 0.01  # relative; less is no loss
CURVE = (
    *("way", "threshold", "steps", "NDCG@10", "Recall@10", "against best fixed depth"),
    *("oracle's NDCG@10 with as many steps", "oracle's steps for as much", "MFLOPs", "ms"),
)
SUMMARY = (
    *("run", "best fixed depth", "rule", "threshold", "hard steps", "p25 to p75", "NDCG@10 against best fixed depth"),
    *("time saved", "steps saved", "oracle saves at most", "if all take a step", "learnt rule saves"),
    *("longest less shortest histories", "most less least unsure", "hardest less easiest"),
)
CHOSEN = {"arh": "ARH", "change": "change (REE)", "entropy": "entropy"}
"""Rules whose thresholds validation chooses, and what they are called."""


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    probed = [run for runs in runs_of.values() for run in runs if run.probe is not None]
    if probed:
        _summary(page, probed)
    for run in probed:
        assert run.probe is not None
        page.heading(run_name(run.variant, run.dataset, run.seed))
        _one_run(page, f"{run.variant}-{run.dataset.data}-{run.dataset.cut}-{run.seed}", run.probe)


def _summary(page: Page, runs: Sequence[Result]) -> None:
    """A row a run and rule: the point that validation chose, beside what an oracle and a learnt rule could save."""
    page.heading("What is saved at no loss")
    page.say(
        "Each rule at the threshold with the fewest steps whose interval on validation lies above "
        f"-{LOSS:.0%}; without a threshold where there is none such. All figures are of the test part. What is saved "
        "is a share of what the best fixed depth takes."
    )
    if any("bounds" in (run.probe or {}) for run in runs):
        page.say(
            "An oracle that knows what comes next saves at most so many steps without a loss on average, and so bounds "
            "every rule; those here take a step before they may stop, and so can save no more than an oracle that must "
            "take one, too. A rule that is fitted to other users' cases, and reads the indicators of all steps and the "
            f"length of the history, saves so many with its interval above -{LOSS:.0%}. The last three columns say how "
            "many steps more the longest histories take than the shortest, and the hardest than the easiest, by the "
            "entropy or by the rank of the next item before the first step (fifths of the cases); at that threshold, "
            "and in brackets where the rule's steps are nearest to the middle, as there may be nobody who adapts."
        )
    _filled(page, SUMMARY, [_summary_row(run, rule) for run in runs for rule in _tried(run)])


def _filled(page: Page, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table without the columns in which nobody has anything."""
    kept = [column for column in range(len(head)) if any(row[column] != "" for row in rows)]
    page.table([head[column] for column in kept], [[row[column] for column in kept] for row in rows])


def _tried(run: Result) -> list[str]:
    """Rules whose thresholds were tried on validation; once that was ARH alone."""
    return [rule for rule in CHOSEN if any(p["rule"] == rule and "valid" in p for p in (run.probe or {})["curve"])]


def _summary_row(run: Result, rule: str) -> list[object]:
    figures = run.probe or {}
    best, point, bounds = _best(figures), chosen(figures, rule), figures.get("bounds")
    own: list[object] = [""] * 6
    if point is not None:
        own = [f"{point['threshold']:.3g}", f"{point['steps']:.2f}", _quartiles(point), relative_words(point)]
        own += [_share(point[key], best[key]) for key in ("ms", "steps")]
    bound: list[float | None] = [None] * 3
    if bounds is not None:
        least = _least(bounds)
        bound = [
            bounds["oracle"]["steps_at_no_loss"],
            best["oracle"]["steps"],
            None if least is None else least["steps"],
        ]
    return [
        *(run_name(run.variant, run.dataset, run.seed), f"{best['steps']:.0f}", CHOSEN[rule], *own),
        *(_share(steps, best["steps"]) for steps in bound),
        *(_differences((point, _middle(figures, rule)), by) for by in GROUPED),
    ]


def _one_run(page: Page, name: str, figures: dict[str, Any]) -> None:
    page.say(
        f"Trained for {figures['trained_steps']} steps; best fixed depth on validation: {figures['best_fixed']} "
        f"(NDCG@10 by depth: {', '.join(f'{d}: {v:.4f}' for d, v in figures['valid_ndcg'].items())}). "
        f"{verdict(figures)}"
    )
    if "bounds" in figures:
        page.say(_bounds_words(figures))
    with page.plot(name, "NDCG@10 against mean steps and against time, a line for each way of halting", 2) as both:
        for axes, x, label in zip(both, ("steps", "ms"), ("mean steps", "ms a history"), strict=True):
            for way in dict.fromkeys(p["way"] for p in figures["curve"]):
                points = sorted((p[x], p["ndcg@10"]) for p in figures["curve"] if p["way"] == way)
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=way)
            axes.set_xlabel(label)
            axes.set_ylabel("NDCG@10")
        both[1].legend(frameon=False, fontsize=8)
    quantiles = figures["curve"][0]["steps_quantiles"]
    named = quantiles if isinstance(quantiles, Mapping) else ("p10", "p50", "p90")
    _filled(page, (*CURVE[:3], " / ".join(named), *CURVE[3:]), [_curve_row(point) for point in figures["curve"]])
    _groups(page, figures["curve"])
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


def _curve_row(point: Mapping[str, Any]) -> list[object]:
    bound = point.get("oracle")
    return [
        *(point["way"], _threshold(point), f"{point['steps']:.2f}", _quantiles(point)),
        *(point["ndcg@10"], point["recall@10"], relative_words(point)),
        *(("", "") if bound is None else (number(bound["ndcg@10"]), _steps(bound["steps"]))),
        *(f"{point['flops'] / 1e6:.2f}", f"{point['ms']:.3f}"),
    ]


def _groups(page: Page, curve: Sequence[Mapping[str, Any]]) -> None:
    """Mean steps by group, of those ways in which not everybody takes the same."""
    adapting = [point for point in curve if point["rule"] not in ("fixed", "soft")]
    if not adapting:
        return
    by = list(GROUPED) if any("steps_by" in point for point in adapting) else ["length"]
    page.say(
        "Mean steps by fifths of the cases, from the lowest to the highest (where many are equal, fewer groups), and "
        "how many more the highest take than the lowest, with an interval over users:"
    )
    _filled(
        page,
        ["way", "threshold", "steps", *(word for name in by for word in (f"by {GROUPED[name]}", "difference"))],
        [
            [
                *(point["way"], _threshold(point), f"{point['steps']:.2f}"),
                *(word for name in by for word in (_means(point, name), _difference(point, name))),
            ]
            for point in adapting
        ],
    )


def _means(point: Mapping[str, Any], by: str) -> str:
    means = point["steps_by"][by]["means"] if "steps_by" in point else point["steps_by_length"]
    return ", ".join(f"{steps:.2f}" for steps in means.values())


def _difference(point: Mapping[str, Any], by: str) -> str:
    return difference_words(point["steps_by"][by]) if "steps_by" in point else ""


def _differences(points: Sequence[Mapping[str, Any] | None], by: str) -> str:
    """Of two points, the second in brackets; of one that is not there nothing."""
    first, second = ("" if point is None else _difference(point, by) for point in points)
    return f"{first} ({second})".lstrip() if second else first


def _middle(figures: Mapping[str, Any], rule: str) -> dict[str, Any] | None:
    """A rule where its mean steps are nearest to halfway between the first and the last."""
    points = [point for point in figures["curve"] if point["rule"] == rule]
    halfway = (figures["trained_steps"] + 1) / 2
    return min(points, key=lambda point: abs(point["steps"] - halfway), default=None)


def _threshold(point: Mapping[str, Any]) -> str:
    return "" if point["rule"] in ("fixed", "soft") else f"{point['threshold']:.3g}"


def _quantiles(point: Mapping[str, Any]) -> str:
    """Of steps; those of before were three without names."""
    of = point["steps_quantiles"]
    return " / ".join(f"{steps:.0f}" for steps in (of.values() if isinstance(of, Mapping) else of))


def _quartiles(point: Mapping[str, Any]) -> str:
    of = point["steps_quantiles"]
    return f"{of['p25']:.0f} to {of['p75']:.0f}" if isinstance(of, Mapping) else ""


def _steps(steps: float | None) -> str:
    return "none suffice" if steps is None else f"{steps:.2f}"


def _share(spent: float | None, of: float) -> str:
    """What is saved of a base, as a share; of nothing nothing can be saved."""
    return "" if spent is None or not of else f"{1 - spent / of:.1%}"


def _raw_noise(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Results of before noise was told in deviations."""
    page.say("Noise on the indicators (Gaussian, in their own scale), each rule at its median threshold:")
    page.table(
        ["way", "noise", "steps", "same exit as without", "NDCG@10"],
        [(n["way"], f"{n['noise']:g}", f"{n['steps']:.2f}", f"{n['same_exit']:.0%}", n["ndcg@10"]) for n in rows],
    )


def _bounds_words(figures: dict[str, Any]) -> str:
    """What any rule could reach, in sentences."""
    bounds, known = figures["bounds"], figures["bounds"]["oracle"]
    said = (
        f"An oracle that knows what comes next has NDCG@10 {known['ndcg@10']:.4f} with {known['steps']:.2f} steps. "
        f"With {known['steps_at_no_loss']:.2f} it is as good as the best fixed depth ({bounds['best_fixed_ndcg']:.4f} "
        f"with {figures['best_fixed']}), and no rule can do with fewer."
    )
    points = [point for point in bounds["learnt"] if _known(point)]
    if not points:
        return said
    top, least = max(points, key=lambda point: point["ndcg@10"]), _least(bounds)
    return (
        f"{said} On {bounds['cases']:,} of the cases a rule fitted to other users' cases has at best "
        f"{top['ndcg@10']:.4f} with {top['steps']:.2f} steps ({relative_words(top)} against the best fixed depth); "
        + ("no price of a step keeps" if least is None else f"{least['steps']:.2f} steps are the fewest that keep")
        + f" the lower end of its interval above -{LOSS:.0%}."
    )


def _least(bounds: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The learnt rule with the fewest steps at no loss."""
    sound = [point for point in bounds["learnt"] if _known(point) and point["relative_ci95"][0] > -LOSS]
    return min(sound, key=lambda point: point["steps"], default=None)


def _fitted_words(figures: Mapping[str, Any]) -> str:
    """The threshold that validation chose, and what it comes to on the test part."""
    point = next(p for p in figures["curve"] if p["way"] == FITTED)
    return (
        f"{figures['fitted']} On the test part it takes {point['steps']:.2f} steps, with NDCG@10 "
        f"{point['ndcg@10']:.4f} ({relative_words(point)} against the best fixed depth)."
    )


def _best(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The point of the best fixed depth."""
    return next(p for p in figures["curve"] if p["way"] == FIXED and p["steps"] == figures["best_fixed"])


def chosen(figures: Mapping[str, Any], rule: str = "arh") -> dict[str, Any] | None:
    """A rule with the fewest steps at no loss against the best fixed depth, all on validation; None: no point."""
    ways = [p for p in figures["curve"] if p["rule"] == rule and "valid" in p and _known(p["valid"])]
    sound = [p for p in ways if p["valid"]["relative_ci95"][0] > -LOSS]
    return min(sound, key=lambda p: p["valid"]["steps"], default=None)


def verdict(figures: Mapping[str, Any]) -> str:
    """How many steps are saved at no loss? Chosen on validation, told of the test part."""
    best, point = _best(figures), chosen(figures)
    if not best["steps"]:
        return "No step is needed."
    if point is None:
        return f"On validation no ARH point keeps the lower end of its interval above -{LOSS:.0%}."
    all_steps = max((p for p in figures["curve"] if p["way"] == FIXED), key=lambda p: p["steps"])
    return (
        f"ARH with the fewest steps whose interval on validation is above -{LOSS:.0%} has the threshold "
        f"{point['threshold']:.3g}. On the test part it takes {point['steps']:.2f} steps; against the best fixed "
        f"depth NDCG@10 {relative_words(point)}, {_saved(point, best)}. Against always taking all "
        f"{all_steps['steps']:.0f} steps: NDCG@10 {point['ndcg@10'] / all_steps['ndcg@10'] - 1:+.1%}, "
        f"{_saved(point, all_steps)}."
    )


def _saved(point: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    shares = (
        (what, 1 - point[key] / base[key]) for what, key in (("steps", "steps"), ("FLOPs", "flops"), ("time", "ms"))
    )
    return ", ".join(f"{what} saved {share:.1%}" for what, share in shares)


def _known(figures: Mapping[str, Any]) -> bool:
    """Of a base that finds nothing in some resample there are no shares."""
    return None not in figures["relative_ci95"]


def relative_words(difference: Mapping[str, Any]) -> str:
    if not _known(difference):
        return "unknown"
    low, high = difference["relative_ci95"]
    return f"{difference['relative']:+.1%} [{low:+.1%}, {high:+.1%}]"
