"""Runs held against what came after they were trained: whom they know, what they may not have seen, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.popularity import training_counts
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.ensembling import ensemble
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.extending import extend
from forethought.later_data import later_split, remarks
from forethought.methods.sse_pt import SSEPT
from forethought.noise_curves import robustness
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.training.settings import Training

NEW = "n1"


@pytest.fixture(scope="module")
def run(shop: Path, sasrec: SASRec, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    recipe = Recipe(method=sasrec, training=quick, features=Features(use="categories,brand"))
    return train(recipe, leave_last_out(read(shop)), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def extended(run: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    new = run.item_table.head(1).select(pl.Series("item_id", [NEW]), "categories", "brand")
    return extend(run, new, tmp_path_factory.mktemp("more") / "run", lift=3.0)


@pytest.fixture(scope="module")
def log(shop: Path) -> pl.DataFrame:
    """All there was, and a day later: everybody meets the new item, a known one, or one that nobody knows."""
    rows = pl.read_parquet(shop / "interactions.parquet").select("user_id", "item_id", "timestamp")
    users, met = rows["user_id"].unique(maintain_order=True), [NEW, "i00003", "who?"]
    items = pl.Series("item_id", [met[at % 3] for at in range(len(users))])
    day = pl.lit(rows["timestamp"].max()).cast(rows.schema["timestamp"]) + 86_400
    early = pl.DataFrame({"user_id": users.slice(1, 2), "item_id": [NEW] * 2}).with_columns(timestamp=day - 50_000)
    return pl.concat([rows, early, pl.DataFrame([users, items]).with_columns(timestamp=day)])


@pytest.fixture(scope="module")
def after(log: pl.DataFrame) -> int:
    return int(log["timestamp"].max()) - 3600  # type: ignore[arg-type]


def test_an_extended_run_is_ranked_by_what_came_later(
    extended: Recommender, run: Recommender, log: pl.DataFrame, after: int
) -> None:
    split = later_split(extended, log, after)
    evaluation = evaluate(extended, split)
    met = log.filter(pl.col("timestamp") >= after)
    known = met.filter(pl.col("item_id") != "who?")
    assert split.protocol["test"] == {"cases": len(known), "without_history": 0, "unknown_items": len(met) - len(known)}
    assert set(zip(evaluation.cases["user_id"], evaluation.cases["target_id"], strict=True)) == set(
        known.select("user_id", "item_id").rows()
    )
    assert (evaluation.cases["target_group"] == "cold").sum() == (known["item_id"] == NEW).sum()
    earlier = log.filter(pl.col("timestamp") < after).sort("user_id", "timestamp", maintain_order=True)
    assert training_counts(split)[-1] == 0  # it was met in the log since, and in no training
    for user, target, rank in evaluation.cases.select("user_id", "target_id", "rank").head(9).rows():
        history = earlier.filter(pl.col("user_id") == user)["item_id"].to_list()
        (answer,) = extended.recommend([history], k=len(extended.items), exclude_history=False)
        better = answer.items.index(target)
        excluded = set(history) & set(answer.items[:better]) if evaluation.protocol["history_excluded"] else set()
        assert rank == 1 + better - len(excluded)
    assert evaluation.cost["training"] is None
    assert later_split(run, log, after).protocol["test"]["cases"] == (known["item_id"] != NEW).sum()


def test_what_is_left_out_is_told(extended: Recommender, log: pl.DataFrame, after: int) -> None:
    strangers = log.filter(pl.col("timestamp") >= after).with_columns(user_id=pl.col("user_id") + "?")
    again = log.filter(pl.col("timestamp") >= after).with_columns(
        timestamp=pl.col("timestamp") + 60, item_id=pl.lit("i00003")
    )
    split = later_split(extended, pl.concat([log, strangers, again]), after, targets="last")
    told = split.protocol["test"]
    assert told["without_history"] == strangers.filter(pl.col("item_id") != "who?").height
    repeats = sum(
        int(target) in split.test.history[row].tolist() for row, target in enumerate(split.test.targets.tolist())
    )
    said = remarks(extended, split, exclude_history=True)
    assert [sentence.split(" ")[0] for sentence in said] == [
        str(told["unknown_items"]),
        str(told["without_history"]),
        str(repeats),
    ]
    assert repeats
    assert len(remarks(extended, split, exclude_history=False)) == 2
    silent = replace(extended, about={**extended.about, "seen_until": None})
    assert "does not say until when" in remarks(silent, split, exclude_history=False)[0]


def test_columns_may_have_other_names(run: Recommender, log: pl.DataFrame, after: int) -> None:
    other = log.rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
    named = later_split(run, other, after, columns={"user": "who", "item": "what", "time": "when"})
    assert named.data.data_hash == later_split(run, log, after).data.data_hash
    with pytest.raises(DataError, match="user"):
        later_split(run, other, after)
    with pytest.raises(ConfigError, match="columns may name user, item, time, position, but not 'rating'"):
        later_split(run, other, after, columns={"rating": "stars"})


def test_what_a_run_may_have_been_trained_on_is_refused(run: Recommender, log: pl.DataFrame, after: int) -> None:
    assert run.folder is not None
    seen = load(run.folder).about["seen_until"]
    with pytest.raises(DataError, match=f"has seen interactions until {seen}"):
        later_split(run.folder, log, seen)
    early = later_split(replace(run, about={**run.about, "seen_until": None}), log, seen)
    with pytest.raises(DataError, match=f"has seen interactions until {seen}"):
        evaluate(run, early)
    with pytest.raises(RunError, match="damaged"):
        later_split(replace(run, about={**run.about, "seen_until": "x"}), log, seen)
    about = {name: value for name, value in run.about.items() if name != "seen_until"}
    assert len(later_split(replace(run, about=about), log, seen).test)  # one of before does not say
    with pytest.raises(DataError, match="of kind integer, but those of the run of kind string"):
        later_split(run, log.with_columns(item_id=pl.int_range(pl.len())), after)
    with pytest.raises(DataError, match="no times"):
        later_split(run, log.drop("timestamp"), after)
    with pytest.raises(ConfigError, match="must be one of first, last, all"):
        later_split(run, log, after, targets="second")  # type: ignore[arg-type]


def test_later_cases_choose_nothing(
    run: Recommender, shop: Path, sasrec: SASRec, quick: Training, log: pl.DataFrame, after: int, tmp_path: Path
) -> None:
    split = later_split(run, log, after)
    with pytest.raises(ConfigError, match="no validation part"):
        evaluate(run, split, EvaluationConfig(part="valid"))
    other = Recipe(method=sasrec, training=quick, features=run.config.features, seed=1)
    again = train(other, leave_last_out(read(shop)), tmp_path / "again")
    with pytest.raises(DataError, match="another split"):
        ensemble([run, again], tmp_path / "both", split=split)


def test_users_of_later_data_are_strangers_to_a_run_that_keeps_some(
    shop: Path, quick: Training, log: pl.DataFrame, after: int, tmp_path: Path
) -> None:
    method = SSEPT(backbone=SASRec(width=16, window=8, ffn_width=16), user_width=8)
    run = train(Recipe(method=method, training=quick), leave_last_out(read(shop)), tmp_path / "run")
    evaluation = evaluate(run, later_split(run, log, after))
    assert evaluation.protocol["unknown_users"] is True
    assert len(evaluation.cases)
    with pytest.raises(ConfigError, match="noise curve"):
        robustness(run, later_split(run, log, after))
