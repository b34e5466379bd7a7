"""The page of the study of halting: who saves what, beside what nobody could save more than.

Results of before something was asked for lack it; their cells are empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forethought.reasoning.halting import INDICATORS
from forethought.studies import first_exits, misread
from forethought.studies.halting_points import (
    CHOSEN,
    FITTED,
    FIXED,
    LOSS,
    best_depth,
    chosen,
    is_known,
    least_learnt,
    relative_words,
    saved_share,
    threshold_words,
)
from forethought.studies.page import Page, number
from forethought.studies.results import Result, run_name
from forethought.studies.step_groups import GROUPED, difference_words

CURVE = (
    *("way", "threshold", "steps", "NDCG@10", "Recall@10"),
    *("against best fixed depth", "against fixed depths by chance"),
    *("oracle's NDCG@10 with as many steps", "oracle's steps for as much", "MFLOPs", "ms"),
)
SUMMARY = (
    *("run", "best fixed depth", "rule", "threshold", "hard steps", "p25 to p75", "NDCG@10 against best fixed depth"),
    *("against fixed depths by chance", "time saved", "steps saved"),
    *("oracle saves at most", "if all take a step", "learnt rule saves"),
    *("longest less shortest histories", "most less least unsure", "hardest less easiest"),
)


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
    if any("mix" in p for run in runs for p in (run.probe or {})["curve"]):
        page.say(
            "Steps are saved without reading anything, too, where two fixed depths are dealt to the cases by chance: "
            "those that validation holds best with no more steps than the rule takes. Only what is better than that "
            "adapts."
        )
    if any("bounds" in (run.probe or {}) for run in runs):
        page.say(
            "An oracle that knows what comes next saves at most so many steps without a loss on average, and so bounds "
            "every rule; those here take a step before they may stop, and so can save no more than an oracle that must "
            f"take one, too{_but_those(runs)}. A rule that is fitted to other users' cases, and reads the indicators "
            "of all steps and the length of the history, saves so many with its interval above "
            f"-{LOSS:.0%}. The last three columns say how many steps more the longest histories take than the "
            "shortest, and the hardest than the easiest, by the entropy or by the rank of the next item before the "
            "first step (fifths of the cases); at that threshold, and in brackets where the rule's steps are nearest "
            "to the middle, as there may be nobody who adapts."
        )
    _filled(page, SUMMARY, [_summary_row(run, rule) for run in runs for rule in _tried(run)])


def _but_those(runs: Sequence[Result]) -> str:
    """Runs whose rules may stop before the first step, if there are any."""
    free = [run for run in runs if first_exits.may_stop_at_start(run.probe or {})]
    names = ", ".join(run_name(run.variant, run.dataset, run.seed) for run in free)
    return f", but for those that may stop before the first ({names}), which the freer oracle bounds" if free else ""


def _filled(page: Page, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table without the columns in which nobody has anything."""
    kept = [column for column in range(len(head)) if any(row[column] != "" for row in rows)]
    page.table([head[column] for column in kept], [[row[column] for column in kept] for row in rows])


def _tried(run: Result) -> list[str]:
    """Rules whose thresholds were tried on validation; once that was ARH alone."""
    return [rule for rule in CHOSEN if any(p["rule"] == rule and "valid" in p for p in (run.probe or {})["curve"])]


def _summary_row(run: Result, rule: str) -> list[object]:
    figures = run.probe or {}
    best, point, bounds = best_depth(figures), chosen(figures, rule), figures.get("bounds")
    own: list[object] = [""] * 7
    if point is not None:
        own = [f"{point['threshold']:.3g}", f"{point['steps']:.2f}", _quartiles(point)]
        own += [relative_words(point), _mix_words(point)]
        own += [saved_share(point[key], best[key]) for key in ("ms", "steps")]
    bound: list[float | None] = [None] * 3
    if bounds is not None:
        least = least_learnt(bounds)
        bound = [
            bounds["oracle"]["steps_at_no_loss"],
            best["oracle"]["steps"],
            None if least is None else least["steps"],
        ]
    return [
        *(run_name(run.variant, run.dataset, run.seed), f"{best['steps']:.0f}", CHOSEN[rule], *own),
        *(saved_share(steps, best["steps"]) for steps in bound),
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
    if first_exits.may_stop_at_start(figures):
        first_exits.write(page, figures)
    with page.plot(name, "NDCG@10 against mean steps and against time, a line for each way of halting", 2) as both:
        for axes, x, label in zip(both, ("steps", "ms"), ("mean steps", "ms a history"), strict=True):
            for way in dict.fromkeys(p["way"] for p in figures["curve"]):
                points = sorted((p[x], p["ndcg@10"]) for p in figures["curve"] if p["way"] == way)
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=way)
            axes.set_xlabel(label)
            axes.set_ylabel("NDCG@10")
        names = both[1].get_legend_handles_labels()
        both[1].figure.legend(*names, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
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
        *(point["way"], threshold_words(point), f"{point['steps']:.2f}", _quantiles(point)),
        *(point["ndcg@10"], point["recall@10"], relative_words(point), _mix_words(point)),
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
                *(point["way"], threshold_words(point), f"{point['steps']:.2f}"),
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
    first = 0 if first_exits.may_stop_at_start(figures) else 1
    halfway = (figures["trained_steps"] + first) / 2
    return min(points, key=lambda point: abs(point["steps"] - halfway), default=None)


def _quantiles(point: Mapping[str, Any]) -> str:
    """Of steps; those of before were three without names."""
    of = point["steps_quantiles"]
    return " / ".join(f"{steps:.0f}" for steps in (of.values() if isinstance(of, Mapping) else of))


def _quartiles(point: Mapping[str, Any]) -> str:
    of = point["steps_quantiles"]
    return f"{of['p25']:.0f} to {of['p75']:.0f}" if isinstance(of, Mapping) else ""


def _mix_words(point: Mapping[str, Any]) -> str:
    return relative_words(point["mix"]) if "mix" in point else ""


def _steps(steps: float | None) -> str:
    return "none suffice" if steps is None else f"{steps:.2f}"


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
    points = [point for point in bounds["learnt"] if is_known(point)]
    if not points:
        return said
    top, least = max(points, key=lambda point: point["ndcg@10"]), least_learnt(bounds)
    return (
        f"{said} On {bounds['cases']:,} of the cases a rule fitted to other users' cases has at best "
        f"{top['ndcg@10']:.4f} with {top['steps']:.2f} steps ({relative_words(top)} against the best fixed depth); "
        + ("no price of a step keeps" if least is None else f"{least['steps']:.2f} steps are the fewest that keep")
        + f" the lower end of its interval above -{LOSS:.0%}."
    )


def _fitted_words(figures: Mapping[str, Any]) -> str:
    """The threshold that validation chose, and what it comes to on the test part."""
    point = next(p for p in figures["curve"] if p["way"] == FITTED)
    return (
        f"{figures['fitted']} On the test part it takes {point['steps']:.2f} steps, with NDCG@10 "
        f"{point['ndcg@10']:.4f} ({relative_words(point)} against the best fixed depth)."
    )


def verdict(figures: Mapping[str, Any]) -> str:
    """How many steps are saved at no loss? Chosen on validation, told of the test part."""
    best, point = best_depth(figures), chosen(figures)
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
