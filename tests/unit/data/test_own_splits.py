"""Splits of one's own: a column, tables, a rule, whole sessions; and a column that is never written over in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import forethought as ft
from forethought.data.splits import make_split
from forethought.data.stored import open_again
from forethought.errors import ConfigError, DataError
from forethought.evaluation.protocol import conflicts, describe

TABLE = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 1, 2, 2, 2, 3, 3],
        "item_id": ["a", "b", "c", "d", "b", "c", "a", "d", "a"],
        "timestamp": [1, 2, 3, 4, 1, 2, 3, 8, 9],
        "split": ["train", "train", "Valid ", "test", "train", "test", "train", "test", "TEST"],
    }
)


def cases(part: ft.Split, which: str) -> list[tuple[int, str, str]]:
    """User, history and target of each case."""
    of, data = getattr(part, which), part.data
    names = data.items.ids.to_list()
    return [
        (data.users.ids[int(u)], "".join(names[i] for i in of.history[n]), names[of.targets[n]])
        for n, u in enumerate(of.history.users)
    ]


def trained(split: ft.Split) -> list[str]:
    names = split.data.items.ids.to_list()
    return ["".join(names[i] for i in split.train[n]) for n in range(len(split.train))]


def test_a_column_says_what_trains_and_what_is_to_be_found() -> None:
    split = ft.by_column(ft.read(TABLE.sample(fraction=1.0, shuffle=True, seed=3), split="split"))
    assert trained(split) == ["ab", "ba", ""]
    assert cases(split, "valid") == [(1, "ab", "c")]
    assert cases(split, "test") == [(1, "abc", "d"), (2, "b", "c"), (3, "d", "a")]
    assert split.protocol["test"] == {"cases": 3, "without_history": 1}
    assert split.train.item_counts(4).tolist() == [2, 2, 0, 0]


def test_without_a_validation_part_the_last_of_training_validates() -> None:
    table = TABLE.with_columns(split=pl.lit("train")).with_columns(
        split=pl.when(pl.col("timestamp") > 3).then(pl.lit("test")).otherwise("split")
    )
    split = ft.by_column(ft.read(table, split="split"))
    assert trained(split) == ["ab", "bc", ""]
    assert cases(split, "valid") == [(1, "ab", "c"), (2, "bc", "a")]
    assert split.protocol["valid_from"] == "the last of training"


def test_two_protocols_are_never_compared() -> None:
    first = ft.by_column(ft.read(TABLE, split="split"))
    other = TABLE.with_columns(split=pl.Series([*TABLE["split"][:-3], "valid", "test", "test"]))
    second = ft.by_column(ft.read(other, split="split"))
    protocols = [describe(s, "test", 3, window=5, history_excluded=True) for s in (first, second)]
    assert {"parts"} <= conflicts(*protocols).keys()
    third = describe(ft.leave_last_out(ft.read(TABLE)), "test", 3, window=5, history_excluded=True)
    assert {"split", "parts"} <= conflicts(protocols[0], third).keys()


@pytest.mark.parametrize(
    ("word", "said"), [("holdout", "holds 'holdout' in 1 of 9 rows"), (None, "holds None in 1 of 9 rows")]
)
def test_other_words_are_refused(word: str | None, said: str) -> None:
    table = TABLE.with_columns(split=pl.Series([*TABLE["split"][:-1], word]))
    with pytest.raises(DataError, match=said):
        ft.read(table, split="split")


def test_what_is_empty_or_missing_is_told() -> None:
    with pytest.raises(DataError, match="Did you mean 'split'"):
        ft.read(TABLE, split="spilt")
    with pytest.raises(DataError, match="read the table with split=COLUMN"):
        ft.by_column(ft.read(TABLE))
    with pytest.raises(DataError, match="The test part has no interaction with a history"):
        ft.by_column(ft.read(TABLE.filter(pl.col("user_id") == 1).head(3), split="split"))
    with pytest.raises(ConfigError, match=r"ties would change nothing, because the split is column"):
        make_split(ft.read(TABLE, split="split"), {"kind": "column", "ties": "shuffle"})


def test_prepare_never_writes_over_a_split_in_silence(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="has a column 'split' already, which would be written over: keep it"):
        ft.prepare(tmp_path / "t.parquet", tmp_path / "p")
    assert not (tmp_path / "p").exists()
    notes: list[str] = []
    anew = ft.PrepareConfig(split=ft.SplitConfig())
    ft.prepare(tmp_path / "t.parquet", tmp_path / "anew", anew, report=notes.append)
    assert any("gives way to the new split" in each for each in notes)
    config = ft.PrepareConfig(columns=ft.Columns(split="split"))
    made = ft.prepare(tmp_path / "t.parquet", tmp_path / "kept", config)
    read = ft.open_prepared(tmp_path / "kept")
    assert cases(read, "test") == cases(made, "test") == [(1, "abc", "d"), (2, "b", "c"), (3, "d", "a")]
    assert read.protocol == made.protocol
    kept = pl.read_parquet(tmp_path / "kept" / "interactions.parquet").sort("user_id", "timestamp")
    assert kept["split"].cast(pl.String).to_list() == [w.strip().lower() for w in TABLE["split"]]


def test_a_prepared_column_that_changed_is_refused(tmp_path: Path) -> None:
    ft.keep_split(ft.by_column(ft.read(TABLE, split="split")), tmp_path / "p")
    path = tmp_path / "p" / "interactions.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(split=frame["split"].reverse()).write_parquet(path)
    with pytest.raises(DataError, match="not those that were prepared"):
        ft.open_prepared(tmp_path / "p")


def test_a_rule_of_ones_own_and_the_folder_that_keeps_it(tmp_path: Path) -> None:
    def rule(frame: pl.DataFrame) -> pl.Series:
        assert frame.columns == ["user_id", "item_id", "timestamp", "position"]
        return frame.select(
            pl.when(pl.col("position") == 2)
            .then(pl.lit("test"))
            .when(pl.col("position") == 1)
            .then(pl.lit("valid"))
            .otherwise(pl.lit("train"))
        ).to_series()

    data = ft.read(TABLE)
    split = ft.custom_split(data, rule)
    assert cases(split, "test") == [(1, "ab", "c"), (2, "bc", "a")]
    assert trained(split) == ["ad", "b", "d"]
    ft.keep_split(split, tmp_path / "kept")
    again = ft.open_prepared(tmp_path / "kept")
    assert again.protocol == split.protocol
    assert again.data.data_hash == data.data_hash
    with pytest.raises(DataError, match="needs a part for each, but got 2"):
        ft.custom_split(data, ["train", "test"])
    with pytest.raises(DataError, match="Row 8 belongs to the part 'x'"):
        ft.custom_split(data, ["train"] * 8 + ["x"])
    for wrong in (5, "train", None):
        with pytest.raises(DataError, match=r"A split needs a part .one of train, valid, test. for each interaction"):
            ft.custom_split(data, lambda _, wrong=wrong: wrong)
    with pytest.raises(DataError, match="keep_split"):
        make_split(data, {"kind": "column"})


@pytest.mark.parametrize("valid", [True, False])
def test_tables_of_their_own_are_found_again(tmp_path: Path, valid: bool) -> None:
    table = TABLE.with_columns(split=pl.col("split").str.strip_chars().str.to_lowercase())
    table = table if valid else table.with_columns(split=pl.col("split").replace("valid", "train"))
    files = {}
    for part in ("train", "valid", "test") if valid else ("train", "test"):
        files[part] = tmp_path / f"{part}.csv"
        table.filter(pl.col("split") == part).drop("split").write_csv(files[part])
    split = ft.split_of_tables(**files)
    if valid:
        assert split.protocol == ft.by_column(ft.read(TABLE, split="split")).protocol
    assert split.data.origin is not None
    about = json.loads(json.dumps(split.data.origin.noted() | {"data_hash": split.data.data_hash}))
    assert open_again(about, split.config).protocol == split.protocol
    files["test"].unlink()
    with pytest.raises(DataError, match="which the run names as its test table"):
        open_again(about, split.config)
    about["tables"]["test"] = "sql: SELECT 1"
    with pytest.raises(DataError, match="is not executed"):
        open_again(about, split.config)


def sessions(n: int = 40, times: bool = True) -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [(s, f"i{random.integers(9)}", 1000 * ((s * 7) % n) + k) for s in range(n) for k in range(2 + s % 3)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return frame if times else frame.drop("timestamp")


def test_the_last_sessions_are_held_out_whole(tmp_path: Path) -> None:
    split = ft.by_session(ft.read(sessions()), test_share=0.2, valid_share=0.1, session_targets="all")
    begins = split.data.histories.dated()[split.data.histories.starts]
    held = {name: np.unique(getattr(split, name).history.users) for name in ("valid", "test")}
    rows = np.flatnonzero(split.train.lengths)
    assert [len(rows), len(held["valid"]), len(held["test"])] == [28, 4, 8]
    assert begins[rows].max() < begins[held["valid"]].min() < begins[held["valid"]].max() < begins[held["test"]].min()
    assert len(split.test) == sum(split.data.histories.lengths[held["test"]] - 1)
    sessions().write_parquet(tmp_path / "t.parquet")
    config = ft.PrepareConfig(split=split.config)
    made = ft.prepare(tmp_path / "t.parquet", tmp_path / "p", config)
    assert ft.open_prepared(tmp_path / "p").protocol == made.protocol == split.protocol
    written = pl.read_parquet(tmp_path / "p" / "interactions.parquet")
    assert set(written.filter(pl.col("split") == "test")["user_id"]) == set(split.data.users.ids[held["test"]])


def test_sessions_without_times_are_drawn() -> None:
    data = ft.read(sessions(times=False))
    split, other = ft.by_session(data), ft.by_session(data, seed=1)
    assert split.protocol["order"] == "drawn"
    assert split.config.order == "drawn"
    assert make_split(data, split.config).protocol == split.protocol
    assert split.test.history.users.tolist() != other.test.history.users.tolist()
    assert "seed" in conflicts(split.protocol, other.protocol)
    lengths = data.histories.lengths[split.test.history.users]
    assert (split.test.history.lengths == lengths - 1).all()
    with pytest.raises(DataError, match="order but no times"):
        ft.by_session(data, order="time")
    with pytest.raises(ConfigError, match="would change nothing, because sessions are held out by time"):
        ft.by_session(ft.read(sessions()), seed=1)
    with pytest.raises(DataError, match="leaves none to train on"):
        ft.by_session(data, test_share=0.6, valid_share=0.5)


def test_a_test_table_that_was_trained_on_is_refused_and_shared_rows_are_told() -> None:
    rows = TABLE.drop("split")
    with pytest.raises(DataError, match="Every row of the test table stands in the training table too"):
        ft.split_of_tables(rows, rows)
    with pytest.raises(DataError, match="Every row of the test table stands in the training table too"):
        ft.split_of_tables(rows, rows.tail(2))
    without_times = rows.drop("timestamp")
    with pytest.raises(DataError, match="Every row of the test table stands in the training table too"):
        ft.split_of_tables(without_times, without_times, time=None)
    later = pl.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": [20, 21]})
    split = ft.split_of_tables(rows, pl.concat([rows.tail(1), later]))
    assert "1 of 3 rows of the test table stand in the training table too." in split.data.notes
    again = ft.split_of_tables(without_times, later.drop("timestamp"), time=None)
    assert not [note for note in again.data.notes if "too" in note], "to meet an item again is no leak"


def test_tables_with_other_columns_are_told_by_the_column() -> None:
    rows = TABLE.drop("split")
    with pytest.raises(DataError, match="time is no column there and 'timestamp' in the training table"):
        ft.split_of_tables(rows, rows.drop("timestamp"))
