"""Amazon's raw files of 2014 and 2023, made by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from forethought.data.public import detect, read_raw
from forethought.data.public.amazon_2014 import read_amazon_2014
from forethought.data.public.amazon_2023 import read_amazon_2023
from forethought.errors import DataError

REVIEWS_2014 = [
    {
        "reviewerID": "A1",
        "asin": "B000000001",
        "reviewText": "süß, 'really'",
        "overall": 5.0,
        "unixReviewTime": 1318896000,
    },
    {"reviewerID": "A2", "asin": "B000000001", "overall": 1.0, "unixReviewTime": 1318896000},
    {"reviewerID": "A1", "asin": "7806397051", "helpful": [3, 4], "overall": 3.0, "unixReviewTime": 1300000000},
]
META_2014 = [
    "{'asin': 'B000000001', 'title': 'Soap &amp; Brush', 'price': 6.99, 'brand': 'OPI', 'related': {'also_bought': "
    "['B1']}, 'categories': [['Beauty', 'Make-up', 'Nails'], ['Beauty', 'Gifts']]}",
    "{'asin': 'B00UNKNOWN', 'title': 'never met', 'categories': [['Beauty']]}",
    "{'asin': '7806397051', 'title': \"WAWO 15 Color's\", 'categories': []}",
]
REVIEWS_2023 = [
    {"rating": 5.0, "title": "x", "asin": "B1a", "parent_asin": "B1", "user_id": "AG", "timestamp": 1588687728923},
    {"rating": 4.0, "title": "x", "asin": "B2", "parent_asin": "B2", "user_id": "AG", "timestamp": 1588687728100},
]
META_2023 = [
    {
        "main_category": "All Beauty",
        "title": "Howard Product",
        "price": 12.5,
        "store": "Howard",
        "categories": ["Beauty", "Oils"],
        "videos": [{"user_id": "AX"}],
        "parent_asin": "B1",
    },
    {
        "main_category": None,
        "title": "",
        "price": "from 1,014.99",
        "store": None,
        "categories": [],
        "parent_asin": "B2",
    },
    {"main_category": "x", "title": "never met", "price": "—", "categories": ["x"], "parent_asin": "B3"},
]


def lines(records: list) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in records).encode()


@pytest.fixture
def beauty(tmp_path: Path) -> Path:
    with gzip.open(tmp_path / "reviews_Beauty_5.json.gz", "wb") as file:
        file.write(lines(REVIEWS_2014))
    with gzip.open(tmp_path / "meta_Beauty.json.gz", "wb") as file:
        file.write(lines(META_2014))
    return tmp_path


def test_2014_reviews_and_items(beauty: Path) -> None:
    assert detect(beauty) == "amazon-2014"
    tables = read_raw(beauty)
    assert tables.interactions.collect().rows() == [
        ("A1", "B000000001", 1318896000, 5.0, 0),
        ("A2", "B000000001", 1318896000, 1.0, 1),
        ("A1", "7806397051", 1300000000, 3.0, 2),
    ]
    assert tables.interactions.collect_schema().names() == ["user_id", "item_id", "timestamp", "rating", "position"]
    assert tables.items is not None
    assert tables.items.collect().rows() == [
        ("B000000001", "Soap & Brush", "OPI", ["Beauty", "Make-up", "Nails", "Gifts"], 6.99),
        ("7806397051", "WAWO 15 Color's", None, [], None),
    ]


def test_2014_reviews_alone_and_as_a_list_of_files(beauty: Path) -> None:
    reviews, meta = beauty / "reviews_Beauty_5.json.gz", beauty / "meta_Beauty.json.gz"
    assert read_raw(reviews).items is None
    assert read_raw([str(reviews), meta]).items is not None


def test_2014_reviews_may_be_python_literals_too(tmp_path: Path) -> None:
    (tmp_path / "reviews_Beauty.json").write_text("\n".join(repr(record) for record in REVIEWS_2014))
    assert len(read_raw(tmp_path).interactions.collect()) == 3


def test_2014_ratings(tmp_path: Path) -> None:
    (tmp_path / "ratings_Beauty.csv").write_text(
        "A39HTATAQ9V7YF,0205616461,5.0,1369699200\nA3JM6,0558925278,3.0,1355443200\n"
    )
    assert detect(tmp_path) == "amazon-2014-ratings"
    assert read_raw(tmp_path).interactions.collect().rows() == [
        ("A39HTATAQ9V7YF", "0205616461", 1369699200, 5.0, 0),
        ("A3JM6", "0558925278", 1355443200, 3.0, 1),
    ]


@pytest.mark.parametrize(
    ("broken", "line", "words"),
    [
        ('{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixRev', 3, "neither a JSON object nor a Python dict"),
        ('{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 1}', 3, "KeyError\\('asin'\\)"),
        ('{"reviewerID": null, "asin": "B1", "overall": 5.0, "unixReviewTime": 1}', 3, "null"),
        ('{"reviewerID": "A1", "asin": "B1", "overall": "good", "unixReviewTime": 1}', 3, "'good'"),
        ("[1, 2]", 3, "neither a JSON object"),
        ("__import__('os').system('true')", 3, "neither a JSON object"),
    ],
)
def test_2014_a_broken_review_is_named_by_file_and_line(tmp_path: Path, broken: str, line: int, words: str) -> None:
    path = tmp_path / "reviews_Beauty_5.json"
    path.write_bytes(lines([REVIEWS_2014[0], "", broken, REVIEWS_2014[1]]))
    with pytest.raises(DataError, match=f"Line {line} of '.*reviews_Beauty_5.json'.*{words}"):
        read_amazon_2014(path)


def test_2014_a_broken_item_is_named_by_file_and_line(beauty: Path) -> None:
    with gzip.open(beauty / "meta_Beauty.json.gz", "wb") as file:
        file.write(lines([META_2014[0], "{'asin': 'B000000001', 'title': __import__('os')}"]))
    with pytest.raises(DataError, match=r"Line 2 of '.*meta_Beauty.json.gz' is neither"):
        read_amazon_2014(beauty)


def test_2014_a_broken_rating_is_named_by_file_and_line(tmp_path: Path) -> None:
    good = "A39HTATAQ9V7YF,0205616461,5.0,1369699200\n"
    for broken in ("A39HTATAQ9V7YF,0205616461,5.0\n", "A3,0205616461,five,1369699200\n", "A3,0205616461,5.0,1,1\n"):
        (tmp_path / "ratings_Beauty.csv").write_text(good + broken)
        with pytest.raises(DataError, match=f"Line 2 of '.*ratings_Beauty.csv' reads '{broken.strip()}'"):
            read_amazon_2014(tmp_path)


def test_a_cut_gzip_file_says_so(beauty: Path) -> None:
    path = beauty / "reviews_Beauty_5.json.gz"
    path.write_bytes(gzip.compress(lines(REVIEWS_2014 * 3000))[:-500])
    with pytest.raises(DataError, match=r"cannot be read to its end.*get it again"):
        read_amazon_2014(path)


def test_several_categories_in_a_folder_must_be_told_apart(beauty: Path) -> None:
    (beauty / "reviews_Baby_5.json").write_bytes(lines(REVIEWS_2014))
    with pytest.raises(DataError, match=r"There are 2 files.*reviews_Baby_5.json.*Give the path"):
        read_raw(beauty)


def test_2023_reviews_and_items(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "All_Beauty.jsonl.gz", "wb") as file:
        file.write(lines(REVIEWS_2023))
    (tmp_path / "meta_All_Beauty.jsonl").write_bytes(lines(META_2023))
    assert detect(tmp_path) == "amazon-2023"
    tables = read_raw(tmp_path)
    # both fall into the same second: position keeps the order of the milliseconds
    assert tables.interactions.collect().rows() == [("AG", "B2", 1588687728, 4.0, 0), ("AG", "B1", 1588687728, 5.0, 1)]
    assert tables.items is not None
    assert tables.items.collect().rows() == [
        ("B1", "Howard Product", "Howard", ["Beauty", "Oils"], 12.5),
        ("B2", None, None, [], 1014.99),
    ]


def test_2023_tables_of_ids(tmp_path: Path) -> None:
    header = "user_id,parent_asin,rating,timestamp\n"
    with gzip.open(tmp_path / "All_Beauty.csv.gz", "wb") as file:
        file.write(f"{header}AG,B1,4.0,1588615855070\nAH,B2,5.0,1568615855070\n".encode())
    assert detect(tmp_path) == "amazon-2023-ids"
    assert read_raw(tmp_path).interactions.collect().rows() == [
        ("AH", "B2", 1568615855, 5.0, 0),
        ("AG", "B1", 1588615855, 4.0, 1),
    ]
    (tmp_path / "Other.csv").write_text(header)
    with pytest.raises(DataError, match="There are 2 files"):
        read_raw(tmp_path)


def test_2023_the_parts_of_a_split_are_put_together(tmp_path: Path) -> None:
    header = "user_id,parent_asin,rating,timestamp,history\n"
    for time, part in ((3000, "test"), (1000, "train"), (2000, "valid")):
        (tmp_path / f"All_Beauty.{part}.csv").write_text(f"{header}AG,B{time},4.0,{time},B7 B8\n")
    assert read_amazon_2023(tmp_path).interactions.collect()["item_id"].to_list() == ["B1000", "B2000", "B3000"]


def test_2023_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "All_Beauty.jsonl").write_bytes(lines([REVIEWS_2023[0], '{"user_id": "AG", "parent_asin": "B1"}']))
    with pytest.raises(DataError, match=r"Line 2 of '.*All_Beauty.jsonl' should have user_id, parent_asin"):
        read_amazon_2023(tmp_path)
    (tmp_path / "All_Beauty.csv").write_text("user_id,parent_asin,rating,timestamp\nAG,B1,4.0,yesterday\n")
    with pytest.raises(DataError, match=r"Line 2 of '.*All_Beauty.csv' reads 'AG,B1,4.0,yesterday'"):
        read_amazon_2023(tmp_path / "All_Beauty.csv")
