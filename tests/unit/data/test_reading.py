"""Reading: order, ids, times and item tables, each against a plain Python recomputation; bad tables in words."""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.data import arrays, encoding
from forethought.data.histories import Histories
from forethought.data.interactions import Interactions
from forethought.data.reading import read
from forethought.data.vocabulary import Vocabulary
from forethought.errors import DataError

rows = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 9), st.integers(-3, 3)), min_size=1, max_size=60)


def by_user(data: Interactions) -> dict[Any, list[Any]]:
    """Histories as the user sees them."""
    users = data.users.id_list(range(data.n_users))
    return {user: data.items.id_list(data.histories[row]) for row, user in enumerate(users)}


@given(rows)
def test_rows_are_sorted_by_user_then_time_and_ties_keep_their_order(rows: list[tuple[int, int, int]]) -> None:
    data = read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))
    expected: dict[int, list[int]] = {user: [] for user, _, _ in sorted(rows)}
    times = []
    for user, item, second in sorted(rows, key=lambda row: (row[0], row[2])):
        expected[user].append(item)
        times.append(second)
    assert by_user(data) == expected
    assert list(by_user(data)) == sorted(expected)
    assert data.histories.times is not None
    assert data.histories.times.tolist() == times


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_where_positions_tell(
    rows: list[tuple[int, int, int]], rng: random.Random
) -> None:
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_row_index("position")
    moved = table[rng.sample(range(len(rows)), len(rows))]
    for time in ("timestamp", None):
        one, other = read(table, time=time), read(moved, time=time)
        assert one.data_hash == other.data_hash
        assert by_user(one) == by_user(other)


def test_without_times_the_order_of_rows_is_kept() -> None:
    data = read(pl.DataFrame({"user_id": [2, 1, 2, 1], "item_id": [9, 8, 7, 6]}))
    assert by_user(data) == {1: [8, 6], 2: [9, 7]}
    assert data.histories.times is None
    assert "no times" in data.notes[0]


def test_time_goes_before_position_and_position_before_rows() -> None:
    table = pl.DataFrame(
        {"user_id": [1, 1, 1, 1], "item_id": [1, 2, 3, 4], "timestamp": [5, 5, 4, 9], "position": [1, 0, 3, 2]}
    )
    assert by_user(read(table)) == {1: [3, 2, 1, 4]}
    assert by_user(read(table, time=None)) == {1: [2, 1, 4, 3]}
    assert by_user(read(table, position=None)) == {1: [3, 1, 2, 4]}
    assert by_user(read(table, time=None, position=None)) == {1: [1, 2, 3, 4]}


def test_any_column_names() -> None:
    table = pl.DataFrame({"who": ["b", "a"], "what": [1, 2], "when": [1, 2]})
    assert by_user(read(table, user="who", item="what", time="when")) == {"a": [2], "b": [1]}


UUIDS = [uuid.UUID(int=7), uuid.UUID("0a8eb1cc-7b2d-4cbb-9b1f-58d6f1f2f3aa"), uuid.UUID(int=2**127 + 9)]


@pytest.mark.parametrize(
    "ids", [[3, 1, 2], [-(2**62), 2**62, 0], ["b", "007", "é"], UUIDS, ["sixteen letters!", "x", "y"]], ids=repr
)
def test_ids_come_back_as_they_were(ids: list[Any]) -> None:
    data = read(pl.DataFrame({"user_id": ids, "item_id": ids[::-1]}))
    for vocabulary in (data.users, data.items):
        back = vocabulary.id_list(range(3))
        assert back == sorted(ids)
        assert [type(one) for one in back] == [type(one) for one in sorted(ids)]
        assert vocabulary.index_of(ids).tolist() == [sorted(ids).index(one) for one in ids]


def test_unsigned_and_categorical_ids() -> None:
    large = 2**64 - 1
    table = pl.DataFrame(
        {"user_id": pl.Series([large, 5], dtype=pl.UInt64), "item_id": pl.Series(["b", "a"]).cast(pl.Categorical)}
    )
    data = read(table)
    assert by_user(data) == {5: ["a"], large: ["b"]}
    assert data.users.index_of(pl.Series([large, 6, -1], dtype=pl.Int128).cast(pl.UInt64, strict=False)).tolist() == [
        1,
        -1,
        -1,
    ]
    assert data.users.index_of(pl.Series([-1, 5])).tolist() == [-1, 0]


def test_text_stored_as_bytes_stays_text() -> None:
    words = [b"sixteen letters!", b"another sixteen."]
    data = read(pl.DataFrame({"user_id": words, "item_id": [1, 2]}))
    assert data.users.id_list([0, 1]) == ["another sixteen.", "sixteen letters!"]


NOON = datetime(2020, 2, 3, 12, 0, 1, tzinfo=UTC)
SECONDS = int(NOON.timestamp())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pl.Series([SECONDS]), "Unix seconds"),
        (pl.Series([SECONDS * 1000 + 999]), "milliseconds"),
        (pl.Series([SECONDS * 10**6]), "microseconds"),
        (pl.Series([SECONDS * 10**9]), "nanoseconds"),
        (pl.Series([SECONDS + 0.75]), "Unix seconds"),
        (pl.Series([NOON]), "datetimes"),
        (pl.Series([NOON.replace(tzinfo=None)]), "taken as UTC"),
        (pl.Series([NOON]).dt.convert_time_zone("Asia/Tokyo"), "datetimes"),
        (pl.Series(["2020-02-03 12:00:01"]), "taken as UTC"),
        (pl.Series(["2020-02-03T12:00:01.5Z"]), "ISO text"),
        (pl.Series(["2020-02-03T14:00:01+02:00"]), "ISO text"),
        (pl.Series(["2020-02-03T13:00:01+0100"]), "ISO text"),
    ],
    ids=str,
)
def test_times_of_every_kind_become_seconds(values: pl.Series, said: str) -> None:
    data = read(pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": values}))
    assert data.histories.times is not None
    assert data.histories.times.tolist() == [SECONDS]
    assert said in data.notes[0]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Float64])
@pytest.mark.parametrize(("others", "odd"), [("seconds", 1000), ("milliseconds", 10**6), ("seconds", 10**9)])
def test_one_row_in_other_units_does_not_make_all_others_1970(others: str, odd: int, dtype: Any) -> None:
    unit = {"seconds": 1, "milliseconds": 1000}[others]
    times = [(SECONDS + n) * unit for n in range(50)]
    times[20] = SECONDS * odd
    table = pl.DataFrame({"user_id": 1, "item_id": range(50), "timestamp": pl.Series(times, dtype=dtype)})
    said = rf"'timestamp' mixes units: row 0 holds {times[0]}.*Unix {others}, and row 20 holds .*bring all to one unit"
    with pytest.raises(DataError, match=said) as error:
        read(table)
    assert "\n" not in str(error.value)
    table = table.with_columns(timestamp=pl.from_epoch(pl.Series(times) // unit))
    assert read(table).histories.times is not None  # a column that says its unit itself is believed
    assert read(table, time=None).histories.times is None


def test_an_outlier_that_is_no_date_does_not_make_all_others_1970() -> None:
    times = pl.Series([SECONDS] * 9 + [10**13])
    with pytest.raises(DataError, match=r"mixes units: row 0 .* and row 9 holds 10000000000000, which could"):
        read(pl.DataFrame({"user_id": 1, "item_id": range(10), "timestamp": times}))


@pytest.mark.parametrize(
    "times",
    [
        np.linspace(0, 4e12, 2000).astype(int),  # an hour in nanoseconds, from its beginning
        np.linspace(0, 4e12, 2000),
        np.geomspace(1, 1e12, 2000).astype(int),
        np.arange(2000),
        np.array([0, -5, 10**9, 1_400_000_000]),
    ],
    ids=str,
)
def test_times_that_count_from_elsewhere_are_read_and_doubted(times: np.ndarray) -> None:
    data = read(pl.DataFrame({"user_id": 1, "item_id": np.arange(len(times)), "timestamp": times}))
    read_as = data.histories.times
    assert read_as is not None
    early = sum(time < datetime(1990, 1, 1, tzinfo=UTC).timestamp() for time in read_as.tolist())
    assert any(
        note.startswith(f"{early:,} of {len(times):,} times lie before 1990 (the earliest: ") for note in data.notes
    )


def test_times_of_today_are_not_doubted() -> None:
    data = read(frame(timestamp=[SECONDS, SECONDS + 1, 631_152_000]))
    assert len(data.notes) == 1


def test_dates_and_minutes() -> None:
    for value in (date(1970, 1, 3), "1970-01-03", "1970-01-03T00:00"):
        data = read(pl.DataFrame({"user_id": [1], "item_id": [1], "time": [value]}))
        assert data.histories.times is not None
        assert data.histories.times.tolist() == [2 * 86_400]


def test_order_within_a_second_is_kept_before_seconds_are_cut() -> None:
    start = SECONDS * 1000
    table = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3], "time": [start + 900, start + 100, start + 500]})
    assert by_user(read(table)) == {1: [2, 3, 1]}
    floats = table.with_columns(time=pl.col("time") / 1000)
    assert by_user(read(floats)) == {1: [2, 3, 1]}


def test_the_item_table_gives_the_order_of_items() -> None:
    table = pl.DataFrame({"user_id": [1, 1, 1], "item_id": ["b", "z", "c"]})
    known = pl.DataFrame({"title": ["C", "A", "B"], "item_id": ["c", "a", "b"]})
    data = read(table, items=known)
    assert data.items.id_list(range(3)) == ["c", "b", "z"]
    assert data.item_table.to_dict(as_series=False) == {
        "item_id": ["c", "b", "z"],
        "title": ["C", "B", None],
        "source_row": [0, 2, None],
    }
    assert any("1 items of the item table" in note for note in data.notes)
    assert any("1 items are not in the item table" in note for note in data.notes)


def test_the_item_table_may_name_ids_like_the_interactions() -> None:
    known = pl.DataFrame({"item_id": [1, 2], "asin": ["b", "a"]})
    data = read(pl.DataFrame({"user_id": [1, 1], "asin": ["a", "b"]}), item="asin", items=known)
    assert data.item_table["item_id"].to_list() == ["b", "a"]


@pytest.mark.parametrize(("item", "wanted"), [("asin", "'asin' or 'item_id'"), ("item_id", "'item_id'")])
def test_an_item_table_without_ids_is_told_what_to_call_them(item: str, wanted: str) -> None:
    """Another name for the interactions' column, which the general advice is, would not help."""
    table = pl.DataFrame({"user_id": [1, 1], item: ["a", "b"]})
    told = f"no item column {wanted} in the item table, .* which has 'sku', 'title': call its column of item ids as"
    with pytest.raises(DataError, match=told):
        read(table, item=item, items=pl.DataFrame({"sku": ["a"], "title": ["x"]}))


def test_a_folder_in_the_uniform_layout_brings_its_items(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    pl.DataFrame({"user_id": [1, 1], "item_id": pl.Series([5, 6], dtype=pl.Int32)}).write_parquet(
        folder / "interactions.parquet"
    )
    pl.DataFrame({"item_id": [6, 5], "title": ["six", "five"]}).write_parquet(folder / "items.parquet")
    data = read(folder)
    assert data.name == "shop"
    assert data.item_table["title"].to_list() == ["six", "five"]
    assert data.histories[0].tolist() == [1, 0]


def test_large_tables_are_mapped_and_sorted_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "user_id": rng.integers(0, 50, 3000),
            "item_id": rng.integers(0, 99, 3000),
            "timestamp": rng.integers(0, 99, 3000),
        }
    )
    plain = read(table)
    monkeypatch.setattr(arrays, "LARGE", 1000)
    monkeypatch.setattr(encoding, "BATCH", 700)
    blocks = Histories.blocks
    monkeypatch.setattr(Histories, "blocks", lambda self: blocks(self, 400))
    mapped = read(table, cache=tmp_path)
    assert isinstance(mapped.histories.items.base, np.memmap)
    assert mapped.data_hash == plain.data_hash
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="could not be set aside"):
        read(table, cache=tmp_path / "nowhere")


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3]} | columns)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (frame()[:0], {}, "There are no rows"),
        (pl.DataFrame(), {}, "no user column 'user_id'.*has none"),
        (frame(), {"user": "usr_id"}, "no user column 'usr_id'.*Did you mean 'user_id'"),
        (frame(), {"time": "when"}, "no time column 'when'.*say which it is with time=.* --time"),
        (frame(), {"user": "item_id"}, "'item_id' would be both user and item, but .* --user and --item"),
        (frame(timestamp=[1, 2, 3]), {"user": "timestamp"}, "'timestamp' would be both user and time.*--time none"),
        (frame(position=[1, 2, 3]), {"item": "position"}, "'position' would be both item and position"),
        (frame(visit=[1, 2, 3]), {"user": "visit", "session": "visit"}, "user and session.* --session-column"),
        (frame(), {"position": "rank"}, "no position column 'rank'"),
        (frame(position=[0.5, 1, 2]), {"position": "position"}, "'position' has type Float64, .* --position none"),
        (frame(position=[0, None, 2]), {}, r"'position' is empty in 1 of 3 rows \(first: 1;"),
        (frame(user_id=[1, None, 2]), {}, r"'user_id' is empty in 1 of 3 rows \(first: 1; counted from 0\)"),
        (frame(item_id=["a", None, None]), {}, r"'item_id' is empty in 2 of 3 rows \(first: 1, 2;"),
        (frame(user_id=[1.0, math.nan, 2.0]), {}, "'user_id' holds floats.*drop those rows and cast"),
        (frame(user_id=[True, False, True]), {}, "'user_id' has type Boolean"),
        (frame(item_id=[[1], [2], [3]]), {}, r"'item_id' has type List\(Int64\)"),
        (frame(timestamp=[1, None, 3]), {}, "'timestamp' cannot be read in 1 of 3 rows .*holds None"),
        (frame(timestamp=[1.0, math.nan, 3]), {}, "'timestamp' cannot be read in 1 of 3 rows .*holds nan"),
        (frame(timestamp=["2020-01-01", "soon", "2020-01-02"]), {}, "'timestamp' cannot be read.*holds 'soon'"),
        (frame(timestamp=["yesterday", "x", "y"]), {}, "holds text such as 'yesterday'.* --time none"),
        (frame(timestamp=[[1], [2], [3]]), {}, "'timestamp' has type .*no time"),
        (frame(), {"minimum_rating": 3}, "no 'rating': say which .* --rating"),
        (frame(rating=["good"] * 3), {"minimum_rating": 3}, "'rating' has type String"),
        (frame(rating=[1, 2, 2]), {"minimum_rating": 3}, "There are no rows"),
        (frame(), {"items": pl.DataFrame({"item_id": [1, 1]})}, "lists some ids more than once"),
        (frame(), {"items": pl.DataFrame({"item_id": [1, None]})}, "1 empty ids"),
        (frame(), {"items": pl.DataFrame({"item_id": ["1"]})}, "kind string, but .* kind integer"),
        (frame(), {"items": pl.DataFrame({"sku": [1]})}, "no item column 'item_id'"),
        (frame(), {"items": "nowhere.parquet"}, "no file or folder 'nowhere.parquet'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_tables_are_refused_in_one_sentence(table: pl.DataFrame, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read(table, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["twice.csv", "twice.tsv"])
def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path, name: str) -> None:
    header, rows = ["user_id", "item_id", "user_id", "", ""], [["1", "2", "3", "", ""]] * 3
    sign = "\t" if name.endswith("tsv") else ","
    (tmp_path / name).write_text("\n".join(map(sign.join, [header, *rows])))
    with pytest.raises(DataError, match=r"twice\..sv' has two columns called 'user_id': rename one of them\.$"):
        read(tmp_path / name)
    (tmp_path / name).write_text("\n".join(map(sign.join, [[*header[:2], "other", "", ""], *rows])))
    assert len(read(tmp_path / name)) == 3


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_that_is_no_utf_8_is_to_be_saved_as_that(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "shop.csv").write_text("user_id,item_id\n1,ä\n1,b\n", encoding=encoding)
    with pytest.raises(DataError, match=r"save it as UTF-8, or check .*\.$"):
        read(tmp_path / "shop.csv")


def test_a_name_is_as_long_as_its_bytes(tmp_path: Path) -> None:
    assert read(frame(), name="é" * 50).name == "é" * 50
    with pytest.raises(DataError, match="at most 100 bytes"):
        read(frame(), name="é" * 51)


def test_ids_that_became_floats_in_pandas_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="holds floats"):
        read(pandas.DataFrame({"user_id": [1, None, 2], "item_id": [1, 2, 3]}))


def test_minimum_rating_drops_low_and_missing_ratings() -> None:
    data = read(frame(rating=[4.0, None, 5.0]), minimum_rating=4.5)
    assert by_user(data) == {2: [3]}


@settings(max_examples=25)
@given(st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=2), st.uuids()), max_size=8))
def test_unknown_ids_are_minus_one(asked: list[Any]) -> None:
    for ids in ([1, 5, -3], ["", "a", "5"], [str(one) for one in UUIDS]):
        kind = "uuid" if ids[0] == str(UUIDS[0]) else None
        vocabulary = Vocabulary.from_series(pl.Series("id", ids), kind)
        own = vocabulary.id_list(range(3))
        assert vocabulary.index_of([*asked, *own]).tolist()[-3:] == [0, 1, 2]
        keys: list[Any] = [str(one) if isinstance(one, uuid.UUID) else one for one in asked]
        assert vocabulary.index_of(asked).tolist() == [list[Any](ids).index(one) if one in ids else -1 for one in keys]


def test_two_tables_of_ids_that_read_alike_in_a_row_hash_apart() -> None:
    rows = [(["x", "x", "y1", "y1"], ["1", "2", "1", "2"]), (["x", "x", "y", "y"], ["11", "2", "11", "2"])]
    rows += [(["x\ny", "z"], ["a", "b"]), (["x", "y\nz"], ["a", "b"]), ([1, 2], ["a", "b"]), (["1", "2"], ["a", "b"])]
    tables = [read(pl.DataFrame({"user_id": users, "item_id": items})) for users, items in rows]
    assert len({table.data_hash for table in tables}) == len(rows)
    by_hand = b"users string 1\n" + b"\1\0\0\0x" + b"items string 1\n" + b"\2\0\0\0ab"
    by_hand += b"items 1\n" + bytes(4) + b"offsets 2\n" + bytes(8) + b"\1" + bytes(7) + b"times none\n"
    one = read(pl.DataFrame({"user_id": ["x"], "item_id": ["ab"]}))
    assert one.data_hash == hashlib.sha256(by_hand).hexdigest()[:16]


def test_times_under_a_name_that_nobody_looks_for_are_asked_for() -> None:
    """Else a table with times would be read in the order of its rows, for want of a word."""
    table = pl.DataFrame({"user_id": [1, 1], "item_id": ["a", "b"], "wann": [2, 1]})
    (note,) = read(table).notes
    assert note == (
        "there are no times: each history follows the order of the rows; if one of 'wann' holds them, name it with "
        "time=... (--time)"
    )
    plain = "there are no times: each history follows the order of the rows"
    assert read(table.drop("wann")).notes == (plain,)
    assert read(table, time=None).notes == (plain,)
