"""`forethought tune`, and `forethought train` with --recipe, --seeds, --set and auto."""

from __future__ import annotations

import json
import re
import shlex
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from shell import TINY, Shell

from forethought.tuning import auto

ROOT = Path(__file__).parents[2]
QUICK = ("--set", "width=16", "window=8", "epochs=2", "batch_positions=128,256")
pytest.importorskip("optuna")


def config_of(run: Path) -> Any:
    return json.loads((run / "config.json").read_text())["config"]


def test_a_search_and_its_recipe_trained(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("tune", "sasrec", "--data", shop, "--out", tmp_path / "search", *QUICK)
    found = shell.json(*words, "--trials", 3)
    assert (found["trials"], found["best"]) == (3, str(tmp_path / "search" / "best.json"))
    assert found["valid_ndcg@10"] > 0
    shell.ok("train", "sasrec", "--data", shop, "--out", tmp_path / "run", "--recipe", found["best"])
    config = config_of(tmp_path / "run")
    assert config["method"]["backbone"]["dropout"] == found["values"]["dropout"]
    assert (config["method"]["backbone"]["width"], config["training"]["epochs"]) == (16, 2)
    said = shell.run(*words, "--trials", 4)  # goes on
    assert (said.code, said.err.count("trial ")) == (0, 1)
    assert "trial 4: " in said.err
    assert "the best 4 of 4 trials" in said.out


def test_options_override_a_recipe_file(shell: Shell, shop: Path, tmp_path: Path) -> None:
    first = ("train", "sasrec", "--data", shop, "--out", tmp_path / "a", *TINY, "--seed", 3, "--evidence", "repeat")
    shell.ok(*first, "--evidence-fit", "both", "--noise", "swap", "--exclude-history", "no")
    shell.ok("train", "sasrec", "--data", shop, "--out", tmp_path / "b", "--recipe", tmp_path / "a", "--dropout", 0.1)
    before, after = config_of(tmp_path / "a"), config_of(tmp_path / "b")
    assert after["method"]["backbone"].pop("dropout") == 0.1
    assert before["method"]["backbone"].pop("dropout") == 0.5
    assert before == after


def test_the_space_is_shown(shell: Shell) -> None:
    out = shell.ok("tune", "sasrec", "--space")
    assert re.search(r"dropout +0.35 +0 to 0.7", out)
    assert "learning_rate" in out
    assert "alpha" in shell.ok("tune", "dtrec", "--space", "--backbone", "bsarec")
    shown = shell.json("tune", "sasrec", "--space", "--set", "dropout=0.2,0.3", "layers=1")
    assert shown["dropout"] == {"recipe": 0.35, "values": [0.2, 0.3]}
    assert "layers" not in shown


def test_seeds_make_a_mean_and_go_on(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("train", "sasrec", "--data", shop, "--out", tmp_path / "runs", *TINY, "--seeds", 0, 1)
    found = shell.json(*words)
    values = [json.loads((tmp_path / "runs" / f"seed-{n}/log.jsonl").read_text())["valid_ndcg@10"] for n in (0, 1)]
    assert found["settings"][""]["mean"] == pytest.approx(statistics.fmean(values))
    assert found["settings"][""]["sd"] == pytest.approx(statistics.stdev(values))
    assert [config_of(tmp_path / "runs" / f"seed-{n}")["seed"] for n in (0, 1)] == [0, 1]
    said = shell.run(*words, 2)
    assert said.err.count("finished already") == 2
    assert "seed-2: training" in said.err
    assert re.search(r"the recipe +3 +0\.\d{4} +0\.\d{4}", said.out)
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"seed-0", "seed-1", "seed-2", "summary.md", "summary.csv", "summary.json"}
    assert "was configured otherwise" in shell.wrong(*words, "--dropout", 0.1)


def test_what_lies_where_a_later_run_shall_be_is_told_before_the_first_is_trained(
    shell: Shell, shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "seed-1").mkdir(parents=True)
    (tmp_path / "runs" / "seed-1" / "notes.txt").write_text("of somebody else")
    words = ("train", "sasrec", "--data", shop, "--out", tmp_path / "runs", *TINY, "--seeds", 0, 1)
    assert "is not empty: choose another, or add --overwrite to begin anew" in shell.wrong(*words)
    assert "holds something other than a run" in shell.wrong(*words, "--overwrite")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["seed-1"]


def test_every_configuration_is_checked_before_the_first_is_trained(shell: Shell, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    words = ("train", "sasrec", "--data", shop, "--out", out, *TINY)
    shell.ok(*words[:5], out / "seed-1", *TINY, "--seed", 1, "--dropout", 0.1, "--quiet")
    assert "seed-1 was configured otherwise" in shell.wrong(*words, "--seeds", 0, 1)
    assert [path.name for path in out.iterdir()] == ["seed-1"]
    masked = ("train", "bert4rec", "--data", shop, "--out", tmp_path / "masked", "--set", "window=8,1")
    assert "window" in shell.wrong(*masked)
    assert "input_noise" in shell.wrong(*masked[:-1], "input_noise=0,0.1")
    assert not (tmp_path / "masked").exists()


def test_a_training_shows_the_lengths_that_were_asked_for(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("train", "sasrec", "--data", shop, *TINY, "--cutoffs", "3,50")
    said = shell.run(*words, "--out", tmp_path / "run")
    assert re.search(r"@3 +@50\n", said.out)
    assert "valid" in said.out
    assert re.search(r"NDCG +0?\.\d+ \[", said.out, re.I)
    found = shell.json(*words, "--out", tmp_path / "other")["valid"]
    assert {"recall@3", "ndcg@50", "mrr@3"} <= found.keys()
    again = shell.json(
        "evaluate", tmp_path / "other", "--part", "valid", "--cutoffs", "3,50", "--out", tmp_path / "kept"
    )
    assert found == again["metrics"]
    several = shell.json(*words, "--out", tmp_path / "runs", "--seeds", 0, 1)
    assert several["runs"]["seed-0"]["valid_ndcg@50"] == found["ndcg@50"]["mean"]
    assert "Recall@3" in (tmp_path / "runs" / "summary.md").read_text()


def test_a_grid_is_named_by_its_settings(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("train", "sasrec", "--data", shop, "--out", tmp_path / "runs", *TINY, "--quiet")
    out = shell.ok(*words, "--set", "dropout=0.2,0.5", "loss.temperature=0.05,0.085")
    names = [f"dropout-{a},loss.temperature-{b}" for a in (0.2, 0.5) for b in (0.05, 0.085)]
    for name, (dropout, temperature) in zip(names, [(0.2, 0.05), (0.2, 0.085), (0.5, 0.05), (0.5, 0.085)], strict=True):
        method = config_of(tmp_path / "runs" / name)["method"]
        assert (method["backbone"]["dropout"], method["loss"]["temperature"]) == (dropout, temperature)
        assert name in out
    shell.ok("train", "ease", "--data", shop, "--out", tmp_path / "ease", "--set", "regularisation=10,100", "--quiet")
    for name in names[:2]:
        shell.ok("evaluate", tmp_path / "runs" / name)
    shell.ok("compare", *[tmp_path / "runs" / name for name in names[:2]])


def test_auto_trains_a_run(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("train", "auto", "--data", shop, "--out", tmp_path / "run", "--minutes", 0.02)
    found = shell.json(*words)
    assert found["chosen"] in found["valid_ndcg@10"]
    shell.ok("evaluate", tmp_path / "run")
    assert "is not empty: choose another, or add --overwrite" in shell.wrong(*words)


def test_auto_goes_on_where_it_was_stopped(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "auto", "--data", shop, "--out", tmp_path / "run", "--minutes", 0.2)
    kept = tmp_path / "run.tried"
    with monkeypatch.context() as patch:
        patch.setattr(auto._Watcher, "step", lambda *_: signal.raise_signal(signal.SIGINT))
        stopped = shell.run(*words)
    assert stopped.code == 130
    assert f"What was tried is kept: the same command with --resume goes on from here ({kept})." in stopped.err
    assert "add --resume to go on with it, or --overwrite to begin anew" in shell.wrong(*words)
    assert "tried otherwise (seed: 0 -> 1)" in shell.wrong(*words, "--resume", "--seed", 1)
    assert "The run lies in" in shell.run(*words, "--resume").err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "There is nothing to resume" in shell.wrong(*words, "--resume")


TRAIN = ("train", "sasrec", "--data", "SHOP", "--out", "OUT")
TUNE = ("tune", "sasrec", "--data", "SHOP", "--out", "OUT")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*TRAIN, "--seeds", "1", "1"), "--seeds has the same seed twice"),
        ((*TRAIN, "--seeds", "1", "--seed", "2"), "--seeds says all seeds, so that --seed would change nothing"),
        ((*TRAIN, "--seeds"), "--seeds needs values"),
        ((*TRAIN, "--set"), "--set needs values"),
        ((*TRAIN, "--seeds", "-1"), "--seeds is -1"),
        ((*TRAIN, "--seeds", "x"), "--seeds is 'x', but must be whole numbers"),
        ((*TRAIN, "--seeds", "1", "--resume"), "leave --resume out"),
        ((*TRAIN, "--cutoffs", "10,x"), "--cutoffs is '10,x', but must be lengths"),
        ((*TRAIN, "--cutoffs", "10,10"), "each named once"),
        ((*TRAIN, "--cutoffs", "10", "--quiet"), "--cutoffs would change nothing where nothing is shown"),
        ((*TRAIN, "--set", "dropout=0.1:0.2"), "a grid needs values"),
        ((*TRAIN, "--set", "dropuot=0.1"), "There is no setting 'dropuot'"),
        ((*TRAIN, "--dropout", "0.1", "--set", "dropout=0.1,0.2"), "dropout is said twice"),
        ((*TRAIN, "--set", "heads=2,3"), "must be a multiple of its 3 heads"),
        ((*TRAIN, "--recipe"), "--recipe needs a value"),
        ((*TRAIN, "--recipe", "nowhere.json"), "There is no recipe 'nowhere.json'"),
        ((*TRAIN, "--recipe", "x.json", "--effort", "best"), "leave --effort out"),
        (("train", "auto", "--data", "SHOP", "--out", "OUT", "--minutes", "0"), "--minutes is 0"),
        (("train", "auto", "--data", "SHOP", "--out", "OUT", "--dropout", "0"), "There is no option '--dropout'"),
        ((*TUNE, "--minutes", "0"), "minutes is 0"),
        ((*TUNE, "--trials", "0"), "trials is 0"),
        ((*TUNE, "--processes", "0"), "processes is 0"),
        ((*TUNE, "--set", "dropout=2"), "dropout is 2"),
        (("tune", "popular", "--data", "SHOP", "--out", "OUT"), "no setting that is tuned by itself"),
        (("tune", "ease", "--data", "SHOP", "--out", "OUT", "--features", "auto"), "ease reads no features"),
        ((*TUNE, "--set", "choose_by=no_such_module:x"), "The module no_such_module is not here"),
        ((*TRAIN, "--set", "choose_by=no_such_module:x"), "The module no_such_module is not here"),
        (("tune", "no_such_module:Means", "--data", "SHOP", "--out", "OUT"), "The module no_such_module is not here"),
        (("tune", "SASRec", "--data", "SHOP", "--out", "OUT"), "Did you mean 'sasrec'?"),
        (("tune",), "tune needs a METHOD"),
        (("tune", "sasrec"), "needs --data STR and --out PATH"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    shell: Shell, shop: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    places = {"SHOP": str(shop), "OUT": str(tmp_path / "out")}
    assert said in shell.wrong(*[places.get(word, word) for word in words])
    assert not (tmp_path / "out").exists()


def test_the_commands_of_the_page_run(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand there, with fewer epochs and less time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").symlink_to(shop)
    text = (ROOT / "docs" / "tune.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(<!-- not run: .+? -->\n)?^```bash\n(.*?)^```$", text, re.M | re.S)
    lines = [line.partition(" #")[0] for skipped, block in blocks if not skipped for line in block.splitlines() if line]
    assert len(lines) >= 6
    for line in lines:
        verb = shlex.split(line)[1:]
        if verb[0] == "tune" and "--space" not in verb:
            verb = [word for word in verb if word != "epochs=28"]
            verb[verb.index("--minutes") : verb.index("--minutes") + 2] = ["--trials", "2"]
            verb += [] if "--set" in verb else ["--set"]
            verb[verb.index("--set") + 1 : verb.index("--set") + 1] = ["epochs=1"]
        elif verb[:2] == ["train", "auto"]:
            verb[verb.index("--minutes") + 1] = "0.02"
        elif verb[0] == "train":
            verb += ["--epochs", "1"]
        shell.ok(*verb)
