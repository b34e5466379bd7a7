"""How a trained run serves items that came after it: it is trained again without some of them, and these then join it.

What is measured is one model of the same recipe twice: trained on everything, which is the bound, and trained before a
share of the items came, with these added by `extend` as their features alone. Both rank the same test cases, whose
histories hold the new items as users met them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from forethought.config import Recipe
from forethought.data.cold_items import holding_out, moved, without_items
from forethought.data.features import TEXT
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.data.texts import item_texts, write_texts
from forethought.errors import RunError
from forethought.evaluation.groups import chance_of_recall
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import Ranked, rank_cases
from forethought.evaluation.report import Evaluation, Group
from forethought.evaluation.settings import EvaluationConfig
from forethought.evaluation.statistics import bootstrap_sums, cluster_sums, estimate_means, interval
from forethought.extending import extend
from forethought.methods.items import held_back
from forethought.recommender import Recommender
from forethought.run_files import CONFIG_FILE
from forethought.runs import evaluate, train
from forethought.training import state

SHARE, HOLD_OUT_SEED = 0.1, 1  # of the items that one more training holds out, to find how far the others are lifted
CUT = 10
METRICS = {f"recall@{CUT}": recall, f"ndcg@{CUT}": ndcg}


def measured(model: Recommender, split: Split, cold_N: np.ndarray) -> dict[str, Any]:
    """A model and its like that met some items later, on the test cases.

    Args:
        model: trained on all items.
        cold_N: bool [N], the items that come later.

    Returns:
        How many `items` are cold and how many `cases`; figures of the `bound`; `by_length`, the groups of users; and
        figures of the run that the items joined, as it has them (`joined`) and lifted or held back as another training
        says that holds items out (`lifted`), None where it can take none.
    """
    exclude, cases = bool(model.about["exclude_history"]), split.test
    cold = cold_N[cases.targets]
    bound = rank_cases(model.method, cases, exclude_history=exclude, k=CUT)
    told: dict[str, Any] = {
        "items": int(cold_N.sum()),
        "cases": {"cold": int(cold.sum()), "warm": int((~cold).sum())},
        "chance": chances(cases.take(np.flatnonzero(cold)), split.data.n_items, exclude),
        "bound": _figures(bound.ranks, cold, cases) | {"lists": _taken(bound, cold_N)},
        "by_length": _by_length(model, split),
        "joined": None,
        "lifted": None,
    }
    if not model.about["features"]:
        return told
    earlier = without_items(split, cold_N)
    before = trained_again(model, earlier, f"without-{cold_N.sum()}")
    held = trained_again(model, holding_out(earlier, SHARE, HOLD_OUT_SEED), f"without-{cold_N.sum()}-held-out")
    for name, lift_from in (("joined", None), ("lifted", held)):
        with tempfile.TemporaryDirectory() as folder:
            late = joined(before, split, cold_N, Path(folder), lift_from)
            told[name] = _of_joined(late, split, cold_N, bound) | {"lift": -held_back(late.method)}
    return told


def _of_joined(late: Recommender, split: Split, cold_N: np.ndarray, bound: Ranked) -> dict[str, Any]:
    """Figures of a run that items joined, beside those of one that was trained on them."""
    cases, row_of_N = split.test, late.items.index_of(split.data.items.ids)
    cold, exclude = cold_N[cases.targets], bool(late.about["exclude_history"])
    theirs, late_N = moved(cases, row_of_N), np.zeros(len(row_of_N), bool)
    late_N[row_of_N[cold_N]] = True
    ranked = rank_cases(late.method, theirs, exclude_history=exclude, k=min(CUT + int(cold_N.sum()), len(cold_N)))
    return {
        **_figures(ranked.ranks, cold, cases),
        "lists": _taken(ranked, late_N),
        "of_bound": _shares(ranked.ranks, bound.ranks, cold, cases),
        "barred": _figures(barred_ranks(ranked, late_N, theirs.targets), cold, cases)["warm"],
    }


def trained_again(model: Recommender, split: Split, name: str) -> Recommender:
    """The same recipe trained on other data, beside the model's own folder, where it goes on if it was stopped."""
    assert model.folder is not None
    parts = {each.name: getattr(model.config, each.name) for each in fields(Recipe)}
    recipe = replace(Recipe(**parts), exclude_history=bool(model.about["exclude_history"]))
    folder = model.folder.with_name(f"{model.folder.name}-{name}")
    going_on = state.exists(folder / "state")
    overwrite = not going_on and (folder / CONFIG_FILE).is_file()
    return train(recipe, split, folder, resume=going_on, overwrite=overwrite)


def joined(
    before: Recommender, split: Split, cold_N: np.ndarray, folder: Path, lift_from: Recommender | None = None
) -> Recommender:
    """A run of data without some items, which have now joined it.

    Args:
        folder: for what is needed meanwhile.
        lift_from: says how far they are lifted or held back; None: the run itself.
    """
    names, texts = [each["name"] for each in before.about["features"]], None
    table = split.data.item_table.filter(cold_N)
    if TEXT in names and TEXT not in table.columns:
        texts = folder / "texts.npy"
        write_texts(texts, item_texts(split.data)[cold_N])
    new = table.drop("source_row", strict=False)
    return extend(before, new, folder / "joined", texts=texts, lift_from=lift_from)


def chances(cases: Cases, n_items: int, history_excluded: bool) -> dict[str, float] | None:
    """What a ranking drawn at random comes to; None where there is nothing to find."""
    if not len(cases):
        return None
    first = chance_of_recall(cases, n_items, None, history_excluded=history_excluded) / CUT  # of being at one place
    gains = ndcg(np.arange(1.0, CUT + 1), CUT).sum()
    return {f"recall@{CUT}": float(CUT * first.mean()), f"ndcg@{CUT}": float(gains * first.mean())}


def barred_ranks(ranked: Ranked, cold_N: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ranks were no cold item recommended: places in the lists without those; infinity for a target that is cold.

    Args:
        ranked: with lists that are longer than the metrics look by all cold items.
    """
    assert ranked.lists is not None
    at_target = ranked.lists == targets[:, None]
    others = np.cumsum(~cold_N[ranked.lists], axis=1)
    return np.where(at_target.any(1) & ~cold_N[targets], others[np.arange(len(targets)), at_target.argmax(1)], np.inf)


def _figures(ranks: np.ndarray, cold: np.ndarray, cases: Cases) -> dict[str, Any]:
    """Each metric of cold and of warm targets, with its interval over users."""
    values = np.column_stack([of(ranks, CUT) for of in METRICS.values()])
    told: dict[str, Any] = {}
    for name, of in (("cold", cold), ("warm", ~cold)):
        if of.any():
            (means,) = estimate_means(values[of], cases.history.users[of])
            told[name] = {m: {"mean": e.mean, "ci95": list(e.ci95)} for m, e in zip(METRICS, means, strict=True)}
        else:
            told[name] = None
    return told


def _shares(ranks: np.ndarray, bound: np.ndarray, cold: np.ndarray, cases: Cases) -> dict[str, Any]:
    """Each metric over that of the bound, on the same cases; None where the bound finds nothing."""
    told: dict[str, Any] = {}
    for name, of in (("cold", cold), ("warm", ~cold)):
        for metric, measure in METRICS.items():
            own, other = measure(ranks[of], CUT), measure(bound[of], CUT)
            told[f"{name} {metric}"] = None
            if other.any():
                draws = bootstrap_sums(cluster_sums(np.column_stack([own, other]), cases.history.users[of]))
                ratios = draws[:, 0] / np.maximum(draws[:, 1], 1e-12)
                told[f"{name} {metric}"] = {"mean": own.sum() / other.sum(), "ci95": interval(ratios).tolist()}
    return told


def _taken(ranked: Ranked, cold_N: np.ndarray) -> float:
    """The share of the places in the lists of ten that such items take."""
    assert ranked.lists is not None
    lists = ranked.lists[:, :CUT]
    filled = lists >= 0
    return float((cold_N[lists] & filled).sum() / max(filled.sum(), 1))


def _by_length(model: Recommender, split: Split) -> list[dict[str, Any]]:
    """The groups of users by how long their history is, the shortest first."""
    return [_group(group) for _, group in sorted(_evaluation(model, split).groups["history_length"].items())]


def _evaluation(model: Recommender, split: Split) -> Evaluation:
    """The one in the run's folder, if it is of these weights."""
    assert model.folder is not None
    try:
        kept = Evaluation.read(model.folder)
    except RunError:
        kept = None
    if kept is not None and kept.weights == model.weights_sum:
        return kept
    return evaluate(model, split, EvaluationConfig(lists=False))


def _group(group: Group) -> dict[str, Any]:
    metrics: Mapping[str, Any] = {
        name: {"mean": group.metrics[name].mean, "ci95": list(group.metrics[name].ci95)} for name in METRICS
    }
    return {"cases": group.cases, "range": list(group.range), "chance": group.chance, **metrics}
