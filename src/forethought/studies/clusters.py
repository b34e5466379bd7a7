"""Do prototypes mean anything? k-means of trained item vectors beside the shop's own categories and beside chance.

HPS supposes that clusters of item vectors mirror levels of abstraction (DTRec, section 3.1.2); nobody has checked.
Purity is the share of items that are of their cluster's commonest category; chance gives it to clusters of the same
sizes drawn at random. Adjusted mutual information is 0 for chance and 1 for the same partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue
from forethought.data.splits import Split
from forethought.data.titles import titles
from forethought.escaping import markdown, printable
from forethought.files import replace_file
from forethought.reasoning.prototypes import Prototypes
from forethought.recommender import Recommender
from forethought.studies.labels import category_levels, information
from forethought.studies.page import Page
from forethought.studies.results import Result, run_name
from forethought.studies.study import Study

COUNTS = (10, 100, 3000)
SHEET = "clusters.md"
SHOWN = {10: 10, 100: 15, 3000: 15}  # clusters on the sheet
TITLES = 6


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Agreement of clusters with categories; a sheet to read is left in the run folder.

    It holds the data's own titles, so it does not go to the results, which may be published.
    """
    weight: torch.Tensor = model.method.get_submodule("items").weight  # type: ignore[assignment]
    vectors = F.normalize(weight.detach().float(), dim=-1).cpu()
    levels = category_levels(model.item_table)
    figures: dict[str, Any] = {"items": len(vectors), "levels": {name: len(set(of)) for name, of in levels.items()}}
    sheet: list[str] = []
    rows = []
    for k in COUNTS:
        if k * 2 > len(vectors):
            continue
        made = Prototypes([k], len(vectors), vectors.shape[1], unit=True)
        made.make(Catalogue(vectors), 0)
        cluster = made.clusters_of(0, torch.arange(len(vectors))).numpy()
        sheet += _sheet(k, cluster, vectors, made.level(0)[0], model.item_table, levels)
        for name, of in levels.items():
            rows.append({"k": k, "level": name, **agreement(cluster, of)})
    if model.folder is not None:
        text = "\n".join([f"# Clusters of {markdown(model.folder.name)}", "", *sheet]).rstrip() + "\n"
        replace_file(model.folder / SHEET, lambda part: part.write_text(text, encoding="utf-8"))
    return figures | {"agreement": rows}


def agreement(cluster: np.ndarray, category: np.ndarray) -> dict[str, float]:
    """Purity, purity of clusters as large but drawn at random, and adjusted mutual information.

    Items without a category are left out.
    """
    known = category != ""
    cluster, category = cluster[known], category[known]
    shuffled = np.random.default_rng(0).permutation(cluster)
    return {
        "purity": purity(cluster, category),
        "purity_by_chance": purity(shuffled, category),
        "ami": information(category, cluster),
    }


def purity(cluster: np.ndarray, category: np.ndarray) -> float:
    pairs = pl.DataFrame({"c": cluster, "of": category}).group_by("c", "of").len()
    return float(pairs.group_by("c").agg(pl.col("len").max())["len"].sum() / len(cluster))


def _sheet(
    k: int, cluster: np.ndarray, vectors: torch.Tensor, centres: torch.Tensor, items: pl.DataFrame, levels: Mapping
) -> list[str]:
    """The largest clusters, each by its commonest categories and the items nearest to its centre."""
    lines = [f"## k = {k}", ""]
    sizes = np.bincount(cluster, minlength=k)
    ids = items["item_id"].to_list()
    names = [title or item for title, item in zip(titles(items) or ids, ids, strict=True)]
    finest = list(levels.values())[-1] if levels else None
    middle = levels.get("level 2", finest)
    nearness = (vectors * F.normalize(centres, dim=-1)[cluster]).sum(-1).numpy()
    for c in np.argsort(-sizes)[: SHOWN[k]]:
        members = np.flatnonzero(cluster == c)
        nearest = members[np.argsort(-nearness[members])][:TITLES]
        about = ""
        if middle is not None:
            values, counts = np.unique(middle[members], return_counts=True)
            top = np.argsort(-counts)[:3]
            about = "; ".join(f"{markdown(values[t] or 'no category')} {counts[t] / len(members):.0%}" for t in top)
        lines += [
            f"- **{len(members)} items** ({about}): " + " | ".join(markdown(printable(names[i])[:60]) for i in nearest)
        ]
    return [*lines, ""]


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    page.say(f"The largest clusters, to read, with the titles of their items, lie in each run folder ({SHEET}).")
    for variant, runs in runs_of.items():
        for run in (r for r in runs if r.probe is not None):
            name = run_name(run.variant, run.dataset, run.seed)
            page.heading(name)
            _one_run(page, f"{variant}-{run.dataset.data}-{run.dataset.cut}-{run.seed}", name, run.probe or {})


def _one_run(page: Page, plot: str, name: str, figures: dict[str, Any]) -> None:
    if not figures["agreement"]:
        page.say("This data has too few items." if figures["levels"] else "This data has no categories.")
        return
    with page.plot(plot, f"Adjusted mutual information of clusters and categories, by k, of {name}") as (axes,):
        for level in figures["levels"]:
            axes.plot(
                *zip(*((a["k"], a["ami"]) for a in figures["agreement"] if a["level"] == level), strict=True), "o-"
            )
        axes.set_xscale("log")
        axes.set_xlabel("k")
        axes.set_ylabel("adjusted mutual information")
        axes.legend(list(figures["levels"]), frameon=False, fontsize=8)
    page.table(
        ["k", "categories", "number of them", "purity", "by chance", "adjusted mutual information"],
        [
            (a["k"], a["level"], figures["levels"][a["level"]], a["purity"], a["purity_by_chance"], a["ami"])
            for a in figures["agreement"]
        ],
    )


STUDY = Study(
    name="clusters",
    title="What prototypes mean",
    question="Are clusters of item vectors categories and subcategories, more so than those of plain SASRec?",
    variants=("dtrec", "sasrec"),
    write=write,
    probe=probe,
    needs=("sklearn", "scikit-learn", "report"),
)
