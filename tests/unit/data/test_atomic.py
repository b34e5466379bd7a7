"""Tables of RecBole and RecTools are read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forethought.data.reading import read
from forethought.data.sources import open_table
from forethought.errors import DataError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ROWS = [("u1", "007", 4.5, 978300760), ("u1", "12", 2, 978300761), ("u2", "12", 5, 978300762.5)]


def written(folder: Path, rows: list[tuple[Any, ...]] = ROWS, header: str = INTER) -> Path:
    path = folder / "shop.inter"
    path.write_text(header + "".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_an_atomic_file_is_read_under_the_names_without_types(tmp_path: Path) -> None:
    data = read(written(tmp_path))
    assert (data.name, data.n_users, data.n_items, len(data)) == ("shop", 2, 2, 3)
    assert data.items.ids.to_list() == ["007", "12"]  # tokens are names
    assert read(tmp_path, minimum_rating=4).n_items == 2  # the folder with one such file; ratings are numbers
    assert len(read(tmp_path / "shop.inter", minimum_rating=4)) == 2


def test_whole_tokens_are_integers_and_others_are_never_fractions(tmp_path: Path) -> None:
    whole = [(1, 7, 1, 1e9), (1, 8, 1, 1e9 + 1)]
    assert read(written(tmp_path, whole)).items.kind == "integer"
    halves = [("1.5", "2.5", 1, 1e9), ("1.5", "3.5", 1, 1e9 + 1)]
    assert read(written(tmp_path, halves)).items.ids.to_list() == ["2.5", "3.5"]


def test_the_item_table_beside_it_comes_along(tmp_path: Path) -> None:
    header = "item_id:token\tmovie_title:token_seq\tgenre:token_seq\tprice:float\tlook:float_seq\n"
    rows = '12\tA "great" day\tDrama War\t9.5\t0.5 1\n007\tOther\tComedy\t\t1 2\n'
    (tmp_path / "shop.item").write_text(header + rows, encoding="utf-8")
    data = read(written(tmp_path))
    table = data.item_table
    assert table["item_id"].to_list() == ["12", "007"]
    assert table["movie_title"].to_list() == ['A "great" day', "Other"]
    assert table["genre"].to_list() == [["Drama", "War"], ["Comedy"]]
    assert table["look"].to_list() == [[0.5, 1.0], [1.0, 2.0]]
    assert table["price"].to_list() == [9.5, None]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("user_id\titem_id:token\trating:float\ttimestamp:float\n", "'user_id' of 'shop.inter' says no type"),
        ("user_id:int\titem_id:token\trating:float\ttimestamp:float\n", "says no type"),
        ("user_id:token\titem_id:token\titem_id_list:token_seq\ttimestamp:float\n", "prefixes made for a model"),
        ("user_id:token\titem_id:token\titem_id:float\ttimestamp:float\n", "Two columns"),
        ("user_id:token\titem_id:float\trating:token\ttimestamp:float\n", "'item_id' holds floats"),
    ],
)
def test_what_is_no_atomic_file_is_refused_in_a_sentence(tmp_path: Path, header: str, said: str) -> None:
    rows = [("u1", "x", 4.5, 978300760)]
    with pytest.raises(DataError, match=said):
        read(written(tmp_path, rows, header))


def test_a_float_that_is_none_is_told_of(tmp_path: Path) -> None:
    path = written(tmp_path, [("u1", "x", "four", 978300760)])
    with pytest.raises(DataError, match=r"Reading '.*shop\.inter' failed"):
        read(path, minimum_rating=2)


class Interactions:
    """Stands in for the class of RecTools, which is known by where it comes from and by its frame."""

    __module__ = "rectools.dataset.interactions"

    def __init__(self, frame: Any) -> None:
        self.df = frame


class Dataset:
    """Likewise: its raw interactions have the ids of its user."""

    __module__ = "rectools.dataset.dataset"

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    def get_raw_interactions(self) -> Any:
        return self.frame


@pytest.mark.parametrize("kind", [Interactions, Dataset])
def test_interactions_of_rectools_are_read(kind: Any) -> None:
    pd = pytest.importorskip("pandas")
    times = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "weight": [1.0, 5.0, 5.0]})
    frame["datetime"] = times
    data = read(kind(frame))
    assert (data.n_users, data.n_items, len(data)) == (2, 2, 3)
    assert data.histories.times is not None
    assert len(read(kind(frame), rating="weight", minimum_rating=2)) == 2


def test_something_else_of_rectools_is_refused() -> None:
    class Model:
        __module__ = "rectools.models.base"

    with pytest.raises(DataError, match="the rectools Model"):
        open_table(Model())


def test_a_table_of_users_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "shop.user").write_text("user_id:token\tage:token\nu1\t20\n", encoding="utf-8")
    assert open_table(tmp_path / "shop.user").frame.collect().equals(pl.DataFrame({"user_id": ["u1"], "age": [20]}))
