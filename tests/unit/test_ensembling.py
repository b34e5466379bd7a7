"""An ensemble is the mean of its members' log-probabilities, in a folder of its own; what has no mean is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_methods import small

from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.batch_recommend import recommend_table
from forethought.config import Recipe
from forethought.data.batches import history_batch, lists_batch
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, SplitConfig, leave_last_out
from forethought.ensembling import ensemble, fit_members
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.extending import extend
from forethought.methods.dtrec import DTRec
from forethought.methods.ensemble import Ensemble, EnsembleModel
from forethought.methods.interface import Method
from forethought.methods.item_knn import ItemKNN
from forethought.methods.item_tokens import TokenMethodConfig
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem
from forethought.reasoning.halting import Halting
from forethought.recipes import METHODS
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.training.settings import Training


@pytest.fixture(scope="module")
def members(
    split: Split, sasrec: SASRec, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> list[Recommender]:
    """Of other widths, windows, temperatures and readers; with a bias, features, evidence, reasoning and times."""
    folder, few = tmp_path_factory.mktemp("members"), {"width": 8, "window": 5}
    plain = NextItem(backbone=GRU4Rec(**few), loss=ItemLoss(cosine=False, temperature=0.7, bias=True))
    recipes = {
        "plain": Recipe(method=plain, training=quick, features=Features(use="brand,price")),
        "heard": Recipe(method=sasrec, training=quick, seed=1, evidence=Evidence(use="auto", fit="training")),
        "dated": Recipe(method=HSTU(width=8, window=4, heads=1, head_width=4), training=quick),
        "dtrec": Recipe(method=DTRec(backbone=replace(sasrec, input_norm=True), first_clusters=4), training=quick),
    }
    return [train(recipe, split, folder / name) for name, recipe in recipes.items()]


@pytest.fixture(scope="module")
def made(members: list[Recommender], tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return ensemble(members, tmp_path_factory.mktemp("made") / "run")


def log_probabilities(method: Method, split: Split) -> np.ndarray:
    """Of all items after each test history, from whole matrices."""
    batch = history_batch(split.test.history, method.window)
    with torch.inference_mode():
        made, catalogue = method.represent(batch), method.catalogue()
        vectors, states = catalogue.vectors_ND, made.states_BD  # type: ignore[attr-defined]
        if catalogue.cosine:
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        logits = states @ vectors.T / catalogue.temperature
        if catalogue.bias_N is not None:
            logits = logits + catalogue.bias_N
        if made.added is not None:
            logits = logits.index_put((made.added.rows_T, made.added.items_T), made.added.values_T, accumulate=True)
        return (logits - logits.logsumexp(1, keepdim=True)).double().numpy()


def test_scores_are_the_mean_of_log_probabilities(made: Recommender, members: list[Recommender], split: Split) -> None:
    wanted = np.mean([log_probabilities(member.method, split) for member in members], axis=0)
    batch = history_batch(split.test.history, made.method.window)
    with torch.inference_mode():
        represented = made.method.represent(batch)
        every_BN = torch.arange(split.data.n_items).expand(len(wanted), -1)
        np.testing.assert_allclose(made.method.scores_of(represented, every_BN).numpy(), wanted, atol=2e-5)
    met = [split.test.history[row] for row in range(len(wanted))]
    ranks = rank_cases(made.method, split.test, exclude_history=True, k=5)
    for row, target in enumerate(split.test.targets.tolist()):
        scores = wanted[row].copy()
        scores[met[row]] = -np.inf
        assert ranks.ranks[row] == 1 + (scores > scores[target]).sum()
        assert ranks.lists is not None
        assert ranks.lists[row].tolist() == np.argsort(-scores, kind="stable")[:5].tolist()


def test_every_method_that_comes_to_a_state_can_be_a_member(split: Split) -> None:
    torch.manual_seed(0)
    configs = [small(name) for name in METHODS if not METHODS[name]().method.closed_form]  # type: ignore[union-attr]
    stated = [config for config in configs if not isinstance(config, TokenMethodConfig)]
    built = [config.build(split.data.sizes).eval() for config in stated]
    for each in built:
        each.begin_epoch(0)  # prototypes, for those that think along some
    method = EnsembleModel(built).eval()
    with torch.inference_mode():
        represented = method.represent(history_batch(split.test.history, method.window))
        every_BN = torch.arange(split.data.n_items).expand(len(split.test), -1)
        got = method.scores_of(represented, every_BN).numpy()
    assert len(built) > 8
    np.testing.assert_allclose(got, np.mean([log_probabilities(each, split) for each in built], axis=0), atol=2e-5)


def test_weights_count(made: Recommender, members: list[Recommender], split: Split) -> None:
    method, weights = made.method, torch.tensor([0.5, 0.25, 0.0, 0.25])
    assert isinstance(method, EnsembleModel)
    before = method.weights_K.clone()
    method.weights_K.copy_(weights)
    try:
        with torch.inference_mode():
            represented = method.represent(history_batch(split.test.history, method.window))
            every_BN = torch.arange(split.data.n_items).expand(len(split.test), -1)
            got = method.scores_of(represented, every_BN).numpy()
    finally:
        method.weights_K.copy_(before)
    logs = [weight * log_probabilities(m.method, split) for weight, m in zip(weights.tolist(), members, strict=True)]
    np.testing.assert_allclose(got, np.sum(logs, axis=0), atol=2e-5)


def test_it_is_a_run_like_any_other(made: Recommender, split: Split, tmp_path: Path) -> None:
    assert made.folder is not None
    copied = load(shutil.copytree(made.folder, tmp_path / "copied"))
    assert copied.weights_sum == made.weights_sum == load(copied.save(tmp_path / "saved")).weights_sum
    assert sorted(path.suffix for path in made.folder.iterdir()) == [".json", ".md", ".parquet", ".safetensors"]
    assert evaluate(copied, split).metrics == evaluate(made, split).metrics
    history, times = made.items.id_list([0, 1]), [10, 20]
    (found,) = copied.recommend([history], k=3, times=[times], deny=[made.items.id_list([5])[0]])
    explained = copied.explain(history, k=3, times=times)
    assert explained.answer_step == 0
    assert all(0 < each.probability < 1 for each in explained.answer if each.probability is not None)
    pl.DataFrame({"history": [history], "times": [times]}).write_parquet(tmp_path / "histories.parquet")
    denied = {"k": 3, "deny": found.items[:1]}
    recommend_table(copied, tmp_path / "histories.parquet", tmp_path / "out.parquet", **denied)
    assert pl.read_parquet(tmp_path / "out.parquet")["items"][0][0] == found.items[1]
    assert "**Members:** plain, heard, dated, dtrec" in (made.folder / "README.md").read_text(encoding="utf-8")


def test_members_stay_as_they_are(members: list[Recommender], split: Split, tmp_path: Path) -> None:
    weights = [{name: t.clone() for name, t in member.method.state_dict().items()} for member in members]
    made = ensemble([str(member.folder) for member in members[:2]], tmp_path / "run", split=split)
    again = ensemble(members[:2], tmp_path / "again", split=split)
    assert made.weights_sum != members[0].weights_sum
    assert [*made.method.weights_K] == [*again.method.weights_K]  # type: ignore[operator, misc]
    for member, before in zip(members, weights, strict=True):
        assert all(torch.equal(before[name], tensor) for name, tensor in member.method.state_dict().items())


def test_fitted_weights_rank_validation_no_worse(made: Recommender, split: Split, tmp_path: Path) -> None:
    assert made.folder is not None
    method = load(made.folder, device="cpu").method
    assert isinstance(method, EnsembleModel)
    equal = ndcg(rank_cases(method, split.valid, exclude_history=True).ranks, 10).mean()
    fit_members(method, split.valid, exclude_history=True)
    fitted = ndcg(rank_cases(method, split.valid, exclude_history=True).ranks, 10).mean()
    assert fitted >= equal
    assert method.weights_K.sum().item() == pytest.approx(1)
    assert (method.weights_K != 0.25).any()


def test_a_batch_keeps_the_last_of_each_row() -> None:
    batch = lists_batch([np.array(each) for each in ([1, 2, 3, 4], [5], [6, 7, 8])], 10)
    cut, same = batch.last(2), lists_batch([np.array(each) for each in ([3, 4], [5], [7, 8])], 10)
    assert torch.equal(cut.items_BL, same.items_BL)
    assert torch.equal(cut.lengths_B, same.lengths_B)
    assert batch.last(4) is batch


def test_what_does_not_belong_together(
    members: list[Recommender],
    made: Recommender,
    shop: Path,
    split: Split,
    quick: Training,
    sasrec: SASRec,
    tmp_path: Path,
) -> None:
    first, out = members[0], tmp_path / "out"
    rows = pl.read_parquet(shop / "interactions.parquet")
    same_items = leave_last_out(read(pl.concat([rows, rows.tail(1)])))
    fewer = leave_last_out(read(rows.filter(pl.col("item_id") != "i00001")))
    shuffled = SplitConfig(ties="shuffle").apply(read(shop))
    other = {
        name: train(Recipe(method=sasrec, training=quick), data, tmp_path / name)
        for name, data in (("data", same_items), ("items", fewer), ("split", shuffled))
    }
    longer = replace(other["items"], about=other["items"].about | {"extended": [{"items": 1}]})
    kept = train(Recipe(method=sasrec, training=quick, exclude_history=False), split, tmp_path / "kept")
    knn = train(ItemKNN(), split, tmp_path / "knn")
    wrong: list[tuple[list[Any], type[ForethoughtError], str]] = [
        ([first, other["data"]], DataError, "'data' was trained on other interactions"),
        ([first, other["items"]], DataError, "'items' knows 39 items and 'plain' 40, not the same ones"),
        ([first, longer], DataError, "not the same ones: 'items' was extended by new items, so extend all by the same"),
        ([first, other["split"]], DataError, r"another split than 'plain' \(ties 'shuffle', not 'file'"),
        ([first, kept], ConfigError, "'kept' and 'plain' differ in whether a user's history is left out"),
        ([first, knn], ConfigError, "'knn' is one of ItemKNN, whose scores are no log-probabilities"),
        ([first, made], ConfigError, "is an ensemble itself"),
        ([first, first], ConfigError, "'plain' and 'plain' are one run"),
        ([first], ConfigError, "from 2 to 64 members, but 1 was given"),
        ([first, tmp_path / "nothing"], RunError, "There is no run folder"),
        ([first, 7], ConfigError, "runs is "),
        ("run", ConfigError, "give a list of them"),  # type: ignore[list-item]
    ]
    for runs, error, sentence in wrong:
        with pytest.raises(error, match=sentence):
            ensemble(runs, out)
        assert not out.exists()
    with pytest.raises(DataError, match="already there and not empty"):
        ensemble(members, tmp_path)
    with pytest.raises(DataError, match="another split"):
        ensemble(members, out, split=shuffled)
    assert not out.exists()


def test_what_an_ensemble_does_not_do(made: Recommender, split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made of trained runs and not trained itself"):
        train(Ensemble(size=2), split, tmp_path / "x")
    with pytest.raises(ConfigError, match="extend its members one by one"):
        extend(made, tmp_path / "new.parquet", tmp_path / "x")
    with pytest.raises(ConfigError, match="halts as it was trained to"):
        made.recommend([made.items.id_list([0])], times=[[1]], halting=Halting())
    with pytest.raises(ConfigError, match="this run has evidence beside it"):
        made.build_index()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("broken", ["none", "fewer", "text", "nested", "other"])
def test_a_folder_that_lost_its_members(broken: str, made: Recommender, tmp_path: Path) -> None:
    """Also where the checksums were made to fit: what a folder says is not believed."""
    assert made.folder is not None
    about = json.loads(json.dumps(made.about))
    members = about["members"]
    if broken == "none":
        del about["members"]
    elif broken == "fewer":
        del members[0]
    elif broken == "text":
        members[0] = "plain"
    elif broken == "nested":
        members[0]["config"] = json.loads((made.folder / "config.json").read_text(encoding="utf-8"))["config"]
    else:
        members[0]["config"]["method"]["backbone"]["width"] = 16
    replace(made, about=about).save(tmp_path / "run")
    with pytest.raises(RunError, match="is damaged"):
        load(tmp_path / "run")


def test_an_index_searches_an_ensemble(members: list[Recommender], tmp_path: Path) -> None:
    run = ensemble([members[0], members[3]], tmp_path / "run")
    history = [run.items.id_list([0, 1])]
    exact = run.recommend(history, k=5)
    run.build_index()
    assert run.recommend(history, k=5)[0].items == exact[0].items


def test_a_run_over_tokens_is_no_member_and_leaves_no_folder(
    made: Recommender, split: Split, quick: Training, tmp_path: Path
) -> None:
    rpg = train(Recipe(method=small("rpg"), training=replace(quick, epochs=1)), split, tmp_path / "rpg")
    with pytest.raises(ConfigError, match="'rpg' is one of RPG, which knows items as tokens"):
        ensemble([rpg, tmp_path / "rpg"], out=tmp_path / "both")
    assert not (tmp_path / "both").exists()
