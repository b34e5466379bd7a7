"""Histories as the command line has them: ids that hold commas, times beside them, and lists that leave nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shell import Shell

VERBS = ("recommend", "explain")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Closed-form runs whose ids are texts with commas in them, and whole numbers."""
    from forethought.cli import main

    folder = tmp_path_factory.mktemp("odd")
    names: dict[str, list[Any]] = {"texts": ["ä,1", "[x", "c", "d e"], "numbers": [-28, 7, 300, 4]}
    for kind, ids in names.items():
        rows = [(user, ids[(user + n) % 4], n) for user in range(12) for n in range(4)]
        table = folder / f"{kind}.parquet"
        pl.DataFrame(rows, ("user_id", "item_id", "timestamp"), orient="row").write_parquet(table)
        main(["train", "itemknn", "--data", str(table), "--out", str(folder / kind), "--quiet"])
    return {kind: folder / kind for kind in names}


def test_an_id_with_a_comma_is_given_in_a_json_list(shell: Shell, odd: dict[str, Path]) -> None:
    (found,) = shell.json("recommend", odd["texts"], "--history", '["ä,1", "c"]')
    assert found["history"] == ["ä,1", "c"]
    assert {*found["items"]} <= {"[x", "d e"}
    told = shell.json("explain", odd["texts"], "--history", '["ä,1"]')
    assert [each["item"] for each in told["history"]] == ["ä,1"]
    (plain,) = shell.json("recommend", odd["texts"], "--history", "[x,c")
    assert plain["history"] == ["[x", "c"]


def test_a_json_list_holds_numbers_too(shell: Shell, odd: dict[str, Path]) -> None:
    listed, plain = shell.json("recommend", odd["numbers"], "--history", "[-28, 7]", "-28,7")
    assert listed == plain
    (quoted,) = shell.json("recommend", odd["numbers"], "--history", '["-28", "7"]')
    assert quoted == plain


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_pieces_between_commas_are_told_to_be_that(shell: Shell, odd: dict[str, Path], verb: str) -> None:
    said = shell.wrong(verb, odd["texts"], "--history", "ä,1")
    assert "--history has items that the model does not know: 'ä', '1'; ids look like '[x', and commas separate" in said
    assert """a JSON list, --history '["a,b","c"]', or add --unknown drop.""" in said
    assert "commas" not in shell.wrong(verb, odd["texts"], "--history", "nobody")


@pytest.mark.parametrize("verb", VERBS)
def test_a_json_list_of_other_things_is_refused(shell: Shell, odd: dict[str, Path], verb: str) -> None:
    for text, shown in (('["c", null]', "None"), ("[true]", "True"), ('[["c"]]', "['c']"), ("[1.5]", "1.5")):
        said = shell.wrong(verb, odd["texts"], "--history", text)
        assert f"--history is a JSON list with {shown}, but ids are texts or whole numbers." in said
    assert "is empty" in shell.wrong(verb, odd["texts"], "--history", "[]")


# ---- lists of items


@pytest.mark.parametrize("name", ["allow", "deny"])
def test_a_list_without_an_id_is_refused(shell: Shell, odd: dict[str, Path], tmp_path: Path, name: str) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    said = shell.wrong("recommend", odd["texts"], "--history", "c", f"--{name}", empty)
    assert f"--{name} {empty} holds no id: give one item id a line, or leave --{name} out." in said
    for nothing in ("", tmp_path):
        said = shell.wrong("recommend", odd["texts"], "--history", "c", f"--{name}", nothing)
        assert f"'{nothing or '.'}' is no ordinary file" in said


def test_a_history_that_nothing_is_left_for_is_told_of(shell: Shell, odd: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "stock.txt").write_text("c\n")
    words = ["recommend", odd["texts"], "--allow", tmp_path / "stock.txt"]
    said = shell.run(*words, "--history", "c", "[x", "--json")
    assert [each["items"] for each in json.loads(said.out)] == [[], ["c"]]
    assert "Nothing is left to recommend for 1 of the histories, so with an empty list" in said.err
    again = shell.run(*words, "--history", "c", "--exclude-history", "no", "--json")
    assert [each["items"] for each in json.loads(again.out)] == [["c"]]
    assert "Nothing is left" not in again.err
    pl.DataFrame({"history": [["c"], ["c", "[x"], ["[x"]]}).write_parquet(tmp_path / "table.parquet")
    table = shell.json(*words, "--input", tmp_path / "table.parquet", "--out", tmp_path / "recs.parquet")
    assert table["notes"][0].startswith("Nothing is left to recommend for 2 of the histories")
