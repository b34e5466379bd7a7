"""A run over tokens for the items of other data: the same weights, other items, and nothing of who meets what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_methods import small

from forethought.cli import tokenize as verb_of_tokens
from forethought.cli import transfer as verb
from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features, FeatureScale, feature_scale, read_features
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.semantic_ids.inputs import tokenizer_inputs
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.storage import read_tokens
from forethought.tokenizing import tokenize
from forethought.training.settings import Training
from forethought.transferring import transfer

FEATURES = Features(use="categories,price")
TOKENIZER = RQKMeans(codebooks=3, size=8, components=8, collaborative="none", collisions="keep")
NAMES = ("rpg", "reg4rec", "tiger")


def recipe(name: str, quick: Training, **changed: object) -> Recipe:
    method = replace(small(name), tokenizer=replace(TOKENIZER, **changed))  # type: ignore[call-arg]
    return Recipe(method=method, training=replace(quick, device="cpu"), features=FEATURES)


@pytest.fixture(scope="module", params=NAMES)
def run(
    request: pytest.FixtureRequest, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    return train(recipe(request.param, quick), split, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return leave_last_out(read(Shop(users=60, items=50, seed=9).write(tmp_path_factory.mktemp("data") / "other")))


@pytest.fixture(scope="module")
def renamed(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    """The very same shop, whose items have other names and stand in another order."""
    folder = tmp_path_factory.mktemp("data") / "renamed"
    folder.mkdir()
    for name in ("interactions", "items"):
        table = pl.read_parquet(shop / f"{name}.parquet")
        ids = [f"x{_turned(each)}" for each in table["item_id"]]
        table = table.with_columns(item_id=pl.Series(ids))
        (table.reverse() if name == "items" else table).write_parquet(folder / f"{name}.parquet")
    return leave_last_out(read(folder))


def _turned(item: str) -> str:
    return item[::-1]


def test_the_same_items_under_other_names_are_ranked_as_they_were(
    run: Recommender, split: Split, renamed: Split, tmp_path: Path
) -> None:
    moved = transfer(run, renamed, tmp_path / "moved")
    assert moved.items.id_list([0]) != run.items.id_list([0])
    for rows in ([0, 5, 7], [3], [11, 2, 30, 8]):
        ids = run.items.id_list(rows)
        (before,), (now,) = (
            model.recommend([history], k=len(run.items))
            for model, history in ((run, ids), (moved, [f"x{_turned(each)}" for each in ids]))
        )
        scores = dict(zip(now.items, now.scores, strict=True))
        assert len(scores) == len(before.items)
        for item, score in zip(before.items, before.scores, strict=True):
            assert scores[f"x{_turned(item)}"] == pytest.approx(score, abs=1e-4)
    whole, other = evaluate(run, split), evaluate(moved, renamed)
    assert other.metrics["ndcg@10"].mean == pytest.approx(whole.metrics["ndcg@10"].mean, abs=1e-3)


def test_tokens_are_made_by_the_runs_tokenizer_of_features_as_it_read_them(
    run: Recommender, other: Split, tmp_path: Path
) -> None:
    """Prices are standardised by the mean of the run's data, not of the other."""
    moved = transfer(run, other, tmp_path / "moved")
    prices = run.item_table["price"].to_numpy()
    (_, price) = read_features(other.data, FEATURES)
    own = (other.data.item_table["price"].to_numpy() - prices.mean()) / prices.std()
    features = read_features(other.data, FEATURES, {"categories": _scale(run, 0), "price": _scale(run, 1)})
    np.testing.assert_allclose(features[1].values[:, 0], own, atol=1e-4)
    assert not np.allclose(price.values[:, 0], own, atol=1e-2)
    tokens = moved.method.tokens  # type: ignore[attr-defined]
    wanted = run.method.tokens.tokenizer.encode(tokenizer_inputs(features, None))  # type: ignore[attr-defined]
    assert torch.equal(tokens.codes_NM, wanted)
    theirs, mine = run.method.state_dict(), moved.method.state_dict()
    assert theirs.keys() == mine.keys()
    differ = {
        name for name in mine if mine[name].shape != theirs[name].shape or not torch.equal(mine[name], theirs[name])
    }
    assert {name.rpartition(".")[2] for name in differ} <= {"codes_NM", "category_N"}


def _scale(run: Recommender, at: int) -> FeatureScale:
    return feature_scale(run.about["features"][at]["scale"])


def test_a_training_goes_on_from_there(
    run: Recommender, renamed: Split, other: Split, tmp_path: Path, quick: Training
) -> None:
    moved = transfer(run, renamed, tmp_path / "moved")
    assert moved.about["started_from"]["may_have_seen"] is False  # no item in common
    assert moved.about["seen_until"] is None
    assert moved.item_table["train_count"].to_list() == [0] * len(moved.items)
    assert load(tmp_path / "moved").about["protocol"] == renamed.protocol
    again = Recipe(method=run.config.method, training=quick, features=FEATURES)  # type: ignore[arg-type]
    few = train(again, renamed, tmp_path / "few", start=tmp_path / "moved")
    assert torch.equal(few.method.tokens.codes_NM, moved.method.tokens.codes_NM)  # type: ignore[attr-defined]
    assert few.about["started_from"]["may_have_seen"] is False
    same_names = transfer(run, other, tmp_path / "other")
    assert same_names.about["started_from"]["may_have_seen"] is True
    assert same_names.about["seen_until"] == run.about["seen_until"] is not None


def test_what_was_trained_on_is_known_however_often_it_is_carried_on(
    run: Recommender, split: Split, renamed: Split, other: Split, tmp_path: Path, quick: Training
) -> None:
    """Weights that come back to the data that they were trained on may have seen what is tested there."""
    moved = transfer(run, renamed, tmp_path / "moved")  # no item in common
    assert moved.about["started_from"]["data"] == split.data.name
    back = transfer(moved, split, tmp_path / "back")
    assert back.about["started_from"] == {
        "weights": moved.weights_sum,
        "data": split.data.name,
        "data_hash": split.data.data_hash,
        "may_have_seen": True,
    }
    again = Recipe(method=run.config.method, training=quick, features=FEATURES)  # type: ignore[arg-type]
    few = train(again, renamed, tmp_path / "few", start=tmp_path / "moved")
    assert few.about["started_from"]["may_have_seen"] is False
    home = transfer(few, split, tmp_path / "home").about["started_from"]
    assert (home["data"], home["may_have_seen"]) == (split.data.name, True)
    assert [each["data"] for each in home["earlier"]] == [renamed.data.name]


def test_a_doubt_names_the_data_that_was_trained_on(
    run: Recommender, split: Split, other: Split, tmp_path: Path, quick: Training
) -> None:
    """And not the data that weights were carried to, of whose interactions nothing was read."""
    transfer(run, other, tmp_path / "moved")
    again = Recipe(method=run.config.method, training=quick, features=FEATURES)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=rf"are of {split.data.name} \({split.data.data_hash[:8]}\)"):
        few = train(again, other, tmp_path / "few", start=tmp_path / "moved")
    assert few.about["started_from"]["data_hash"] == split.data.data_hash


def test_what_cannot_carry_over_is_refused_in_a_sentence(
    split: Split, other: Split, quick: Training, tmp_path: Path, trained: Recommender, shop: Path
) -> None:
    def refused(run: Recommender, data: Split, match: str, kind: type[ForethoughtError] = ConfigError) -> None:
        with pytest.raises(kind, match=match):
            transfer(run, data, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    short = replace(quick, epochs=1)
    refused(trained, other, "knows its items one by one")
    plain = train(recipe("rpg", short), split, tmp_path / "plain")
    refused(plain, split, "the data that the run was trained on")
    met = train(recipe("rpg", short, collaborative="co_occurrence", collaborative_width=8), split, tmp_path / "met")
    refused(met, other, "what users meet together.*--tokenizer.collaborative none")
    heard = replace(recipe("rpg", short), evidence=Evidence(use="co_occurrence"))
    refused(train(heard, split, tmp_path / "heard"), other, "evidence beside its scores")
    bare = leave_last_out(read(pl.read_parquet(shop / "interactions.parquet").with_columns(pl.col("item_id") + "x")))
    refused(plain, bare, "reads categories, price of its items, and the data does not serve that", DataError)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        transfer(plain, other, tmp_path / "full")


def test_the_verb(run: Recommender, other: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert other.data.origin is not None
    words = [str(run.folder), "--data", other.data.origin.path, "--out", str(tmp_path / "moved")]
    verb.run(words)
    assert f"knows the {other.data.n_items} items of other, untrained there" in " ".join(
        capsys.readouterr().err.split()
    )
    assert len(load(tmp_path / "moved").items) == other.data.n_items


def test_equal_tokens_give_way_within_the_other_data_alone(
    split: Split, renamed: Split, quick: Training, tmp_path: Path
) -> None:
    """Where equal tokens are told apart, the same items come to the same tokens beside nobody of the run."""
    run = train(recipe("rpg", replace(quick, epochs=1), collisions="greedy"), split, tmp_path / "run")
    moved = transfer(run, renamed, tmp_path / "moved")
    before, now = (
        sorted(map(tuple, model.method.tokens.codes_NM.tolist()))  # type: ignore[attr-defined]
        for model in (run, moved)
    )
    assert len(set(now)) == len(now)
    encoded = run.method.tokens.tokenizer.encode(  # type: ignore[attr-defined]
        tokenizer_inputs(read_features(split.data, FEATURES), None)
    )
    kept = {tuple(code) for code in encoded.tolist()}
    assert kept <= set(before)  # of items with equal tokens one keeps them
    assert kept <= set(now)


def test_tokens_by_the_tokenizer_of_other_data(
    split: Split, other: Split, quick: Training, tmp_path: Path, shop: Path
) -> None:
    """They are those that a transferred run has, a method trains on them, and its features are made as theirs were."""
    tokenize(split, tmp_path / "tokens", TOKENIZER, features=FEATURES)
    made = tokenize(other, tmp_path / "like", like=tmp_path / "tokens")
    method = replace(small("rpg"), tokens=str(tmp_path / "tokens"))
    short = replace(quick, epochs=1)
    run = train(Recipe(method=method, training=short, features=FEATURES), split, tmp_path / "run")
    moved = transfer(run, other, tmp_path / "moved")
    assert torch.equal(moved.method.tokens.codes_NM, made.tokens.table.codes_NM)  # type: ignore[attr-defined]
    method = replace(small("rpg"), tokens=str(tmp_path / "like"))
    own = train(Recipe(method=method, training=short, features=FEATURES), other, tmp_path / "own")
    assert torch.equal(own.method.tokens.codes_NM, made.tokens.table.codes_NM)  # type: ignore[attr-defined]
    assert own.about["features"][1]["scale"] == run.about["features"][1]["scale"]
    for wrong in ({"config": TOKENIZER}, {"features": FEATURES}, {"seed": 1}):
        with pytest.raises(ConfigError, match="would change nothing"):
            tokenize(other, tmp_path / "x", like=tmp_path / "tokens", **wrong)  # type: ignore[arg-type]
    tokenize(split, tmp_path / "met", replace(TOKENIZER, collaborative="co_occurrence"), features=FEATURES)
    with pytest.raises(ConfigError, match="what users meet together"):
        tokenize(other, tmp_path / "x", like=tmp_path / "met")
    bare = leave_last_out(read(pl.read_parquet(shop / "interactions.parquet")))
    with pytest.raises(DataError, match="were made of categories, price"):
        tokenize(bare, tmp_path / "x", like=tmp_path / "tokens")
    assert not (tmp_path / "x").exists()
    assert other.data.origin is not None
    words = ["--data", other.data.origin.path, "--tokenizer-from", str(tmp_path / "tokens")]
    verb_of_tokens.run([*words, "--out", str(tmp_path / "verb")])
    assert torch.equal(read_tokens(tmp_path / "verb", other).table.codes_NM, made.tokens.table.codes_NM)
    with pytest.raises(ConfigError, match="fitted already"):
        verb_of_tokens.run([*words, "--out", str(tmp_path / "y"), "--codebooks", "3"])
