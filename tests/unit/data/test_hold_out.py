"""Items that are held out of training: drawn evenly, gone from training alone, and said in the protocol."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forethought.data.interactions import Interactions
from forethought.data.leakage import leakage
from forethought.data.noise import Noise
from forethought.data.prepare import PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, SplitConfig, leave_last_out, make_split, temporal
from forethought.errors import ConfigError, DataError, ForethoughtError
from forethought.evaluation.protocol import describe, in_words


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return Shop(users=150, items=80, seed=3).generate().interactions


@pytest.fixture(scope="module")
def data(table: pl.DataFrame) -> Interactions:
    return read(table)


def gone(split: Split) -> np.ndarray:
    return split.train.item_counts(split.data.n_items) == 0


def check_removed(whole: Split, split: Split, share: float) -> None:
    """Some items are gone from training, each row keeps its others in order, and cases are what they were."""
    never = gone(split) & ~gone(whole)
    assert never.sum() <= round(share * split.data.n_items) <= (never | gone(whole)).sum()
    for row in range(len(whole.train)):
        kept = [item for item in whole.train[row].tolist() if not never[item]]
        assert split.train[row].tolist() == kept
    assert split.train.users.tolist() == whole.train.users.tolist()
    for before, now in ((whole.valid, split.valid), (whole.test, split.test)):
        assert now.targets.tolist() == before.targets.tolist()
        assert [now.history[n].tolist() for n in range(len(now))] == [
            before.history[n].tolist() for n in range(len(before))
        ]


@pytest.mark.parametrize("ties", ["file", "shuffle"])
def test_training_has_none_of_the_items_and_cases_stay(data: Interactions, ties: str) -> None:
    choices = {"ties": ties, "seed": 5 if ties == "shuffle" else 0}
    split = leave_last_out(data, **choices, hold_out_items=0.2)
    check_removed(leave_last_out(data, **choices), split, 0.2)
    assert gone(split)[split.test.targets].any()  # those cases are cold
    other = leave_last_out(data, **choices, hold_out_items=0.2, hold_out_seed=1)
    assert (gone(other) != gone(split)).any()
    again = make_split(data, json.loads(json.dumps(asdict(split.config))))
    assert (gone(again) == gone(split)).all()
    assert again.protocol == split.protocol


def test_times_stay_with_their_items(data: Interactions) -> None:
    split = leave_last_out(data, hold_out_items=0.2)
    whole, held = data.histories, gone(split)
    assert split.train.histories.times is not None
    for row in range(20):
        span = slice(int(split.train.starts[row]), int(split.train.ends[row]))
        first, last = whole.offsets[row], whole.offsets[row] + len(leave_last_out(data).train[row])
        keep = ~held[whole.items[first:last]]
        assert split.train.histories.times[span].tolist() == whole.dated()[first:last][keep].tolist()


def test_a_temporal_split_counts_them_as_cold(data: Interactions) -> None:
    moments = {"valid_from": 0.7, "test_from": 0.85}
    split, whole = temporal(data, **moments, hold_out_items=0.2), temporal(data, **moments)
    check_removed(whole, split, 0.2)
    cold = int(gone(split)[split.test.targets].sum())
    assert split.protocol["test"]["cold_items"] == cold > whole.protocol["test"]["cold_items"]
    assert make_split(data, split.config).protocol == split.protocol
    assert leakage(split).test.cold_items == cold
    assert leakage(split).train_interactions == split.train.lengths.sum()
    with pytest.raises(ConfigError, match='cold_items="drop" leaves out those cases'):
        temporal(data, **moments, hold_out_items=0.2, cold_items="drop")


def test_one_item_at_least_and_evenly(data: Interactions) -> None:
    split = leave_last_out(data, hold_out_items=0.001)
    assert (gone(split) & ~gone(leave_last_out(data))).sum() <= 1
    draws = np.array([gone(leave_last_out(data, hold_out_items=0.5, hold_out_seed=n)) for n in range(60)])
    always = gone(leave_last_out(data))
    assert abs(draws[:, ~always].mean() - 0.5) < 0.02
    assert draws[:, ~always].mean(axis=0).std() < 0.1  # as of sixty coins


def test_the_protocol_says_it_only_where_it_is_so(data: Interactions) -> None:
    assert leave_last_out(data).protocol == {"split": "leave_last_out", "ties": "file", "seed": None}
    split = leave_last_out(data, hold_out_items=0.05, hold_out_seed=2)
    described = describe(split, "test", len(split.test), window=50, history_excluded=True)
    assert described["hold_out_items"] == 0.05
    words = in_words(described)
    assert "5% of the items held out of training (seed 2)" in words
    assert "hold_out" not in words


@pytest.mark.parametrize(
    ("choices", "error", "said"),
    [
        ({"hold_out_items": 1.0}, ConfigError, "hold_out_items is 1.0, but must be"),
        ({"hold_out_items": -0.1}, ConfigError, "hold_out_items is -0.1"),
        ({"hold_out_items": float("nan")}, ConfigError, "hold_out_items is nan"),
        ({"hold_out_items": "all"}, ConfigError, "hold_out_items is 'all'"),
        ({"hold_out_items": 0.1, "hold_out_seed": -1}, ConfigError, "hold_out_seed is -1"),
        ({"hold_out_seed": 1}, ConfigError, "hold_out_seed=1 would change nothing"),
        ({"hold_out_items": 0.999}, DataError, "nothing is left to train on"),
    ],
)
def test_what_cannot_be_held_out(data: Interactions, choices: dict, error: type[ForethoughtError], said: str) -> None:
    if error is DataError:
        data = read(pl.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]}))
    with pytest.raises(error, match=said):
        leave_last_out(data, **choices)
    with pytest.raises(error, match=said):
        SplitConfig(**choices).apply(data)


def test_noise_that_would_bring_them_back_is_refused(data: Interactions) -> None:
    split = leave_last_out(data, hold_out_items=0.2)
    for kind in ("replace", "insert"):
        with pytest.raises(ConfigError, match="held out of it"):
            split.with_noise(Noise(kind=kind, share=0.2))
    for kind in ("delete", "swap"):
        assert gone(split.with_noise(Noise(kind=kind, share=0.2))).sum() >= gone(split).sum()


@pytest.mark.parametrize("kind", ["leave_last_out", "temporal"])
def test_a_prepared_folder_keeps_all_interactions_and_marks_those(
    table: pl.DataFrame, tmp_path: Path, kind: str
) -> None:
    moments = {"valid_from": 0.7, "test_from": 0.85} if kind == "temporal" else {}
    config = SplitConfig(kind=kind, ties="shuffle", hold_out_items=0.2, **moments)  # type: ignore[arg-type]
    table.write_parquet(tmp_path / "table.parquet")
    made = prepare(tmp_path / "table.parquet", tmp_path / "out", PrepareConfig(split=config))
    again = open_prepared(tmp_path / "out")
    assert (gone(again) == gone(made)).all()
    assert again.test.targets.tolist() == made.test.targets.tolist()
    rows = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert rows.height == table.height
    parts = dict(rows["split"].value_counts().iter_rows())
    assert parts["train"] == made.train.lengths.sum()
    assert parts["held_out"] > 0
    cold = set(made.data.items.ids.filter(pl.Series(gone(made))).to_list())
    assert set(rows.filter(pl.col("split") == "held_out")["item_id"]) <= cold
