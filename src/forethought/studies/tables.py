"""The table that most studies share: variants side by side, with seeds, intervals, differences and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from forethought.escaping import Markdown, markdown
from forethought.studies import results
from forethought.studies.budgets import trials
from forethought.studies.differences import COMPARED
from forethought.studies.page import Page, number
from forethought.studies.results import DatasetKey, Result


def results_table(page: Page, runs_of: Mapping[str, Sequence[Result]], study: str, about: str = "") -> None:
    """A table and a plot for each place; where hardly anything was done there are none, if another place has more.

    Args:
        study: its name, by which its differences are found.
        about: what is in the names of the variants that it is about; where none of them ran, nothing was done.
    """
    first, places = next(iter(runs_of)), results.places(runs_of)
    by_dataset = {dataset: results.at(runs_of, dataset) for dataset in places}
    begun = {
        dataset: runs_here
        for dataset, runs_here in by_dataset.items()
        if first in runs_here and len(runs_here) > 1 and any(about in variant for variant in runs_here)
    }
    for dataset, runs_here in (begun or by_dataset).items():
        page.heading(dataset)
        page.say(_protocol(runs_here))
        _table(page, runs_here, results.differences(page.folder, study, dataset))
        _unrun(page, [variant for variant in runs_of if variant not in runs_here])
        _plot(page, runs_here, dataset)
    _side_by_side(page, begun or by_dataset)


def _protocol(runs_of: Mapping[str, Sequence[Result]]) -> str:
    protocol = next(iter(runs_of.values()))[0].parts["protocol"]
    excluded = "" if protocol["history_excluded"] else "not "
    return (
        f"{markdown(protocol['split'].replace('_', '-'))}, full ranking of {protocol['n_items']:,} items for "
        f"{protocol['n_cases']:,} cases, history {excluded}excluded. Mean over seeds ± their standard deviation, in "
        "brackets the 95% interval over users (mean bounds over seeds), which knows nothing of the luck of a seed; "
        "differences are paired over users, relative to the same seeds of the first row, p after Holm. Seconds of "
        "training are those of a machine that may have had other work: `make bench` tells of speed. Trials are those "
        "spent on a method's settings before ([how](tuning.md)), on Beauty's validation part; a variant of it has none."
    )


def _table(page: Page, runs_of: Mapping[str, Sequence[Result]], differences: Mapping[str, dict]) -> None:
    head = ["variant", "seeds", "valid NDCG@10"]
    for metric in COMPARED:
        head += [metric, "difference"]
    head += ["parameters", "steps", "MFLOPs a history", "ms a history", "s an epoch", "epochs", "trials"]
    rows = []
    for variant, runs in runs_of.items():
        valid = sum(run.parts["valid"]["ndcg@10"] for run in runs) / len(runs)
        row: list[object] = [variant, len(runs), valid]
        for metric in COMPARED:
            row += [mean_of_seeds(runs, metric), _difference(differences.get(f"{variant} {metric}"))]
        rows.append(row + _cost(runs))
    page.table(head, rows)


def mean_of_seeds(runs: Sequence[Result], metric: str) -> Markdown:
    mean, spread = results.over_seeds(runs, metric)
    low, high = (sum(run.parts["metrics"][metric]["ci95"][side] for run in runs) / len(runs) for side in (0, 1))
    return Markdown(f"**{mean:.4f}**{'' if math.isnan(spread) else f' ± {spread:.4f}'} [{low:.4f}, {high:.4f}]")


def _difference(difference: dict | None) -> str:
    if difference is None:
        return ""
    low, high = difference["relative"]["ci95"]
    return f"{difference['relative']['mean']:+.1%} [{low:+.1%}, {high:+.1%}], p {difference['p_holm']:.3f}"


def costs(runs: Sequence[Result], *path: str) -> float:
    """The mean over runs of a figure of their cost, of those that have it; NaN where none has."""
    values = []
    for run in runs:
        value = run.parts["cost"]
        for key in path:
            value = (value or {}).get(key)
        if value is not None:
            values.append(value)
    return sum(values) / len(values) if values else float("nan")


def _cost(runs: Sequence[Result]) -> list[object]:
    return [
        f"{costs(runs, 'parameters'):,.0f}",
        number(costs(runs, "steps"), 2),
        number(costs(runs, "flops_per_history", "encode") / 1e6, 2),
        number(costs(runs, "ms_per_history", "encode"), 3),
        number(costs(runs, "training", "s_per_epoch"), 1),
        number(costs(runs, "training", "epochs"), 1),
        "" if (spent := trials(runs[0].parts["config"]["method"])) is None else spent,
    ]


def _unrun(page: Page, variants: Sequence[str]) -> None:
    if variants:
        page.say(f"Not run here: {', '.join(variants)}.")


def _side_by_side(page: Page, by_dataset: Mapping[DatasetKey, Mapping[str, Sequence[Result]]]) -> None:
    """The same data cut in several ways, one column each, so that a gain by one cut can be held against the others."""
    for data in dict.fromkeys(dataset.data for dataset in by_dataset):
        cuts = {dataset: runs for dataset, runs in by_dataset.items() if dataset.data == data}
        shared = [v for v in next(iter(cuts.values())) if sum(v in runs for runs in cuts.values()) > 1]
        if len(cuts) < 2 or len(shared) < 2:
            continue
        page.heading(f"{data}, cut in several ways")
        page.say(
            "NDCG@10, mean over the seeds there are, and how far it lies from the first row of the same column. Each "
            "column is of other cases, so that shares alone can be held against those beside them."
        )
        first = shared[0]
        rows = [
            [variant, *(_against(runs.get(variant), runs.get(first)) for runs in cuts.values())] for variant in shared
        ]
        page.table(["variant", *(str(dataset).removeprefix(f"{data}, ") for dataset in cuts)], rows)


def _against(runs: Sequence[Result] | None, first: Sequence[Result] | None) -> str:
    if not runs:
        return ""
    mean, _ = results.over_seeds(runs, "ndcg@10")
    if not first or runs is first:
        return f"{mean:.4f}"
    return f"{mean:.4f} ({mean / results.over_seeds(first, 'ndcg@10')[0] - 1:+.1%})"


def _plot(page: Page, runs_of: Mapping[str, Sequence[Result]], dataset: DatasetKey) -> None:
    text = f"NDCG@10 of every variant on {dataset}: a dot a seed"
    with page.plot(f"{dataset.data}-{dataset.cut}", text, names=len(runs_of)) as (axes,):
        for at, runs in enumerate(runs_of.values()):
            values = [run.mean("ndcg@10") for run in runs]
            low, high = (
                sum(run.parts["metrics"]["ndcg@10"]["ci95"][side] for run in runs) / len(runs) for side in (0, 1)
            )
            axes.plot([low, high], [-at, -at], color="#bbbbbb", linewidth=2, zorder=1)
            axes.scatter(values, [-at] * len(values), s=22, color="#0072B2", zorder=2)
        axes.set_yticks([-n for n in range(len(runs_of))], list(runs_of))
        axes.locator_params(axis="x", nbins=5)  # five figures each want room
        axes.set_xlabel("test NDCG@10; grey: 95% interval over users", loc="right")  # names may leave little width
