"""The study of items that come later: who can recommend them, and what that costs the others."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.cli import study as verb
from forethought.config import Recipe
from forethought.data.cold_items import without_items
from forethought.data.features import Features
from forethought.data.hold_out import drawn_items
from forethought.data.shop import Shop
from forethought.data.splits import Split
from forethought.data.texts import item_texts
from forethought.evaluation.ranking import Ranked
from forethought.methods.items import held_back
from forethought.methods.rpg import RPG
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.semantic_ids.opq import OPQ
from forethought.studies import cold_items, runner, variants
from forethought.studies.cold_measuring import barred_ranks, chances, joined, measured, trained_again
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.studies.shops import shop_split, word_vectors
from forethought.training.settings import Training


def test_ranks_without_some_items_by_hand() -> None:
    lists = np.array([[5, 1, 0, 2], [3, 5, 4, 2], [5, 3, 1, -1], [0, 1, 2, 4], [5, 3, 0, 1]], np.int32)
    targets, cold_N = np.array([2, 2, 4, 0, 3]), np.array([False, False, False, True, False, True])
    got = barred_ranks(Ranked(np.zeros(5), lists, np.zeros(5), {}), cold_N, targets)
    wanted = []
    for row, target in zip(lists.tolist(), targets, strict=True):
        others = [item for item in row if item not in (3, 5)]
        wanted.append(others.index(target) + 1 if target in others else math.inf)
    assert got.tolist() == wanted == [3, 2, math.inf, 1, math.inf]


@pytest.fixture(scope="module")
def texts_split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    shop = Shop(users=80, items=40, interactions_per_user=10.0, seed=3)
    return shop_split("shop-cold", shop, tmp_path_factory.mktemp("shops"), texts=True)


@pytest.mark.parametrize("excluded", [True, False])
def test_chance_by_hand(texts_split: Split, excluded: bool) -> None:
    cases, n = texts_split.test, texts_split.data.n_items
    told = chances(cases, n, excluded)
    recalls, gains = [], []
    for row in range(len(cases)):
        left = n - len(set(cases.history[row].tolist())) * excluded
        recalls.append(10 / left)
        gains.append(sum(1 / math.log2(place + 1) for place in range(1, 11)) / left)
    assert told == {"recall@10": pytest.approx(np.mean(recalls)), "ndcg@10": pytest.approx(np.mean(gains))}


def test_vectors_of_words() -> None:
    made = word_vectors(["Acme tent, red", "acme TENT red", "acme tent", "zoom lens"]).astype(float)
    np.testing.assert_allclose(made[0], made[1])
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-6)
    assert made[0] @ made[2] > 0.6 > abs(made[0] @ made[3])


@pytest.fixture(scope="module")
def runs(
    texts_split: Split, sasrec: SASRec, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Recommender]:
    place = tmp_path_factory.mktemp("runs")
    rpg = RPG(backbone=sasrec, tokenizer=OPQ(codebooks=3, size=8, turns=1))
    recipes = {
        "sasrec": Recipe(method=sasrec, training=quick),
        "sasrec-features": Recipe(method=sasrec, training=quick, features=Features()),
        "rpg": Recipe(method=rpg, training=quick, features=Features()),
    }
    return {name: train(recipe, texts_split, place / name) for name, recipe in recipes.items()}


@pytest.mark.parametrize("name", ["sasrec-features", "rpg"])
def test_nothing_of_the_items_is_known_before_they_join(
    runs: dict[str, Recommender], texts_split: Split, name: str, tmp_path: Path
) -> None:
    cold_N = drawn_items(texts_split.data.n_items, 0.2, seed=1)
    before = trained_again(runs[name], without_items(texts_split, cold_N), f"without-{cold_N.sum()}")
    late = joined(before, texts_split, cold_N, tmp_path)
    ids = texts_split.data.items.ids
    count = len(ids) - int(cold_N.sum())
    assert late.items.ids.to_list() == [*ids.filter(~cold_N), *ids.filter(cold_N)]
    assert late.item_table["train_count"].to_list()[count:] == [0] * int(cold_N.sum())
    assert before.items.ids.to_list() == ids.filter(~cold_N).to_list()
    assert "text" in [each["name"] for each in before.about["features"]]
    if name == "rpg":
        mine, theirs = late.method.tokens, before.method.tokens  # type: ignore[union-attr]
        assert torch.equal(mine.codes_NM[:count], theirs.codes_NM)  # type: ignore[operator,index,arg-type]
        assert torch.equal(mine.tokenizer.mean_F, theirs.tokenizer.mean_F)  # type: ignore[union-attr,arg-type]


def test_probe_and_page(runs: dict[str, Recommender], texts_split: Split, tmp_path: Path) -> None:
    told = {name: cold_items.probe(run, texts_split, 0) for name, run in runs.items()}
    cold_N = drawn_items(texts_split.data.n_items, cold_items.SHARE, seed=0)
    cold = cold_N[texts_split.test.targets]
    for name, run in runs.items():
        figures = told[name]
        cases = evaluate(run, texts_split).cases
        assert figures["cases"] == {"cold": cold.sum(), "warm": (~cold).sum()}
        for part, rows in (("cold", cold), ("warm", ~cold)):
            assert figures["bound"][part]["recall@10"]["mean"] == pytest.approx(
                cases["recall@10"].to_numpy()[rows].mean()
            )
        assert sum(group["cases"] for group in figures["by_length"]) == len(cold)
        lengths = [group["range"][0] for group in figures["by_length"]]
        assert lengths == sorted(lengths)
    assert told["sasrec"]["joined"] is None
    late = told["rpg"]["joined"]
    assert late["barred"]["recall@10"]["mean"] >= late["warm"]["recall@10"]["mean"]
    assert 0 <= late["lists"] <= 1
    ratio = late["of_bound"]["warm recall@10"]["mean"]
    assert ratio == pytest.approx(late["warm"]["recall@10"]["mean"] / told["rpg"]["bound"]["warm"]["recall@10"]["mean"])
    page, key = Page(tmp_path, "cold-items", "t", "q"), DatasetKey("shop-cold", "file")
    cold_items.write(page, {name: [Result(name, key, 0, {}, each)] for name, each in told.items()})
    text = page.write().read_text()
    assert "| sasrec | 0 |  | 0 (cannot) |" in text
    lift = told["rpg"]["lifted"]["lift"]
    held = load(runs["rpg"].folder.with_name(f"rpg-without-{cold_N.sum()}-held-out"))  # type: ignore[union-attr]
    assert held.about["protocol"]["hold_out_items"] == 0.1
    assert lift == -held_back(held.method)
    assert text.count("| rpg | 0 |") == 5
    assert text.count("| sasrec | 0 |") == 3
    assert told["rpg"]["joined"]["lift"] == 0.0
    assert text.count(f"| rpg | 0 | {lift:+g} |") == (2 if lift else 4)


def test_what_is_measured_of_cold_targets_in_lists(
    runs: dict[str, Recommender], texts_split: Split, tmp_path: Path
) -> None:
    """The joined run recommends for the same histories of ids: a hit is a hit."""
    cold_N = drawn_items(texts_split.data.n_items, 0.2, seed=1)
    figures = measured(runs["sasrec-features"], texts_split, cold_N)
    before = trained_again(runs["sasrec-features"], without_items(texts_split, cold_N), f"without-{cold_N.sum()}")
    late = joined(before, texts_split, cold_N, tmp_path)
    ids, cases, hits, taken = texts_split.data.items.ids.to_list(), texts_split.test, [], []
    for row, target in enumerate(cases.targets):
        found = late.recommend([[ids[item] for item in cases.history[row]]], k=10)[0].items
        taken += [cold_N[ids.index(item)] for item in found]
        if cold_N[target]:
            hits.append(ids[target] in found)
    assert figures["joined"]["cold"]["recall@10"]["mean"] == pytest.approx(np.mean(hits))
    assert figures["joined"]["lists"] == pytest.approx(np.mean(taken))


def test_the_study_from_its_shop_to_its_page_and_on_other_data(
    runs: dict[str, Recommender], shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own shop has texts, and data without features says what cannot join."""
    few = {name: (lambda run=run: Recipe(**_parts(run))) for name, run in runs.items()}
    for module in (variants, runner):
        monkeypatch.setattr(module, "VARIANTS", few)
    small = {"shop-cold": replace(cold_items.STUDY.shops["shop-cold"], users=80, items=40)}
    study = replace(cold_items.STUDY, variants=("sasrec-features", "sasrec"), shops=small)
    monkeypatch.setattr("forethought.studies.catalogue.STUDIES", {"cold-items": study})
    places = ["--quiet", "--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    verb.run(["cold-items", *places])
    text = (tmp_path / "results" / "cold-items.md").read_text()
    assert "| sasrec | 0 |  | 0 (cannot) |" in text
    assert "shop-cold, ties in file order" in text
    assert (tmp_path / "runs" / "shops" / "shop-cold" / "item_text_embeddings.npy").is_file()
    verb.run(["cold-items", "--data", str(shop), *places])
    assert "shop, ties in file order" in (tmp_path / "results" / "cold-items.md").read_text()
    larger = replace(study, shops={"shop-cold": replace(small["shop-cold"], items=50)})
    made = shop_split("shop-cold", larger.shops["shop-cold"], tmp_path / "runs" / "shops", texts=True)
    assert len(item_texts(made.data)) == made.data.n_items  # vectors go with a shop that is made anew


def _parts(run: Recommender) -> dict[str, Any]:
    return {each.name: getattr(run.config, each.name) for each in fields(Recipe)}
