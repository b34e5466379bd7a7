"""Methods over tokens, from the command line: their paths, and what a user forbids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shell import TINY, Shell

from forethought.recommender import load


@pytest.fixture(scope="module")
def tokens_run(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    """REG4Rec on tokens that were made before, of 3 codebooks."""
    from forethought.cli import main

    folder = tmp_path_factory.mktemp("tokens")
    small = ["--codebooks", "3", "--size", "8", "--epochs", "2", "--components", "6"]
    main(["tokenize", "--data", str(shop), "--out", str(folder / "tokens"), "--features", "auto", *small])
    words = ["--data", str(shop), "--out", str(folder / "run"), "--features", "auto", "--steps", "2", *TINY]
    main(["train", "reg4rec", *words, "--tokens", str(folder / "tokens")])
    return folder / "run"


def test_paths_are_told_and_tokens_forbidden(shell: Shell, tokens_run: Path) -> None:
    words = ["--history", "i00001,i00002", "--k", 3]
    told = shell.json("explain", tokens_run, *words)
    model = load(tokens_run)
    assert told == model.explain(["i00001", "i00002"], k=3).to_json()
    (listed,) = shell.json("recommend", tokens_run, *words)
    assert [each["item"] for each in told["answer"]] == listed["items"]
    text = shell.ok("explain", tokens_run, *words)
    assert "Token by token" in text
    assert "Path 1: " in text
    assert max(map(len, text.splitlines())) <= 100
    first: dict[str, Any] = told["token_sums"][0]["tokens"][0]
    token = f"{first['codebook']}:{first['token']}"
    assert token in text
    (other,) = shell.json("recommend", tokens_run, *words, "--forbid-token", token)
    assert other["items"] != listed["items"]
    forbidden = shell.json("explain", tokens_run, *words, "--forbid-token", token)
    assert [each["item"] for each in forbidden["answer"]] == other["items"]
    assert forbidden["steering"]["forbidden"] == [[first["codebook"], first["token"]]]
    wanted = shell.json("explain", tokens_run, *words, "--only-token", token)
    assert wanted["steering"]["wanted"] == [[first["codebook"], first["token"]]]
    for each in wanted["token_sums"]:
        assert each["tokens"][first["codebook"]]["token"] == first["token"]
    said = shell.ok("explain", tokens_run, *words, "--only-token", token)
    assert f"with the token {token}." in " ".join(said.split())
    for each in forbidden["token_sums"]:
        assert each["tokens"][first["codebook"]]["token"] != first["token"]


def test_categories_are_named_again_and_again(shell: Shell, tokens_run: Path, run: Path) -> None:
    names = sorted({label for path in load(run).item_table["categories"] for label in path})
    for folder in (tokens_run, run):
        words = ["recommend", folder, "--history", "i00001", "--k", 40, "--exclude-history", "no"]
        wanted = [each["items"] for name in names[:2] for each in shell.json(*words, "--only-category", name)]
        both = shell.json(*words, "--only-category", names[0], "--only-category", names[1])[0]["items"]
        assert set(both) == {item for items in wanted for item in items}
        rest = shell.json(*words, "--never-category", names[0], "--never-category", names[1])[0]["items"]
        assert sorted([*both, *rest]) == [f"i{row:05d}" for row in range(40)]
        said = shell.ok("explain", folder, "--history", "i00001", "--never-category", names[0])
        assert f"none of {names[0]}." in " ".join(said.split())


def test_what_is_not_there_is_said(shell: Shell, tokens_run: Path, run: Path) -> None:
    for verb in ("recommend", "explain"):
        words = [verb, tokens_run, "--history", "i00001"]
        for wrong, sentence in (
            (["--forbid-token", "3"], "--forbid-token is '3', but must be a codebook and a token with a colon between"),
            (["--forbid-token", "1:-2"], "--forbid-token is '1:-2', but must be a codebook and a token"),
            (["--only-token", "3"], "--only-token is '3', but must be a codebook and a token with a colon between"),
            (["--forbid-token", "3:0"], "books are 0 to 2 and tokens 0 to 7."),
            (["--only-category", "no such"], "There is no category 'no such'."),
        ):
            assert sentence in shell.wrong(*words, *wrong)
        assert "does not know items by tokens" in shell.wrong(verb, run, "--history", "i00001", "--forbid-token", "0:1")
    nowhere = ["explain", tokens_run, "--history", "i00001", "--picture", tokens_run.parent / "way.png"]
    assert "this model comes to scores without one" in shell.wrong(*nowhere)
    assert not (tokens_run.parent / "way.png").exists()


@pytest.mark.parametrize("making", [["--tokenizer", "opq"], ["--tokenizer.size=8"], ["--tokenizer.no-gate"]])
def test_no_tokenizer_beside_tokens_that_are_made(
    shell: Shell, shop: Path, tokens_run: Path, tmp_path: Path, making: list[str]
) -> None:
    words = ["--data", shop, "--out", tmp_path / "run", "--tokens", tokens_run.parent / "tokens", *TINY]
    said = shell.wrong("train", "reg4rec", *words, *making)
    assert f"so that {making[0].partition('=')[0]} would change nothing" in said
    assert not (tmp_path / "run").exists()


def test_without_features_tokens_are_of_who_meets_what(shell: Shell, shop: Path, tmp_path: Path) -> None:
    small = ["--tokenizer.codebooks", "2", "--tokenizer.size", "8", "--tokenizer.epochs", "1"]
    words = ["--data", shop / "interactions.parquet", "--out", tmp_path / "run", *TINY, *small]
    told = shell.run("train", "rpg", *words)
    said = " ".join((told.out + told.err).split())
    assert "so nothing is known of items but who meets them" in said
