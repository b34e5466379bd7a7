"""What is said is what is wrong: no full disk where a history is empty, no damage where memory was short."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from shell import TINY, Shell

from forethought import saved_run
from forethought.files import replace_file
from forethought.training import state


def test_a_null_history_is_not_a_full_disk(shell: Shell, run: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "histories.parquet", tmp_path / "recs.parquet"
    pl.DataFrame({"user": [1, 2, 3], "history": [["i00001"], None, ["i00002", None]]}).write_parquet(table)
    told = shell.json("recommend", run, "--input", table, "--out", out, "--k", 3)
    counts = {"histories": 3, "unknown_items": 1, "unknown_share": 1 / 3, "empty_lists": 1}
    assert told == {"out": str(out), **counts, "notes": []}
    assert pl.read_parquet(out)["items"].list.len().to_list() == [3, 0, 3]
    said = shell.run("recommend", run, "--input", table, "--out", out).err
    assert "3 lists; unknown and left out: 1 of the histories' items (33.33%; the column dropped counts them); " in said
    assert "without any known item, so with an empty list: 1." in said
    strict = ["--input", table, "--out", tmp_path / "x", "--unknown", "error"]
    assert "Row 1 has an empty history" in shell.wrong("recommend", run, *strict)


def test_a_history_of_unknown_ids_is_no_empty_list(shell: Shell, run: Path) -> None:
    words = ["recommend", run, "--unknown", "drop", "--history"]
    assert "The model knows no item of the history ('nobody', 'none')" in shell.wrong(*words, "nobody,none")
    said = shell.run(*words, "nobody", "i00001,none", "--json")
    assert [(each["dropped"], len(each["items"])) for each in json.loads(said.out)] == [(["nobody"], 0), (["none"], 10)]
    assert "1 of 2 histories have no item that the model knows: no list for these." in said.err


def test_a_fault_of_ours_while_writing_is_not_a_full_disk(tmp_path: Path) -> None:
    def fails(part: Path) -> None:
        part.write_text("half")
        raise TypeError("a fault")

    with pytest.raises(TypeError, match="a fault"):
        replace_file(tmp_path / "file", fails)
    assert list(tmp_path.iterdir()) == []


def no_memory(*_: object, **__: object) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")


def test_short_memory_is_not_a_damaged_run(
    shell: Shell, run: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(saved_run, "read_model", no_memory)
        assert "Memory ran out" in shell.wrong("recommend", run, "--history", "i00001")
    words = ["train", "sasrec", "--data", shop, "--out", tmp_path / "new", *TINY, "--quiet"]
    shell.ok(*words)
    monkeypatch.setattr(state, "load_tensors", no_memory)
    assert "Memory ran out" in shell.wrong(*words, "--resume")


BROKEN = {
    "empty": b"",
    "text": b"x" * 100,
    "head of a zip": b"PK\x03\x04" + bytes(30),
    "head of a gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "half a gzip": gzip.compress(b"1::2::3::4\n" * 1000)[:60],
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("name", ["ml-1m.zip", "ml-1m.tar.gz", "reviews_Beauty_5.json.gz", "ratings.csv.gz"])
def test_a_damaged_archive_is_told_in_one_line(shell: Shell, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    said = shell.wrong("prepare", tmp_path / name, "--out", tmp_path / "out")
    assert "\\n" not in said  # a line end, spelled out
    assert len(said) < 400


def test_flipped_bits_of_an_archive_are_told_in_one_line(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ml-1m/ratings.dat", "".join(f"{n % 9}::{n % 7}::3::{n}\n" for n in range(99)))
        file.writestr("ml-1m/movies.dat", "1::a::b\n")
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 97), len(whole) - 10]:
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        said = shell.run("prepare", path, "--out", tmp_path / "out", "--overwrite")
        assert said.code in (0, 2)
        assert "Traceback" not in said.err
        assert "\\n" not in said.err


def test_without_the_hook_of_the_parser_its_box_is_shown(
    shell: Shell, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tyro._errors", None)
    said = shell.run("train", "sasrec", "--data", shop, "--out", "x", "--witdh", 3)
    assert said.code == 2
    assert "--witdh" in said.err
    assert "Traceback" not in said.err
