"""Names of data sets are part of the names of files, and never lead anywhere else."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.data.names import LONGEST, as_name, is_name
from forethought.data.prepare import PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.errors import DataError

TABLE = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 2, 3]})
LEADING_AWAY = [
    "beauty/2014",
    "../../x",
    "..",
    ".",
    "/etc",
    "a\\b",
    "a\nb",
    "a\0b",
    " a",
    "a\x1b[1m",
    "x" * 101,
    "é" * 51,
]


@pytest.mark.parametrize("name", LEADING_AWAY)
def test_a_name_that_is_a_path_is_refused_wherever_it_is_given_or_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="files are called after it: choose a name of at most 100") as error:
        read(TABLE, name=name)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="files are called after it"):
        prepare(TABLE, tmp_path / "data", PrepareConfig(name=name))
    assert list(tmp_path.iterdir()) == []
    prepare(TABLE, tmp_path / "data", PrepareConfig(name="Beauty 2014"))
    facts_at = tmp_path / "data" / "prepared.json"
    facts_at.write_text(json.dumps(json.loads(facts_at.read_text()) | {"name": name}))
    with pytest.raises(DataError, match=r"name of the data in '.*prepared\.json' is .* files are called after it"):
        open_prepared(tmp_path / "data")


@pytest.mark.parametrize("name", ["beauty", "Beauty 2014", "ml-1m (quarter)", "beauty[5-core]", "Schönheit", "v1.2"])
def test_an_ordinary_name_stays_as_it_is(name: str, tmp_path: Path) -> None:
    assert read(TABLE, name=name).name == as_name(name) == name
    prepare(TABLE, tmp_path / "data", PrepareConfig(name=name))
    assert open_prepared(tmp_path / "data").data.name == name
    prepare(TABLE, tmp_path / name)
    assert open_prepared(tmp_path / name).data.name == name


def test_a_name_of_another_kind_is_refused(tmp_path: Path) -> None:
    prepare(TABLE, tmp_path / "data")
    facts_at = tmp_path / "data" / "prepared.json"
    facts = json.loads(facts_at.read_text())
    for changed in ({"name": 5}, {"name": None}, {"name": ["a"]}, {"split": 5}, {"split": [1]}):
        facts_at.write_text(json.dumps(facts | changed))
        with pytest.raises(DataError, match=r"files are called after it|is damaged"):
            open_prepared(tmp_path / "data")
    facts_at.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is damaged"):
        open_prepared(tmp_path / "data")


@pytest.mark.parametrize(
    ("folder", "name"), [("a\\b", "a_b"), ("a\nb", "a_b"), ("x" * 200, "x" * LONGEST), ("é" * 60, "é" * 50)]
)
def test_a_folder_of_any_name_gives_its_data_one(folder: str, name: str, tmp_path: Path) -> None:
    prepare(TABLE, tmp_path / folder)
    assert open_prepared(tmp_path / folder).data.name == name
    assert read(tmp_path / folder).name == name


@given(st.text(max_size=200))
def test_the_nearest_name_is_one(text: str) -> None:
    assert as_name(text) == "" or is_name(as_name(text))
    if is_name(text):
        assert as_name(text) == text
