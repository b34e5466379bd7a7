"""A training that begins with the weights of a run: which runs it takes, what it says, how it is resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from small_methods import small

import forethought as ft
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe, to_json
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.item_tokens import TokenItems
from forethought.recommender import Recommender
from forethought.run_folder import differences
from forethought.runs import evaluate, train
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

SEEN = "whose training may have held what is tested here"


@pytest.fixture
def recipe(sasrec: SASRec, quick: Training) -> Recipe:
    return Recipe(method=sasrec, training=quick)


@pytest.fixture(scope="module")
def older(shop: Path) -> pl.DataFrame:
    """The interactions without a few items."""
    rows = pl.read_parquet(shop / "interactions.parquet")
    return rows.filter(~pl.col("item_id").is_in(["i00001", "i00002"]))


def test_on_the_same_split_nothing_is_held_against_it(
    recipe: Recipe, trained: Recommender, split: Split, tmp_path: Path
) -> None:
    assert trained.folder is not None
    run = train(recipe, split, tmp_path / "run", start=trained.folder)
    assert run.about["started_from"] == {
        "weights": trained.weights_sum,
        "data": trained.about["data"],
        "data_hash": trained.about["data_hash"],
        "may_have_seen": False,
    }
    assert "started_from" not in evaluate(run, split, EvaluationConfig(resamples=50)).protocol
    same = evaluate(trained, split, EvaluationConfig(resamples=50))
    assert run.progress()["best"] >= 0.9 * trained.progress()["best"]  # it went on, and did not begin anew
    assert same.metrics["recall@10"].mean > 0


def test_what_it_may_have_seen_is_said_wherever_its_numbers_are(
    recipe: Recipe, older: pl.DataFrame, split: Split, tmp_path: Path
) -> None:
    train(recipe, leave_last_out(read(older, name="older")), tmp_path / "older")
    with pytest.warns(UserWarning, match=f"began with are of older .*{SEEN}"):
        run = train(recipe, split, tmp_path / "run", start=tmp_path / "older")
    evaluation = evaluate(run, split, EvaluationConfig(resamples=50))
    assert evaluation.protocol["started_from"].endswith(SEEN)
    assert "began with weights of older" in " ".join(str(evaluation).split())
    assert SEEN in (tmp_path / "run" / "README.md").read_text()
    plain = evaluate(train(recipe, split, tmp_path / "plain"), split, EvaluationConfig(resamples=50))
    assert isinstance(plain, Evaluation)
    compare({"plain": plain, "started": evaluation}, resamples=50, permutations=50)  # the very question one asks
    again = train(recipe, split, tmp_path / "again", start=tmp_path / "run")
    assert again.about["started_from"]["may_have_seen"]


def test_what_it_has_seen_is_what_it_or_those_before_it_have(
    recipe: Recipe, older: pl.DataFrame, split: Split, tmp_path: Path
) -> None:
    later = older.with_columns(timestamp=pl.col("timestamp") + 1000)
    start = train(recipe, leave_last_out(read(later, name="later")), tmp_path / "later")
    plain = train(recipe, split, tmp_path / "plain")
    with pytest.warns(UserWarning, match=SEEN):
        run = train(recipe, split, tmp_path / "run", start=tmp_path / "later")
    assert plain.about["seen_until"] < run.about["seen_until"] == start.about["seen_until"]


def test_of_parts_of_two_types_the_types_alone_are_told() -> None:
    """And not each setting that the one has and the other has not."""
    before, now = ({"tokenizer": to_json(each), "width": width} for each, width in ((ft.MPQ(), 8), (ft.OPQ(), 9)))
    assert differences(before, now, "method") == ["method.tokenizer.type: 'mpq' -> 'opq'", "method.width: 8 -> 9"]
    one, other = {"tokenizer": to_json(ft.MPQ())}, {"tokenizer": to_json(ft.MPQ(hidden=8))}
    assert differences(one, other) == ["tokenizer.hidden: 64 -> 8"]


def test_features_are_read_as_those_of_the_run(recipe: Recipe, older: pl.DataFrame, shop: Path, tmp_path: Path) -> None:
    rich = replace(recipe, features=Features(use="brand,price"))
    before = train(rich, leave_last_out(read(older, items=shop / "items.parquet")), tmp_path / "older")
    table = pl.read_parquet(shop / "items.parquet").with_columns(
        price=pl.when(pl.col("item_id") == "i00001").then(1e6).otherwise("price"),
        brand=pl.col("brand").replace("x", "y"),
    )
    split = leave_last_out(read(pl.read_parquet(shop / "interactions.parquet"), items=table))
    run = train(rich, split, tmp_path / "run", start=tmp_path / "older")
    assert [each["scale"] for each in run.about["features"]] == [each["scale"] for each in before.about["features"]]
    place = torch.from_numpy(run.items.index_of(before.items.ids))
    mine, theirs = (each.method.items.features.maps[1].values for each in (run, before))  # type: ignore[union-attr]
    torch.testing.assert_close(mine[place], theirs)  # whatever the new item costs
    with pytest.raises(ConfigError, match=r"configured otherwise .*features"):
        train(recipe, split, tmp_path / "none", start=tmp_path / "older")


def test_runs_that_do_not_fit_are_told(
    recipe: Recipe, trained: Recommender, split: Split, older: pl.DataFrame, tmp_path: Path
) -> None:
    assert trained.folder is not None
    numbers = older.with_columns(pl.col("item_id").str.slice(1).cast(pl.Int64))
    cases: list[tuple[Recipe, Split, Path, type[ForethoughtError], str]] = [
        (replace(recipe, method=SASRec(width=32)), split, trained.folder, ConfigError, r"method.*width: 16 -> 32"),
        (recipe, split, tmp_path / "gone", RunError, "no run folder"),
        (
            recipe,
            leave_last_out(read(older)),
            trained.folder,
            DataError,
            "knows items that the data lacks .'i00001', 'i00002'",
        ),
        (
            recipe,
            leave_last_out(read(numbers)),
            trained.folder,
            DataError,
            "of kind string, but those of the data of kind",
        ),
    ]
    for given, data, folder, error, said in cases:
        with pytest.raises(error, match=said):
            train(given, data, tmp_path / "run", start=folder)
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="would be overwritten by what begins with it"):
        train(recipe, split, trained.folder, start=trained.folder, overwrite=True)
    with pytest.raises(ConfigError, match="start is 7, but must be"):
        train(recipe, split, tmp_path / "run", start=7)  # type: ignore[arg-type]


class Stop(Quiet):
    """Ctrl-C in the third step."""

    left = 2

    def step(self, losses: dict[str, float], positions: int) -> None:
        if self.left == 0:
            raise Interrupted
        self.left -= 1


def test_it_is_resumed_with_the_same_start_alone(
    recipe: Recipe, trained: Recommender, split: Split, tmp_path: Path
) -> None:
    start = shutil.copytree(trained.folder, tmp_path / "start")  # type: ignore[arg-type]
    plain, recipe = recipe, replace(recipe, training=replace(recipe.training, checkpoint_every_s=1e-9))
    whole = train(recipe, split, tmp_path / "whole", start=start)
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "stopped", start=start, observer=Stop())
    with pytest.raises(ConfigError, match="began with other weights: resume it with the same run to start from"):
        train(recipe, split, tmp_path / "stopped", resume=True)
    resumed = train(recipe, split, tmp_path / "stopped", resume=True, start=start)
    for key, tensor in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[key], tensor), key
    with pytest.raises(ConfigError, match="began with weights of its own: resume it with no run"):
        train(plain, split, shutil.copytree(trained.folder, tmp_path / "own"), resume=True, start=start)  # type: ignore[arg-type]


def test_a_training_keeps_the_tokens_of_the_run_it_begins_with(
    older: pl.DataFrame, quick: Training, shop: Path, tmp_path: Path
) -> None:
    """Vectors of tokens are of the run's tokens; those made anew of more interactions would be others."""
    rpg = Recipe(method=small("rpg"), training=replace(quick, epochs=1), features=Features(use="categories,price"))
    before = train(rpg, leave_last_out(read(older, items=shop / "items.parquet")), tmp_path / "older")
    with pytest.warns(UserWarning, match=SEEN):
        after = train(rpg, leave_last_out(read(shop)), tmp_path / "run", start=tmp_path / "older")
    place = torch.from_numpy(after.items.index_of(before.items.ids).copy())
    theirs, mine = before.method.get_submodule("tokens"), after.method.get_submodule("tokens")
    assert isinstance(theirs, TokenItems)
    assert isinstance(mine, TokenItems)
    assert torch.equal(mine.codes_NM[place], theirs.codes_NM)
    assert torch.equal(mine.category_N[place], theirs.category_N)
    for name, tensor in theirs.tokenizer.state_dict().items():
        assert torch.equal(mine.tokenizer.state_dict()[name], tensor)
    twins = mine.codes_NM[:, None].eq(mine.codes_NM).all(-1).sum(1)
    assert int(twins.max()) == 1  # new items give way
