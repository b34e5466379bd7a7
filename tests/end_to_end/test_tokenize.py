"""Tokens of items by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import TINY, Shell, tree

from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.semantic_ids.storage import read_tokens

QUICK = ["--codebooks", 3, "--size", 8]


@pytest.mark.parametrize(
    ("name", "more", "books"),
    [
        ("mpq", ["--epochs", 2, "--collisions", "greedy"], 3),
        ("mpq", ["--epochs", 2, "--behaviour-weight", 0.5, "--behaviour-epochs", 2], 3),
        ("rqvae", ["--epochs", 2], 4),
        (
            "rqvae",
            ["--epochs", 2, "--collaborative-weight", 0.1, "--diversity-weight", 0.1, "--diversity-groups", 3],
            4,
        ),
        ("rqkmeans", [], 4),
        ("opq", ["--turns", 1], 3),
        ("random", [], 3),
    ],
)
def test_a_folder_that_methods_read(
    shell: Shell, shop: Path, tmp_path: Path, name: str, more: list[object], books: int
) -> None:
    out = tmp_path / "tokens"
    told = shell.json("tokenize", "--data", shop, "--out", out, "--tokenizer", name, *QUICK, *more)
    assert told["out"] == str(out)
    assert told["quality"]["collisions_after"] == 0
    tokens = read_tokens(out, leave_last_out(read(shop)))
    assert (tokens.table.n_items, tokens.table.codebooks, tokens.table.size) == (40, books, 8)
    assert {each["name"] for each in tokens.inputs} >= {"categories", "brand", "collaborative"}


def test_what_is_said_of_them(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ["tokenize", "--data", shop, "--out", tmp_path / "tokens", "--tokenizer=opq", *QUICK]
    said = shell.run(*words, "--picture", tmp_path / "tokens.svg", "--features", "none")
    assert (said.code, said.out) == (0, "")
    for part in ("collisions left", "codes in use", "redundancy of codebooks", "verdict", "40 items as tokens"):
        assert part in said.err
    assert (tmp_path / "tokens.svg").read_text().startswith("<?xml")
    assert "--turns" in shell.ok("tokenize", "--tokenizer", "opq", "--help")
    assert "--collaborative-weight" in shell.ok("tokenize", "--tokenizer", "rqvae", "--help")
    assert {"--decorrelate", "--behaviour-weight"} <= set(shell.ok("tokenize", "--help").split())


def test_tokens_of_the_vectors_of_a_run(shell: Shell, shop: Path, tmp_path: Path) -> None:
    small = ["--data", shop, *TINY]
    shell.ok("train", "sasrec", *small, "--out", tmp_path / "run")
    learned = ["--collaborative-from", tmp_path / "run"]
    words = ["tokenize", "--data", shop, "--out", tmp_path / "tokens", "--tokenizer", "opq", *QUICK]
    told = shell.json(*words, *learned)
    assert next(each for each in told["inputs"] if each["kind"] == "collaborative")["of"]["data"] == "shop"
    tokenizer = ["--tokenizer", "opq", "--tokenizer.codebooks", 3, "--tokenizer.size", 8]
    shell.ok("train", "rpg", *small, *tokenizer, *learned, "--out", tmp_path / "rpg")
    assert "The method reads no tokens" in shell.wrong("train", "sasrec", *small, *learned, "--out", tmp_path / "x")
    again = [*words, *learned, "--collaborative", "none", "--overwrite"]
    assert "reads no collaborative vectors" in shell.wrong(*again)


def test_what_is_wrong_in_one_sentence(shell: Shell, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    shell.ok("tokenize", "--data", shop, "--out", out, "--tokenizer", "opq", *QUICK)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("b")
    before = tree(tmp_path)
    base = ["--data", shop, "--out", tmp_path / "new"]
    for wrong, sentence in (
        (["--data", shop, "--out", out], "is already there and not empty"),
        (["--data", shop, "--out", tmp_path / "full", "--overwrite"], "is not a tokens folder"),
        ([*base, "--tokenizer", "opg"], "opg"),
        ([*base, "--codebooks", 0], "codebooks is 0, but must be a whole number from 1 to 128"),
        ([*base, "--tokenizer", "opq", "--epochs", 3], "--epochs"),
        ([*base, "--tokenizer", "rqvae", "--diversity-groups", 4], "diversity_groups would change nothing"),
        ([*base, "--tokenizer", "rqvae", "--collaborative-weight", -1], "collaborative_weight is -1.0, but must be"),
        ([*base, "--tokenizer", "rqvae", "--diversity-weight", 1, "--size", 8], "must be at most 4, so that no code"),
        ([*base, "--soft-temperature", 0.2], "Without a second stage soft_temperature would change nothing"),
        ([*base, "--features", "titel"], "Did you mean 'title'?"),
        ([*base, "--features", "none", "--collaborative", "none"], "Nothing is known that items could be tokenised by"),
        ([*base, "--picture", tmp_path / "a.gif"], "a picture is written as .png, .svg or .pdf"),
        ([*base, "--seed", -1], "--seed is -1"),
        ([*base, "--tokenizer", "rqkmeans", "--codebooks", 1, "--size", 2], "items have the same tokens"),
        (["--data", tmp_path / "no", "--out", tmp_path / "new"], "no"),
        ([*base, "--tokenizer"], "--tokenizer"),
    ):
        assert sentence in shell.wrong("tokenize", *wrong)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_stopped_halfway(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Nothing is left, and what lay there lies there."""
    words = ["tokenize", "--data", shop, "--out", tmp_path / "deep" / "tokens", "--tokenizer", "opq", *QUICK]
    if there:
        shell.ok(*words)
    before = tree(tmp_path)

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("tokenizing.quality", "semantic_ids.storage.write_json"):
        monkeypatch.setattr(f"forethought.{place}", pressed)
        said = shell.run(*words, *(["--overwrite"] if there else []))
        assert (said.code, said.out) == (130, "")
        monkeypatch.undo()
        assert tree(tmp_path) == before
    assert (tmp_path / "deep").exists() == there


def test_a_folder_is_made_again(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ["tokenize", "--data", shop, "--out", tmp_path / "tokens", "--tokenizer", "opq", *QUICK]
    shell.ok(*words)
    before = tree(tmp_path)
    shell.ok(*words, "--overwrite")
    assert tree(tmp_path) == before
