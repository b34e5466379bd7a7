"""Yelp's and S3-Rec's raw files, and what is said of files of no known format."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from forethought.data.public import detect, read_raw
from forethought.data.public.s3_rec import read_s3_rec
from forethought.data.public.yelp import read_yelp
from forethought.errors import DataError

REVIEW = {
    "review_id": "r",
    "user_id": "u1",
    "business_id": "b1",
    "stars": 4.0,
    "text": "ok",
    "date": "2018-07-07 22:09:11",
}
BUSINESSES = [
    {"business_id": "b1", "name": "St Honoré Pastries", "categories": "Restaurants, Bubble Tea,  Bakeries"},
    {"business_id": "b2", "name": "Unnamed", "categories": None},
]


def lines(records: list[dict]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_yelp_in_its_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "yelp_dataset.tar", "w:gz") as archive:
        for name, content in (
            ("yelp_academic_dataset_business.json", lines(BUSINESSES)),
            ("yelp_academic_dataset_review.json", lines([REVIEW, {**REVIEW, "date": "2004-10-12"}])),
            ("yelp_academic_dataset_tip.json", b'{"user_id": "u1", "business_id": "b1"}\n'),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert detect(tmp_path) == "yelp"
    tables = read_raw(tmp_path)
    assert tables.interactions.collect().rows() == [("u1", "b1", 1531001351, 4.0, 0), ("u1", "b1", 1097539200, 4.0, 1)]
    assert tables.items is not None
    assert tables.items.collect().rows() == [
        ("b1", "St Honoré Pastries", ["Restaurants", "Bubble Tea", "Bakeries"]),
        ("b2", "Unnamed", []),
    ]


def test_yelp_dates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "review.json").write_bytes(lines([REVIEW, {**REVIEW, "date": "last week"}]))
    with pytest.raises(DataError, match=r"1 reviews in .* have dates such as 'last week'"):
        read_yelp(tmp_path)


def test_yelp_business_without_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "review.json").write_bytes(lines([REVIEW]))
    (tmp_path / "business.json").write_bytes(lines([BUSINESSES[0], {"business_id": None}]))
    with pytest.raises(DataError, match=r"Line 2 of '.*business.json' has no business_id"):
        read_yelp(tmp_path)


def test_s3_rec(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 5 3 9\n2 3\n\n7 9 9 \n")
    (tmp_path / "Beauty_item2attributes.json").write_text('{"3": [7, 1], "5": [], "9": [2]}')
    assert detect(tmp_path) == "s3-rec"
    tables = read_raw(tmp_path)
    assert tables.interactions.collect().rows() == [(1, 5, 0), (1, 3, 1), (1, 9, 2), (2, 3, 3), (7, 9, 4), (7, 9, 5)]
    assert tables.interactions.collect_schema().names() == ["user_id", "item_id", "position"]
    assert tables.items is not None
    assert tables.items.collect().rows() == [(3, [7, 1]), (5, []), (9, [2])]


@pytest.mark.parametrize("broken", ["2", "2 3 x", "2 3.5"])
def test_s3_rec_a_broken_line_is_named(tmp_path: Path, broken: str) -> None:
    (tmp_path / "Beauty.txt").write_text(f"1 5 3 9\n{broken}\n")
    with pytest.raises(DataError, match=f"Line 2 of '.*Beauty.txt' reads '{broken}'"):
        read_s3_rec(tmp_path)


@pytest.mark.parametrize("broken", ['{"3": [7, 1', '["3"]', '{"3": "7"', '{"x": [1]}'])
def test_s3_rec_broken_attributes_are_named(tmp_path: Path, broken: str) -> None:
    (tmp_path / "Beauty.txt").write_text("1 5 3 9\n")
    (tmp_path / "Beauty_item2attributes.json").write_text(broken)
    with pytest.raises(DataError, match=r"Beauty_item2attributes.json' should be a JSON object"):
        read_s3_rec(tmp_path)


def test_other_files_are_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.json").write_text("")
    assert detect(tmp_path) is None
    with pytest.raises(DataError, match=r"no raw data of a known format\. Known are: MovieLens 100K"):
        read_raw(tmp_path)
    with pytest.raises(DataError, match="There is no file or folder"):
        read_raw(tmp_path / "nowhere")
    with pytest.raises(DataError, match="There is no file of the kind Yelp reviews"):
        read_yelp(tmp_path)
