"""How robust is each method to noisy behaviour? Quality under rising noise on the histories that are read.

Every model meets the same noisy test histories, with its own clean quality beside it; some were trained with noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from forethought.data.sources import read_parquet
from forethought.data.splits import Split
from forethought.files import replace_file
from forethought.noise_curves import SHARES, less_lost, robustness
from forethought.recommender import Recommender
from forethought.studies import results
from forethought.studies.page import COLOURS, Page
from forethought.studies.results import Result
from forethought.studies.study import Study

COMPARED = ("recall@10", "ndcg@10")
CASES = "noise.parquet"
LOOKED_AT = 0.2  # the share at which absolute quality is told


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """The curves of one model. Noise seeds are the same for all models and training seeds.

    Every case is kept in the run folder, so that drops of several models can be paired.
    """
    curves = robustness(model, split)
    if model.folder is not None:
        replace_file(model.folder / CASES, curves.cases.write_parquet)
    return curves.to_json()


def aggregate(folders: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Of the first variant and every other: whose drop is smaller?"""
    kept = {v: [f / CASES for f in of] for v, of in folders.items() if of and all((f / CASES).is_file() for f in of)}
    first = next(iter(folders))
    if first not in kept or len(kept) < 2:
        return {}
    differences = less_lost({v: [read_parquet(path) for path in paths] for v, paths in kept.items()}, first)
    return {v: {name: asdict(estimate) for name, estimate in each.items()} for v, each in differences.items()}


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    for dataset in results.places(runs_of):
        probes_of = {
            variant: probes
            for variant, runs in results.at(runs_of, dataset).items()
            if (probes := [run.probe for run in runs if run.probe is not None])
        }
        if not probes_of:
            continue
        page.heading(dataset)
        first = next(iter(probes_of.values()))[0]
        seeds, untouched = len(first["seeds"]), _point(first, first["points"][0]["kind"], LOOKED_AT)
        page.say(
            f"Mean over {seeds} noise seeds and over training seeds; a drop is the share of the clean metric that is "
            "lost, its 95% interval paired over users (mean bounds over training seeds). Histories are noisy; targets "
            f"and candidates are those of the clean ones. Of {LOOKED_AT:.0%}, rounding to whole positions leaves "
            f"{untouched['positions']:.1%}, in {untouched['cases']:.0%} of the cases."
        )
        kinds = list(dict.fromkeys(point["kind"] for point in first["points"]))
        for n, some in enumerate(_panels(list(probes_of)), start=1):
            name = f"{dataset.data}-{dataset.cut}" + ("" if n == 1 else f"-{n}")
            _plot(page, {variant: probes_of[variant] for variant in some}, kinds, name)
        _table(page, probes_of, kinds)
        _paired(page, next(iter(probes_of)), results.aggregated(page.folder, page.name, dataset), kinds)


def _panels(variants: Sequence[str]) -> list[list[str]]:
    """Variants for a plot each, no more than its legend can tell apart, the first one in all of them."""
    first, *others = variants
    size = len(COLOURS) - 1
    return [[first, *others[at : at + size]] for at in range(0, max(len(others), 1), size)]


def _plot(page: Page, probes_of: Mapping[str, Sequence[dict]], kinds: Sequence[str], name: str) -> None:
    text = (
        "Recall@10 with 95% intervals against the share of noise, a panel for each kind of it, a line for each variant"
    )
    with page.plot(name, text, len(kinds)) as panels:
        for kind, axes in zip(kinds, panels, strict=True):
            for n, (variant, probes) in enumerate(probes_of.items()):
                shares, means, ends = _curve(probes, kind)
                beside = [share + 0.003 * (n - (len(probes_of) - 1) / 2) for share in shares]  # bars must not hide bars
                axes.errorbar(
                    beside, means, yerr=ends, marker="o", markersize=4, capsize=2, linewidth=1.2, label=variant
                )
            axes.set_title(kind, fontsize=10)
            axes.set_xlabel("share of noise")
            axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        low, high = (pick(axes.get_ylim()[end] for axes in panels) for end, pick in ((0, min), (1, max)))
        for axes in panels:
            axes.set_ylim(low, high)
        panels[0].set_ylabel("test Recall@10")
        handles, labels = panels[-1].get_legend_handles_labels()
        panels[-1].figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)


def _curve(probes: Sequence[dict], kind: str) -> tuple[list[float], list[float], np.ndarray]:
    """Shares, means, and how far the intervals reach below and above them; means over the seeds of all three."""
    shares = [point["share"] for point in probes[0]["points"] if point["kind"] == kind]
    measured = [[probe["clean"]["recall@10"] for probe in probes]]
    measured += [[_point(probe, kind, share)["metrics"]["recall@10"] for probe in probes] for share in shares]
    means = [_mean(each) for each in measured]
    low, high = np.array([np.mean([one["ci95"] for one in each], axis=0) for each in measured]).T
    return [0.0, *shares], means, np.abs(np.stack([means - low, high - means]))


def _table(page: Page, probes_of: Mapping[str, Sequence[dict]], kinds: Sequence[str]) -> None:
    shares = list(dict.fromkeys(p["share"] for p in next(iter(probes_of.values()))[0]["points"]))
    head = ["noise", "variant", "seeds"]
    for metric in COMPARED:
        head += [f"{metric} clean", f"at {LOOKED_AT:.0%}", *(f"drop at {share:.0%}" for share in shares)]
    rows = []
    for kind in kinds:
        for variant, probes in probes_of.items():
            row: list[object] = [kind, variant, len(probes)]
            for metric in COMPARED:
                row += [_mean(figures["clean"][metric] for figures in probes)]
                row += [_mean(_point(figures, kind, LOOKED_AT)["metrics"][metric] for figures in probes)]
                row += [
                    _drop([_point(figures, kind, share)["drops"][metric] for figures in probes]) for share in shares
                ]
            rows.append(row)
    page.table(head, rows)


def _paired(page: Page, first: str, differences: Mapping[str, Mapping[str, dict]], kinds: Sequence[str]) -> None:
    if not differences:
        return
    page.say(
        f"How many points of a hundred less than `{first}` each loses, over the same users (95% interval paired over "
        "users; above zero, it loses less):"
    )
    asked = [(metric, share) for metric in COMPARED for share in SHARES]
    rows = []
    for kind in kinds:
        for variant, each in differences.items():
            pairs = (each[f"{kind} {share:g} {metric}"] for metric, share in asked)
            rows.append([kind, variant, *(_points(estimate) for estimate in pairs)])
    page.table(["noise", "variant", *(f"{metric}, {share:.0%}" for metric, share in asked)], rows)


def _points(estimate: dict) -> str:
    if estimate["mean"] is None:
        return "–"
    mean, low, high = (100 * value for value in (estimate["mean"], *estimate["ci95"]))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _point(figures: dict, kind: str, share: float) -> dict[str, Any]:
    return next(point for point in figures["points"] if (point["kind"], point["share"]) == (kind, share))


def _mean(estimates: Any) -> float:
    return float(np.mean([each["mean"] for each in estimates]))


def _drop(estimates: Sequence[dict]) -> str:
    if any(each["mean"] is None for each in estimates):
        return "–"
    low, high = np.mean([each["ci95"] for each in estimates], axis=0)
    return f"{_mean(estimates):.1%} [{low:.1%}, {high:.1%}]"


def study(variants: Sequence[str]) -> Study:
    return Study(
        name="noise",
        title="Robustness to noisy behaviour",
        question=(
            "How much of its quality does each method keep when part of a history is replaced, inserted, deleted or "
            "swapped? The paper has a drop of 10.4% for IGR-SR under 20% noise, and of 16.2% to 18.6% for others."
        ),
        variants=variants,
        write=write,
        probe=probe,
        aggregate=aggregate,
    )
