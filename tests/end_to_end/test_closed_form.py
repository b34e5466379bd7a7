"""Methods that are fitted in closed form, through every verb: their run folders are like all others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from shell import TINY, Shell, tree

from forethought.recipes import METHODS

NAMES = [name for name in METHODS if METHODS[name]().method.closed_form]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_run_from_beginning_to_end(shell: Shell, shop: Path, tmp_path: Path, name: str) -> None:
    run, other = tmp_path / "run", tmp_path / "sasrec"
    told = shell.json("train", name, "--data", shop, "--out", run, "--quiet")
    assert (told["epochs"], told["best_epoch"]) == (0, 0)
    assert told["parameters"] >= 40
    (line,) = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert line.keys() == {"trained_s", "valid_s", "valid_ndcg@10", "step"}
    assert line["valid_ndcg@10"] == told["valid_ndcg@10"]
    kind = json.loads((run / "config.json").read_text())["config"]["method"]["type"]
    assert f" **{kind}** that" in (run / "README.md").read_text().replace("\\_", "_")

    evaluated = shell.json("evaluate", run)
    assert evaluated["cost"]["training"] == {"epochs": 0, "trained_s": told["trained_s"]}
    assert evaluated["cost"]["steps"] == 0.0
    text = shell.ok("evaluate", run)
    assert re.search(r"Training: fitted in closed form in \d+\.\d s, without epochs\.", text)
    assert "sampled5:ndcg@10" in shell.json("evaluate", run, "--sampled", 5)["metrics"]

    shell.ok("train", "sasrec", "--data", shop, "--out", other, *TINY, "--quiet")
    shell.ok("evaluate", other)
    compared = shell.ok("compare", other, run)
    assert re.search(r"run +1 +\d+ +0 +– +–", compared)
    curve = shell.json("evaluate", run, "--noise-curve", "--noise", "replace", "--noise-seeds", 1)
    lost = [abs(point["drops"]["ndcg@10"]["mean"]) for point in curve["points"]]
    assert (max(lost) == 0) == (name == "popular")  # it reads no history

    (listed,) = shell.json("recommend", run, "--history", "i00001,i00002", "--k", 4)
    assert len(listed["items"]) == 4
    assert not {"i00001", "i00002"} & set(listed["items"])
    assert "has no vectors of items that an index could search" in shell.wrong(
        "recommend", run, "--history", "i00001", "--approximate"
    )


def test_what_would_change_nothing_is_no_option(shell: Shell, shop: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    for option in ("--epochs", "--learning-rate", "--seed", "--patience", "--precision", "--features"):
        words = ["train", name, "--data", shop, "--out", out, option, 1]
        assert f"There is no option '{option}'; forethought train {name} --help shows" in shell.wrong(*words)
    assert f"{name} has no choice of a backbone" in shell.wrong("train", name, "--data", shop, "--backbone", "hstu")
    assert not out.exists()
    shell.ok("train", name, "--data", shop, "--out", out, "--device", "cpu", "--noise", "replace")
    assert json.loads((out / "config.json").read_text())["config"]["noise"]["kind"] == "replace"


def test_resumed_it_is_done(shell: Shell, shop: Path, tmp_path: Path, name: str) -> None:
    words = ["train", name, "--data", shop, "--out", tmp_path / "run", "--quiet"]
    shell.ok(*words)
    before = tree(tmp_path / "run")
    shell.ok(*words, "--resume")
    assert tree(tmp_path / "run") == before
    shell.ok(*words, "--overwrite")
    assert tree(tmp_path / "run")["model.safetensors"] == before["model.safetensors"]


def test_explained_by_what_adds_up(shell: Shell, shop: Path, tmp_path: Path, name: str) -> None:
    run, history = tmp_path / "run", "i00001,i00002,i00003,i00002"
    shell.ok("train", name, "--data", shop, "--out", run, "--quiet")
    words = ["explain", run, "--history", history, "--target", "i00009", "--k", 3]
    told = shell.json(*words)
    (listed,) = shell.json("recommend", run, "--history", history, "--k", 3)
    assert [each["item"] for each in told["answer"]] == listed["items"]
    assert (told["steps"], told["plane"], told["answer_step"]) == ([], None, None)
    assert [len(part) for part in (told["movements"], told["contributions"])] in ([4, 4], [3, 3])
    assert all(each["probability"] is None for each in told["answer"])
    text = shell.ok(*words)
    assert "> i00009" in text
    if name == "popular":
        assert told["read"] == 0
        assert told["contributions"] == [[]] * len(told["movements"])
        assert "The model reads no history: its answer is the same for everybody." in text
    else:
        for candidate, reasons in zip(told["answer"], told["contributions"], strict=False):
            assert sum(each["score"] for each in reasons) == pytest.approx(candidate["score"], abs=1e-6)
            assert {each["item"] for each in reasons} <= set(history.split(","))
        assert "What speaks for them" in text
    assert "comes to scores without one: leave the picture out" in shell.wrong(*words, "--picture", tmp_path / "x.png")
    assert "does not reason" in shell.wrong(*words, "--halt", "fixed")
