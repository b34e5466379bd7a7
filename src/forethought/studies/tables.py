"""The table that most studies share: variants side by side, with seeds, intervals, differences and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from forethought.escaping import Markdown, markdown
from forethought.studies import results
from forethought.studies.differences import METRICS
from forethought.studies.page import Page, number
from forethought.studies.results import Place, Result


def standing(page: Page, found: Mapping[str, Sequence[Result]], study: str) -> None:
    """A table and a plot for each place; where hardly anything was done there are none, if another place has more."""
    first, places = next(iter(found)), results.places(found)
    told = {place: results.at(found, place) for place in places}
    begun = {place: here for place, here in told.items() if first in here and len(here) > 1}
    for place, here in (begun or told).items():
        page.heading(place)
        page.say(_protocol(here))
        _table(page, here, results.differences(page.folder, study, place))
        _plot(page, here, place)


def _protocol(here: Mapping[str, Sequence[Result]]) -> str:
    told = next(iter(here.values()))[0].parts["protocol"]
    excluded = "" if told["history_excluded"] else "not "
    return (
        f"{markdown(told['split'].replace('_', '-'))}, full ranking of {told['n_items']:,} items for "
        f"{told['n_cases']:,} cases, history {excluded}excluded. Mean over seeds ± their standard deviation, in "
        "brackets the 95% interval over users (mean bounds over seeds), which knows nothing of the luck of a seed; "
        "differences are paired over users, relative to the same seeds of the first row, p after Holm. Seconds of "
        "training are those of a machine that may have had other work: `make bench` tells of speed."
    )


def _table(page: Page, here: Mapping[str, Sequence[Result]], differences: Mapping[str, dict]) -> None:
    head = ["variant", "seeds", "valid NDCG@10"]
    for metric in METRICS:
        head += [metric, "difference"]
    head += ["parameters", "steps", "MFLOPs a history", "ms a history", "s an epoch", "epochs"]
    rows = []
    for variant, runs in here.items():
        valid = sum(run.parts["valid"]["ndcg@10"] for run in runs) / len(runs)
        row: list[object] = [variant, len(runs), valid]
        for metric in METRICS:
            row += [_mean(runs, metric), _difference(differences.get(f"{variant} {metric}"))]
        rows.append(row + _cost(runs))
    page.table(head, rows)


def _mean(runs: Sequence[Result], metric: str) -> Markdown:
    mean, spread = results.over_seeds(runs, metric)
    low, high = (sum(run.parts["metrics"][metric]["ci95"][side] for run in runs) / len(runs) for side in (0, 1))
    return Markdown(f"**{mean:.4f}**{'' if math.isnan(spread) else f' ± {spread:.4f}'} [{low:.4f}, {high:.4f}]")


def _difference(told: dict | None) -> str:
    if told is None:
        return ""
    low, high = told["relative"]["ci95"]
    return f"{told['relative']['mean']:+.1%} [{low:+.1%}, {high:+.1%}], p {told['p_holm']:.3f}"


def _cost(runs: Sequence[Result]) -> list[object]:
    def mean(*path: str) -> float:
        values = []
        for run in runs:
            here = run.parts["cost"]
            for key in path:
                here = (here or {}).get(key)
            if here is not None:
                values.append(here)
        return sum(values) / len(values) if values else float("nan")

    return [
        f"{mean('parameters'):,.0f}",
        number(mean("steps"), 2),
        number(mean("flops_per_history", "encode") / 1e6, 2),
        number(mean("ms_per_history", "encode"), 3),
        number(mean("training", "s_per_epoch"), 1),
        number(mean("training", "epochs"), 1),
    ]


def _plot(page: Page, here: Mapping[str, Sequence[Result]], place: Place) -> None:
    with page.plot(f"{place.data}-{place.ties}", f"NDCG@10 of every variant on {place}: a dot a seed") as (axes,):
        for at, runs in enumerate(here.values()):
            values = [run.mean("ndcg@10") for run in runs]
            low, high = (
                sum(run.parts["metrics"]["ndcg@10"]["ci95"][side] for run in runs) / len(runs) for side in (0, 1)
            )
            axes.plot([low, high], [-at, -at], color="#bbbbbb", linewidth=2, zorder=1)
            axes.scatter(values, [-at] * len(values), s=22, color="#0072B2", zorder=2)
        axes.set_yticks([-n for n in range(len(here))], list(here))
        axes.locator_params(axis="x", nbins=5)  # five figures each want room
        axes.set_xlabel("test NDCG@10; grey: 95% interval over users")
