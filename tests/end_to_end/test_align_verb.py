"""`forethought align` from the command line: paths and halting, what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import TINY, Shell, tree

from forethought.recommender import load

BRIEF = ["--batches", 2, "--epochs", 1, "--group", 4]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    from forethought.cli import main

    out = tmp_path_factory.mktemp("align") / "reg4rec"
    small = ["--tokenizer", "opq", "--tokenizer.codebooks", "3", "--tokenizer.size", "8", "--steps", "2"]
    main(["train", "reg4rec", "--data", str(shop), "--out", str(out), *small, *TINY])
    return out


@pytest.fixture(scope="module")
def halting(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    from forethought.cli import main

    out = tmp_path_factory.mktemp("align") / "dtrec"
    small = ["--most-clusters", "8", "--first-clusters", "4"]
    main(["train", "dtrec", "--data", str(shop), "--out", str(out), *small, *TINY])
    return out


def test_paths_are_aligned_into_a_run_of_its_own(shell: Shell, paths: Path, tmp_path: Path) -> None:
    before = tree(paths)
    told = shell.run("align", paths, "--out", tmp_path / "aligned", *BRIEF)
    assert told.code == 0, told.err
    said = " ".join(told.err.split())  # results go to standard output, what is going on to the other
    assert "what falls below either is not kept" in said
    assert "next: forethought evaluate" in said
    assert tree(paths) == before
    run = load(tmp_path / "aligned")
    assert run.config.alignment is not None
    assert run.config.alignment.group == 4
    assert run.about["started_from"]["weights"] == load(paths).weights_sum
    assert shell.json("evaluate", tmp_path / "aligned")["metrics"]["ndcg@10"]["mean"] > 0
    assert shell.ok("recommend", tmp_path / "aligned", "--history", "i00001,i00002")
    assert shell.ok("explain", tmp_path / "aligned", "--history", "i00001,i00002")
    assert "--resume" in shell.wrong("align", paths, "--out", tmp_path / "aligned", *BRIEF)
    again = shell.json("align", paths, "--out", tmp_path / "aligned", *BRIEF, "--resume")
    assert again["valid_ndcg@10"] == run.outcome()["valid_ndcg@10"]


def test_weights_of_rewards_are_learned_and_told(shell: Shell, paths: Path, tmp_path: Path) -> None:
    words = ["--out", tmp_path / "run", *BRIEF, "--learn-weights", "--learn-every", 1]
    told = shell.run("align", paths, *words)
    assert told.code == 0, told.err
    said = " ".join((told.out + told.err).split())
    weights = shell.json("align", paths, *words, "--resume")["reward_weights"]
    assert f"Weights of rewards at the end: step_hit {weights['weight_step_hit']:.3g}, category_hit" in said


def test_what_kept_the_old_weights_is_told(shell: Shell, paths: Path, tmp_path: Path) -> None:
    """NDCG@10 may have been better, and the guard have fallen."""
    told = shell.run("align", paths, "--out", tmp_path / "run", *BRIEF, "--rate", 1e-9, "--guard", "recall@5")
    assert told.code == 0, told.err
    said = " ".join((told.out + told.err).split())
    assert "No validation was better without a loss of recall@5, so it holds the weights it began with." in said


def test_a_reward_is_learned_and_carried_to_another_run(shell: Shell, paths: Path, tmp_path: Path) -> None:
    learning = [*BRIEF, "--path-rewards.learned", 1]
    told = shell.run("align", paths, "--out", tmp_path / "one", *learning)
    assert told.code == 0, told.err
    figures = shell.json("align", paths, "--out", tmp_path / "one", *learning, "--resume")["learned_reward"]
    said = " ".join(told.err.split())
    assert f"of paths of users it was not fitted to: correlation {figures['correlation']:.3f}, within" in said
    from_one = ["--reward-from", tmp_path / "one"]
    carried = shell.run("align", paths, "--out", tmp_path / "two", *learning, *from_one)
    assert carried.code == 0, carried.err
    said = " ".join(carried.err.split())
    assert "The learned reward, learned elsewhere, of paths of half of the validation users here: correlation" in said
    assert "not fitted to" not in said  # it comes from a run of the same data, whose users may have taught it
    for words, message in [
        ([*BRIEF, *from_one], "reward_from would change nothing"),
        ([*learning, "--reward-from", paths], "has no learned reward"),
        ([*learning, "--reward-from", tmp_path / "none"], "has no learned reward"),
        ([*learning, "--cases", "held_out"], "must not earn any"),
    ]:
        assert message in " ".join(shell.wrong("align", paths, "--out", tmp_path / "out", *words).split())
        assert not (tmp_path / "out").exists()


def test_what_people_say_is_read_from_a_table(shell: Shell, paths: Path, tmp_path: Path) -> None:
    said, lines = tmp_path / "said.csv", ["user_id,kind,value,accepted", "u000001,token,0:1,true"]
    said.write_text("\n".join([*lines, "u000001,path,1:2 0:3,false"]) + "\n")
    words = ["--out", tmp_path / "run", *BRIEF, "--feedback", said]
    told = shell.run("align", paths, *words, "--feedback-cost", 0.2)
    assert told.code == 0, told.err
    assert "what falls below either by more than 20% of it is not kept" in " ".join(told.err.split())
    assert '"reward_feedback"' in (tmp_path / "run/log.jsonl").read_text()
    said.write_text("\n".join([*lines, "u000001,token,0:1,false"]) + "\n")
    refused = shell.wrong("align", paths, *words[2:], "--out", tmp_path / "other")
    assert "row 2: token '0:1' is both accepted and rejected" in " ".join(refused.split())
    assert "no file or folder" in shell.wrong("align", paths, "--out", tmp_path / "other", "--feedback", "none.csv")
    assert not (tmp_path / "other").exists()


def test_halting_is_aligned(shell: Shell, halting: Path, tmp_path: Path) -> None:
    outcome = shell.json("align", halting, "--out", tmp_path / "run", *BRIEF, "--halting-rewards.step-price", 0.002)
    assert set(outcome) == {"run", "epochs", "best_epoch", "valid_ndcg@10", "trained_s"}
    assert load(tmp_path / "run").config.method.halting.threshold == 0.5  # type: ignore[attr-defined]


def test_old_weights_stop_where_they_stopped(shell: Shell, halting: Path, tmp_path: Path) -> None:
    told = shell.run("align", halting, "--out", tmp_path / "run", *BRIEF, "--rate", 1e-9)
    said = " ".join((told.out + told.err).split())
    assert "No validation was better, steps priced, and lost at most 1% of NDCG@10 and recall@50" in said
    assert "it holds the weights it began with. The run lies in" in said
    metrics = [shell.json("evaluate", each, "--out", tmp_path / each.name) for each in (halting, tmp_path / "run")]
    assert metrics[0]["metrics"] == metrics[1]["metrics"]
    assert metrics[0]["cost"]["steps"] == metrics[1]["cost"]["steps"]


@pytest.mark.parametrize("beyond", [0.0, 1.0])
def test_old_weights_that_stop_elsewhere_are_told_of(
    beyond: float, halting: Path, shop: Path, shell: Shell, tmp_path: Path
) -> None:
    small = ["--most-clusters", 8, "--first-clusters", 4, "--halting.threshold", beyond]
    words = ["--data", shop, "--from", halting, "--out", tmp_path / "extreme", *TINY]
    assert shell.run("train", "dtrec", *words, *small).code == 0
    told = shell.run("align", tmp_path / "extreme", "--out", tmp_path / "run", *BRIEF, "--rate", 1e-9)
    said = " ".join((told.out + told.err).split())
    assert f"it holds the weights it began with. But it stops at the threshold 0.5 and that run at {beyond:g}" in said
    words = ["--out", tmp_path / "other", *BRIEF, "--rate", 1e-9, "--delta", 0.42]
    told = shell.run("align", tmp_path / "extreme", *words)
    assert "They stop where that run does with --delta 0.42." in " ".join((told.out + told.err).split())
    steps = [shell.json("evaluate", tmp_path / "other", "--out", tmp_path / "a")["cost"]["steps"]]
    steps += [shell.json("evaluate", tmp_path / "extreme", "--delta", 0.42, "--out", tmp_path / "b")["cost"]["steps"]]
    assert steps[0] == steps[1]


def test_halting_begins_where_validation_would_stop(shell: Shell, halting: Path, tmp_path: Path) -> None:
    told = shell.run("align", halting, "--out", tmp_path / "run", *BRIEF, "--rate", 1e-9, "--delta-within", 0.5)
    said = " ".join((told.out + told.err).split())
    begins = "steps and keeps NDCG@10 within 50.0% of all steps'. "
    assert f"where the validation part takes the fewest {begins}" in said
    delta = load(tmp_path / "run").about["started_from"]["delta"]
    assert f"They stop where that run does with --delta {delta:g}." in said
    fitted = shell.json("evaluate", halting, "--delta-within", 0.5, "--out", tmp_path / "fitted")
    assert shell.json("evaluate", tmp_path / "run", "--out", tmp_path / "a")["cost"]["steps"] == fitted["cost"]["steps"]
    assert shell.json("evaluate", halting, "--delta", delta, "--out", tmp_path / "b")["metrics"] == fitted["metrics"]


def test_what_would_do_nothing_is_refused(shell: Shell, paths: Path, halting: Path, run: Path, tmp_path: Path) -> None:
    wrong = [
        (run, [], "makes no choices"),
        (halting, ["--path-rewards.path", 2], "has no paths"),
        (paths, ["--halting-rewards.step-price", 0.1], "does not halt"),
        (paths, ["--updates", 1, "--clip-low", 0.1], "never clipped"),
        (paths, ["--kl-weight", 0, "--kl", "k3"], "kl_weight is 0"),
        (paths, ["--policy-weight", 0, "--anchor", 0], "nothing would be learned"),
        (paths, ["--path-rewards.future", 1, "--path-rewards.decay", 0.5], "a single item counts"),
        (paths, ["--path-rewards.path", 0, "--path-rewards.top", 5], "have the weight 0"),
        (paths, ["--weight-rate", 1], "not learned"),
        (paths, ["--feedback-share", 0.5], "There is no feedback"),
        (halting, ["--learn-weights"], "is of paths"),
        (halting, ["--delta", 0.3, "--delta-within", 0.01], "give one of them"),
        (halting, ["--delta-within", 1], "below 1"),
        (paths, ["--delta-within", 0.01], "does not halt, so that delta_within"),
        (paths, ["--group", 1], "from 2 to"),
        (paths, ["--guard", "recal@50"], "no metric"),
        (tmp_path / "none", [], "no run folder"),
    ]
    for folder, words, said in wrong:
        assert said in shell.wrong("align", folder, "--out", tmp_path / "out", *words), words
        assert not (tmp_path / "out").exists()
