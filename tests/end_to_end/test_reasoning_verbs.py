"""Methods that think, from the command line: their backbones, their explanations, and when they stop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from run_tools import read_checked
from shell import TINY, Shell, tree

from forethought.cli import main
from forethought.recipes import METHODS
from forethought.recommender import load


def test_explain(shell: Shell, run: Path, tmp_path: Path) -> None:
    words = ["explain", run, "--history", "i00001, i00002", "--target", "i00007", "--k", 3]
    picture = tmp_path / "deep" / "way.png"
    told = shell.json(*words, "--picture", picture)
    assert picture.stat().st_size > 10_000
    assert shell.json(*words, "--story", tmp_path / "story.svg") == told
    assert "recommended" in (tmp_path / "story.svg").read_text()
    assert "each a file of its own" in shell.wrong(
        *words, "--picture", tmp_path / "a.png", "--story", tmp_path / "a.png"
    )
    model = load(run)
    assert told == model.explain(["i00001", "i00002"], target="i00007", k=3).to_json()
    assert [len(step["items"]) for step in told["steps"]] == [3]
    plain = shell.ok(*words)
    assert re.findall(r"^(i\d+) .* \d+\.\d%$", plain, re.M) == [one["item"] for one in told["answer"]]
    assert shell.json("explain", run, "--history", "i00001,nobody", "--unknown", "drop")["dropped"] == ["nobody"]
    for wrong, sentence in (
        (["--history", "i00001,nobody"], "--history has items that the model does not know: 'nobody'; ids look"),
        (["--history", ""], "The history is empty"),
        (["--history", "i00001", "i00002"], "--history was given 'i00001 i00002', but tells of one user: join the"),
        (["--history", "i00001", "--target", "nobody"], "The target 'nobody' is no item that the model knows"),
        (
            ["--history", "i00001", "--picture", "way.gif"],
            "way.gif ends in .gif, but a picture is written as .png, .svg or",
        ),
        (["--history", "i00001", "--steps", 2], "does not reason, so there is nothing to halt"),
        (["--history", "i00001", "--k", 0], "k is 0"),
        (["--history", "i00001", "--picture", run / "README.md" / "way.png"], "could not be written"),
    ):
        assert sentence in shell.wrong("explain", run, *wrong)
    assert "There is no run folder" in shell.wrong("explain", tmp_path / "none", "--history", "i00001")


def test_explain_a_method_that_thinks(shell: Shell, shop: Path, tmp_path: Path) -> None:
    few = ["--first-clusters", 4, "--most-clusters", 8]
    shell.ok("train", "dtrec", "--data", shop, "--out", tmp_path / "run", *TINY, *few)
    words = ["explain", tmp_path / "run", "--history", "i00001,i00002"]
    told = shell.json(*words, "--halt", "arh", "--delta", 0)
    assert [step["stopped"] for step in told["steps"]] == [False, True, False, False]
    assert told["halting"] == {"rule": "arh", "threshold": 0.0, "max_steps": 3}
    assert len(shell.json(*words, "--steps", 2, "--halt", "fixed")["steps"]) == 3
    assert "was trained to think 3 steps and cannot take 9" in shell.wrong(*words, "--steps", 9)
    assert "Nearest prototypes" in shell.ok(*words)


@pytest.mark.parametrize("method", METHODS)
def test_the_options_of_a_method_do_not_clash_with_those_of_training(shell: Shell, method: str) -> None:
    assert f"Example: forethought train {method}" in shell.ok("train", method, "--help")


@pytest.mark.parametrize("place", [0, -2])
def test_a_backbone_may_be_named_anywhere(shell: Shell, shop: Path, tmp_path: Path, place: int) -> None:
    words = ["--data", shop, "--out", tmp_path / "run", *TINY, "--steps", 1]
    words[place:place] = ["--backbone", "gru4rec"]
    shell.ok("train", "rearec-prl", *words)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["method"]
    assert config["backbone"]["type"] == "gru4rec"
    unfit = shell.wrong("evaluate", tmp_path / "run", "--delta-within", 0.01)
    assert "the rule fixed compares nothing with one: choose another with --halt" in unfit
    words[words.index("gru4rec")] = "gru"
    assert "Did you mean 'gru4rec'?" in shell.wrong("train", "rearec-prl", *words)
    assert "lares has no choice of a backbone" in shell.wrong("train", "lares", "--data", shop, "--backbone=hstu")


# ---- when to stop thinking


@pytest.fixture(scope="module")
def thinking_run(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "dtrec"
    clusters = ["--first-clusters", "4", "--most-clusters", "16"]
    main(["train", "dtrec", "--data", str(shop), "--out", str(out), *TINY, *clusters, "--quiet"])
    return out


@pytest.mark.parametrize("rule", [[], ["--halt", "entropy"], ["--least-steps", 0]])
def test_a_threshold_is_chosen_by_the_validation_part(
    rule: list[str], shell: Shell, thinking_run: Path, tmp_path: Path
) -> None:
    before = tree(thinking_run)
    words = ["evaluate", thinking_run, "--resamples", 20, *rule]
    said = shell.run(*words, "--delta-within", 0.9, "--json", "--out", tmp_path / "fitted")
    assert f"On the validation part {rule[1] if '--halt' in rule else 'arh'} needs" in " ".join(said.err.split())
    told = json.loads(said.out)
    assert told["halting"] == read_checked(tmp_path / "fitted" / "metrics.json")["halting"]
    assert told["cost"]["steps"] < 3
    assert ("min_steps" in told["halting"]) == ("--least-steps" in rule)
    again = shell.json(*words, "--delta", told["halting"]["threshold"])
    assert again["metrics"] == told["metrics"]
    assert tree(thinking_run) == before


def test_halting_is_chosen_when_a_run_is_evaluated(shell: Shell, thinking_run: Path, tmp_path: Path) -> None:
    own = shell.json("evaluate", thinking_run, "--resamples", 20)
    assert own["halting"]["rule"] == "arh"
    before = tree(thinking_run)
    said = shell.run("evaluate", thinking_run, "--resamples", 20, "--steps", 2)
    assert "arh): " in said.out
    assert "after 2 steps at most" in said.out
    assert "--out FOLDER would keep it" in said.err
    one, soft = tmp_path / "one step", tmp_path / "soft"
    told = shell.json("evaluate", thinking_run, "--resamples", 20, "--halt", "fixed", "--steps", 1, "--out", one)
    assert told["cost"]["steps"] == 1
    assert read_checked(one / "metrics.json").items() > told.items()
    shell.ok("evaluate", thinking_run, "--resamples", 20, "--halt", "soft", "--out", soft)
    assert tree(thinking_run) == before
    told = shell.json("compare", thinking_run, f"one={one}", f"soft={soft}", "--metric", "ndcg@10")
    assert [method["cost"]["steps"] for method in told["methods"].values()][1:] == [1, 3]
    assert "one against soft, reading and thinking: 67% fewer steps" in shell.ok(
        "compare", f"soft={soft}", f"one={one}", "--metric", "ndcg@10"
    )
    asked = ["recommend", thinking_run, "--history", "i00001,i00002"]
    assert shell.json(*asked, "--halt", "fixed", "--steps", 0) != shell.json(*asked)
    input_ = ["recommend", thinking_run, "--input", thinking_run.parent / "none.parquet", "--out", tmp_path / "x"]
    assert "There is no file" in shell.wrong(*input_, "--halt", "entropy", "--delta", 0.5)


def test_wrong_choices_of_halting(shell: Shell, thinking_run: Path, run: Path) -> None:
    for words, sentence in (
        (["--halt", "fixed", "--delta", 0.5], "The rule fixed knows no threshold: leave --delta out"),
        (["--halt", "soft", "--delta", 0.5], "The rule soft knows no threshold"),
        (["--halt", "entropy"], "The rule entropy needs a threshold that fits it: give one with --delta"),
        (["--halt", "random", "--delta", 1.5], "--delta is 1.5, but random compares it with a probability"),
        (["--delta", -0.1], "--delta is -0.1, but arh compares it"),
        (["--halt", "change", "--delta", "nan"], "Halting's threshold is nan"),
        (["--steps", 4], "trained to think 3 steps and cannot take 4"),
        (["--steps", -1], "Halting's max_steps is -1"),
    ):
        assert sentence in shell.wrong("evaluate", thinking_run, *words)
        assert sentence in shell.wrong("recommend", thinking_run, "--history", "i00001", *words)
    for words, sentence in (
        (["--delta-within", 0.01, "--delta", 0.3], "--delta is a threshold, and --delta-within has one chosen"),
        (["--delta-within", 0.01, "--halt", "fixed"], "the rule fixed compares nothing with one"),
        (["--delta-within", 1], "--delta-within is 1"),
        (["--delta-within", "nan"], "--delta-within is nan"),
    ):
        assert sentence in shell.wrong("evaluate", thinking_run, *words)
    assert "does not reason, so there is nothing to halt" in shell.wrong("evaluate", run, "--delta-within", 0.01)
    for words in (["--halt", "fixed"], ["--delta", 0.5], ["--steps", 1]):
        assert "does not reason, so there is nothing to halt" in shell.wrong("evaluate", run, *words)
    assert shell.run("evaluate", thinking_run, "--halt", "arr").code == 2


def test_the_command_line_knows_every_rule() -> None:
    from typing import get_args, get_type_hints

    from forethought.cli.shared import HaltingOptions
    from forethought.reasoning.halting import Rule

    offered, _ = get_args(get_type_hints(HaltingOptions)["halt"])
    assert get_args(offered) == get_args(Rule)
