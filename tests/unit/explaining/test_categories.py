"""Categories are read however a table holds them, and the typical one is what sets a group apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought.data.vocabulary import Vocabulary
from forethought.explaining.categories import Categories
from forethought.explaining.cells import titled
from forethought.explaining.metadata import ItemMetadata
from forethought.tables.table import plain

PATHS = [
    ["Outdoor", "Camping", "tent"],
    ["Outdoor", "Camping", "stove"],
    ["Outdoor", "Cycling", "lock"],
    ["Home", "Tea"],
]
AS_TEXT = ["Outdoor > Camping > tent", "Outdoor|Camping|stove", "Outdoor › Cycling ›lock", "Home;Tea"]


def labels_of(read: Categories | None, item: int) -> set[str]:
    assert read is not None
    return {read.names[label] for label in read.labels[read.items == item]}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("categories", pl.Series(PATHS)),
        ("Category", pl.Series(AS_TEXT)),
        ("category_path", pl.Series(AS_TEXT).cast(pl.Categorical)),
        ("categories", pl.Series([[path] for path in PATHS])),
        ("genres", pl.Series([[*path, path[0], "", None] for path in PATHS])),
    ],
)
def test_every_form_is_read_alike(name: str, column: pl.Series) -> None:
    read = Categories.read(pl.DataFrame({"title": list("abcd"), name: column}))
    assert [labels_of(read, n) for n in range(4)] == [set(path) for path in PATHS]
    assert read is not None
    shares = dict(zip(read.names, read.overall.tolist(), strict=True))
    assert shares == {
        "Outdoor": 0.75,
        "Camping": 0.5,
        "tent": 0.25,
        "stove": 0.25,
        "Cycling": 0.25,
        "lock": 0.25,
        "Home": 0.25,
        "Tea": 0.25,
    }


@pytest.mark.parametrize(
    "column", [pl.Series([[1, 2], [3]]), pl.Series([3, 4]), pl.Series([None, None]), pl.Series(["", None])]
)
def test_what_holds_no_words_is_no_category(column: pl.Series) -> None:
    assert Categories.read(pl.DataFrame({"categories": column, "title": ["a", "b"]})) is None
    words = Categories.read(pl.DataFrame({"categories": column, "genre": ["rock", "jazz"]}))
    assert labels_of(words, 0) == {"rock"}


def test_typical_is_the_largest_part_of_the_divergence() -> None:
    rng = np.random.default_rng(0)
    carried = rng.random((200, 12)) < rng.random(12)
    table = pl.DataFrame({"categories": [[f"c{c}" for c in np.flatnonzero(row)] for row in carried]})
    read = Categories.read(table)
    assert read is not None
    for _ in range(20):
        member_N = rng.random(200) < 0.1
        share, overall = carried[member_N].mean(0), carried.mean(0)
        parts: list[Any] = [s * math.log(s / o) if s else 0.0 for s, o in zip(share, overall, strict=True)]
        found, best = read.typical(member_N), int(np.argmax(parts))
        assert found is not None
        assert found.label == f"c{best}"
        assert (found.share, found.overall) == (pytest.approx(share[best]), pytest.approx(overall[best]))


def test_a_path_is_shown_where_labels_form_a_tree() -> None:
    tree = Categories.read(pl.DataFrame({"categories": PATHS}))
    assert tree is not None
    for row, path in ((0, ["Outdoor", "Camping", "tent"]), (3, ["Home"])):
        found = tree.typical(np.arange(4) == row)
        assert found is not None
        assert found.path == path
    genres = Categories.read(
        pl.DataFrame({"genres": [["Action", "Comedy"], ["Comedy"], ["Action"], ["Drama", "Comedy"]]})
    )
    assert genres is not None
    found = genres.typical(np.array([True, True, False, False]))
    assert found is not None
    assert (found.label, found.path) == ("Comedy", ["Comedy"])


def test_what_all_items_carry_typifies_none() -> None:
    read = Categories.read(pl.DataFrame({"categories": [["Sports", "Golf"], ["Sports"], ["Sports"]]}))
    assert read is not None
    found = read.typical(np.array([True, False, False]))
    assert found is not None
    assert found.path == ["Golf"]
    assert read.typical(np.array([False, True, True])) is None
    assert read.typical(np.zeros(3, dtype=bool)) is None


def test_an_item_without_title_is_known_by_brand_and_category() -> None:
    table = pl.DataFrame(
        {
            "title": ["A tent", "", None, None, None],
            "brand": ["Acme", "Acme", None, "Beta", None],
            "categories": [*PATHS[:3], ["Outdoor"], None],
        }
    )
    ids = Vocabulary.from_series(pl.Series("item_id", [1, 2, 3, 4, 5]))
    metadata = ItemMetadata.read(ids, table)
    assert [metadata.named(row).title for row in range(5)] == [
        "A tent",
        "Acme · Camping › stove",
        "Cycling › lock",
        "Beta · Outdoor",
        None,
    ]


def test_a_heading_is_not_broken_where_ids_are_short() -> None:
    for heading in ("After", "What speaks for them"):
        table = titled(heading, "item", "title")
        table.show_header = False
        table.add_row("7", "")
        assert plain(table, 100).splitlines()[0] == heading
