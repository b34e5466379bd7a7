"""The verbs from a table to recommendations, and one sentence for whatever goes wrong on the way.

Most verbs run in this process, because starting one costs seconds; `test_readme.py` runs them in fresh ones.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from run_tools import read_checked
from shell import TINY, Shell, tree

from forethought.cli import VERBS
from forethought.recommender import load

# ---- the main road


def test_from_a_shop_to_recommendations(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell.ok("simulate", "--out", "shop", "--users", 60, "--items", 40, "--interactions-per-user", 10)
    told = shell.json("doctor", "shop")
    assert told["healthy"]
    assert {finding["level"] for finding in told["findings"]} <= {"note", "warning"}
    told = shell.json("prepare", "shop", "--out", "data", "--k-core", 2, 2)
    assert told["users"] == told["test"] == 60
    assert told["protocol"]["split"] == "leave_last_out"

    for method, options in (("sasrec", ["--no-norm-first"]), ("gru4rec", []), ("bert4rec", []), ("hstu", [])):
        told = shell.json("train", method, "--data", "data", "--out", f"runs/{method}", *TINY, *options, "--seed", 4)
        assert told.keys() == {"run", "parameters", "epochs", "best_epoch", "valid_ndcg@10", "trained_s"}
        assert told["epochs"] == 1
    config = json.loads(Path("runs/sasrec/config.json").read_text())["config"]
    assert config["seed"] == 4
    assert config["method"]["backbone"]["norm_first"] is False
    assert config["training"]["batch_positions"] == 128

    monkeypatch.chdir("/")  # a run knows where its data lies
    for method in ("sasrec", "gru4rec"):
        told = shell.json("evaluate", tmp_path / "runs" / method, "--resamples", 50)
        assert told["protocol"]["part"] == "test"
        assert told["protocol"]["n_cases"] == 60
        assert {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20)} <= told["metrics"].keys()
        for metric in told["metrics"].values():
            assert metric.keys() == {"mean", "ci95"}
            low, high = metric["ci95"]
            assert 0 <= low <= metric["mean"] <= high
        assert {"steps", "parameters", "wall_s"} <= told["cost"].keys()
    monkeypatch.chdir(tmp_path)
    assert read_checked(Path("runs/gru4rec/metrics.json")).items() > told.items()
    assert "ndcg@10" in shell.ok("evaluate", "runs/gru4rec", "--resamples", 50, "--exclude-history", "no")

    told = shell.json("recommend", "runs/sasrec", "--history", "i00001,i00002", "i00003", "--k", 4)
    assert [one.keys() for one in told] == [{"history", "items", "scores", "dropped"}] * 2
    assert told[0]["history"] == ["i00001", "i00002"]
    assert len(told[0]["items"]) == len(told[0]["scores"]) == 4
    plain = shell.ok("recommend", "runs/sasrec", "--history", "i00001,i00002", "--k", 4)
    assert re.findall(r"^ +\d+  (i\d+) ", plain, re.M) == told[0]["items"]
    timed = shell.json("recommend", "runs/hstu", "--history", "i00001,i00002", "--times", "1000,2000", "--k", 4)
    assert len(timed[0]["items"]) == 4
    told = shell.json("recommend", "runs/sasrec", "--input", "shop", "--out", "recs.parquet", "--k", 3)
    none = {"unknown_items": 0, "unknown_share": 0.0, "empty_lists": 0}
    assert told == {"out": "recs.parquet", "histories": 60, **none, "notes": []}
    assert pl.read_parquet("recs.parquet")["items"].list.len().to_list() == [3] * 60
    rows = pl.read_parquet("shop/interactions.parquet").rename({"user_id": "visitor", "item_id": "sku"})
    rows.write_csv("visits.csv")
    named = ["--input", "visits.csv", "--user", "visitor", "--item", "sku", "--time", "none"]
    shell.ok("recommend", "runs/sasrec", *named, "--out", "recs.csv", "--k", 3)
    found = pl.read_csv("recs.csv")["items"].str.json_decode(pl.List(pl.String))
    assert found.equals(pl.read_parquet("recs.parquet")["items"])


def test_noise(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    few = ["--resamples", 20]
    shell.ok("evaluate", run, *few)
    before = tree(run)
    out = tmp_path / "noisy"
    told = shell.json(
        "evaluate", run, *few, "--noise", "replace", "--noise-share", 0.3, "--noise-seeds", 2, "--out", out
    )
    assert told["protocol"]["noise"] == {"kind": "replace", "share": 0.3, "seed": 0, "seeds": 2}
    assert read_checked(out / "metrics.json").items() > told.items()
    said = shell.run("evaluate", run, *few, "--noise", "swap", "--noise-seed", 3)
    assert "NOISY histories: swap 20%, seeds 3 to 7" in " ".join(said.out.split())
    assert "nothing in its folder has changed" in said.err
    assert "--across-noise" in shell.wrong("compare", run, out)
    assert "noisy (replace 30%, seeds 0 to 1)" in shell.ok("compare", run, out, "--across-noise")

    told = shell.json("evaluate", run, *few, "--noise-curve", "--noise", "delete", "--noise-seeds", 1, "--out", out)
    assert [(p["kind"], p["share"]) for p in told["points"]] == [("delete", share) for share in (0.1, 0.2, 0.3)]
    kept = json.loads((out / "noise.json").read_text())
    assert kept.pop("made").startswith("written by forethought ")
    assert kept == told
    text = shell.ok("evaluate", run, *few, "--noise-curve", "--noise-seeds", 1)
    assert re.findall(r"^(\w+) +20%", text, re.M) == ["replace", "insert", "delete", "swap"]
    assert tree(run) == before

    noisy = ["--noise", "replace"]
    for wrong, sentence in (
        ([*noisy, "--noise-share", 0], "--noise-share is 0, but must be above 0 and at most 1"),
        ([*noisy, "--noise-share", 1.5], "--noise-share is 1.5, but"),
        ([*noisy, "--noise-share", "nan"], "--noise-share is nan, but"),
        ([*noisy, "--noise-seed", -1], "--noise-seed is -1"),
        ([*noisy, "--noise-seeds", 0], "--noise-seeds is 0"),
        ([*noisy, "--sampled", 5], "leave sample out (on the command line --sampled)"),
        (["--noise-curve", "--sampled", 5], "leave --sampled out"),
        (["--noise-curve", "--unknown-users"], "leave --unknown-users out"),
        (["--unknown-users"], "keeps no vectors of users, so that all are unknown to it"),
        (["--noise-share", 0.2], "need a kind of noise: give one with --noise"),
        ([*noisy, "--out", run], "keeps the evaluation of that run as it is: choose another --out"),
    ):
        assert sentence in shell.wrong("evaluate", run, *wrong)
    for verb in (["evaluate", run], ["train", "sasrec", "--data", shop, "--out", tmp_path / "x"]):
        assert "--noise is 'rplace', but must be one of delete, insert, replace, swap. Did" in shell.wrong(
            *verb, "--noise", "rplace"
        )
    assert tree(run) == before


def test_train_on_noise(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ["train", "sasrec", "--data", shop, "--out", tmp_path / "run", *TINY, "--noise", "replace"]
    shell.ok(*words, "--noise-share", 0.3, "--noise-seed", 5)
    config = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert config["noise"] == {"kind": "replace", "share": 0.3, "seed": 5}
    assert "noise" not in shell.json("evaluate", tmp_path / "run", "--resamples", 20)["protocol"]
    assert "(noise.share: 0.3 -> 0.2" in shell.wrong(*words, "--noise-seed", 5, "--resume")
    assert "--noise-share is 2" in shell.wrong(*words, "--noise-share", 2, "--overwrite")


def test_compare(shell: Shell, run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    shell.ok("evaluate", run, "--resamples", 50)
    shell.ok("evaluate", other, "--resamples", 50)
    before, with_history = tree(other), tmp_path / "with-history"
    unlike = ["--resamples", 50, "--exclude-history", "no"]
    assert "nothing in its folder has changed" in shell.run("evaluate", other, *unlike).err
    shell.ok("evaluate", other, *unlike, "--out", with_history)
    assert tree(other) == before
    assert "history_excluded" in shell.wrong("compare", run, with_history)  # protocols never stand side by side
    told = shell.json("compare", f"a={run}", f"b={other}", "--baseline", "b", "--metric", "ndcg@10")
    assert "ndcg@10" in json.dumps(told)
    for ending, begin in ((".html", "<!"), (".md", ""), (".json", "{")):
        assert "a" in shell.ok("compare", f"a={run}", f"b={other}", "--out", tmp_path / f"table{ending}")
        assert (tmp_path / f"table{ending}").read_text().startswith(begin)
    assert "results are written as .html, .md," in shell.wrong("compare", run, other, "--out", tmp_path / "table.doc")
    assert "At least two methods are needed" in shell.wrong("compare", run)
    assert f"Several runs are called {run.name!r}" in shell.wrong("compare", run, tmp_path / "b" / run.name, other)
    assert "has no metrics.json: evaluate the run first" in shell.wrong("compare", run, tmp_path / "none")


def test_every_verb_has_help_with_an_example(shell: Shell) -> None:
    for verb in VERBS:
        said = shell.run(verb, "--help")
        assert said.code == 0
        assert re.search(rf"Examples?: (source <\()?forethought {verb}", said.out), verb
    said = shell.run("train", "hstu", "--help")
    assert said.code == 0
    assert "--no-use-times" in said.out
    assert all(verb in shell.ok("--help") for verb in VERBS)
    assert re.fullmatch(r"forethought \d+\.\d+\.\d+\n", shell.ok("--version"))
    assert shell.run().code == 2


# ---- wrong words


def test_wrong_words(shell: Shell, shop: Path, run: Path, tmp_path: Path) -> None:
    assert "Did you mean 'train'?" in shell.wrong("trian")
    assert "Did you mean 'sasrec'?" in shell.wrong("train", "sasrek", "--data", shop, "--out", tmp_path / "x")
    train = ["train", "sasrec", "--data", shop, "--out", tmp_path / "x"]
    for words, said in (
        (
            [*train, "--witdh", "3"],
            "There is no option '--witdh'; forethought train sasrec --help shows",
        ),
        ([*train, "--witdh", "3"], "Did you mean '--width'?"),
        (["train", "sasrec", "--dta", shop, "--out", "x"], "There is no option '--dta'"),
        ([*train, "--width", "wide"], "--width is 'wide', but must be a whole number."),
        ([*train, "--width=1.5"], "--width is '1.5', but must be a whole number."),
        ([*train, "--batch_positions", "1", "--batch-positions", "many"], "--batch-positions is 'many', but must be a"),
        ([*train, "--width", "9" * 5000], "--width is '9999"),
        ([*train, "--dropout", "much"], "--dropout is 'much', but must be a number."),
        (
            [*train, "--activation", "rely"],
            "is 'rely', but must be one of relu, gelu. Did you mean 'relu'?",
        ),
        (["train", "SASRec", "--data", shop, "--out", "x"], "Did you mean 'sasrec'?"),
        (["train", "dtrec", "--backbone", "HSTU", "--data", shop, "--out", "x"], "Did you mean 'hstu'?"),
        (["train", "reg4rec", "--tokenizer", "MPQ", "--data", shop, "--out", "x"], "Did you mean 'mpq'?"),
        (["tokenize", "--tokenizer", "RQVAE", "--data", shop, "--out", "x"], "Did you mean 'rqvae'?"),
        (["study", "HPS", "--data", shop], "Did you mean 'hps'?"),
        ([*train, "--track", "tensorbord"], "Did you mean 'tensorboard'?"),
        ([*train, "--width"], "--width needs a value: a whole number."),
        ([*train, "--resume", "yes"], "'yes' is one word too many"),
        (
            ["train", "sasrec", "--data", shop],
            "train sasrec needs --out PATH: forethought train sasrec --help",
        ),
        (["train", "sasrec"], "needs --data STR and --out PATH"),
        (["prepare", shop, "--out", "x", "--k-core", "5"], "--k-core is '5', but must be two whole numbers."),
        (["prepare", shop, "--out", "x", "--k-core", "5", "x"], "--k-core is '5 x', but must be two whole numbers."),
        (["study", "hps", "--data", shop, "--seeds", "a"], "--seeds is 'a', but must be whole numbers."),
        (["study", "hps", "--data", shop, "--seeds"], "--seeds needs values, such as --seeds 0 1 2."),
        (["evaluate", run, "--jsno"], "Did you mean '--json'?"),
        (["recommend"], "forethought recommend needs RUN: "),
        (["train"], "train needs a METHOD, one of sasrec, "),
        (["study"], "study needs a STUDY, one of "),
    ):
        assert said in shell.wrong(*words)
    for option, value, sentence in (
        ("--width", 15, "SASRec's width is 15, but must be a multiple of its 2 heads"),
        ("--dropout", 1.5, "SASRec's dropout is 1.5"),
        ("--epochs", 0, "epochs is 0, but must be a whole number from 1 to 1,000,000"),
        ("--loss.temperature", 0, "ItemLoss's temperature is 0.0"),
        ("--valid-from", "soon", "soon"),
    ):
        split = ["--split", "temporal", "--test-from", 0.9] if option == "--valid-from" else []
        assert sentence in shell.wrong(*train, *split, option, value)
    assert not (tmp_path / "x").exists()


def test_wrong_choices_of_recommend(shell: Shell, run: Path, tmp_path: Path) -> None:
    assert "Give either --history ID,ID or --input FILE" in shell.wrong("recommend", run)
    assert "'nobody'; ids look like 'i" in shell.wrong("recommend", run, "--history", "i00001,nobody")
    assert shell.json("recommend", run, "--history", "i00001,nobody", "--unknown", "drop")[0]["items"]
    told = shell.ok("recommend", run, "--history", "i00001,nobody", "--unknown", "drop")
    assert "(unknown and left out: nobody)" in told
    assert "--input needs --out" in shell.wrong("recommend", run, "--input", tmp_path / "x.parquet")
    assert "--item names a column of --input" in shell.wrong("recommend", run, "--history", "i00001", "--item", "x")
    assert "k is 0" in shell.wrong("recommend", run, "--history", "i00001", "--k", 0)
    out = ["--out", tmp_path / "recs.parquet"]
    assert "There is no file or folder" in shell.wrong("recommend", run, "--input", tmp_path / "x.parquet", *out)
    (tmp_path / "ids.txt").write_text("i00002\n\ni00003\n")
    allowed = shell.json("recommend", run, "--history", "i00001", "--allow", tmp_path / "ids.txt")
    assert set(allowed[0]["items"]) == {"i00002", "i00003"}
    (tmp_path / "stock.txt").write_text("i00002\nnew\n")
    lists = ["--history", "i00001", "--allow", tmp_path / "stock.txt"]
    done = shell.run("recommend", run, *lists, "--json")
    assert [each["items"] for each in json.loads(done.out)] == [["i00002"]]
    assert "Of 2 items in the allow list 1 are not known" in done.err
    assert "does not know: 'new'" in shell.wrong("recommend", run, *lists, "--strict-lists")
    (tmp_path / "stock.txt").write_text("new\n")
    assert "has no item that the model knows" in shell.wrong("recommend", run, *lists)
    assert "cannot be read as a list of ids" in shell.wrong(
        "recommend", run, "--history", "i00001", "--deny", tmp_path / "none.txt"
    )
    assert not (tmp_path / "recs.parquet").exists()


# ---- wrong tables


def wrong_tables() -> Iterator[tuple[str, pl.DataFrame, str]]:
    good = pl.DataFrame({"user_id": [1, 1, 1, 1, 2, 2, 2], "item_id": [1, 2, 3, 4, 2, 3, 1], "timestamp": range(7)})
    yield "empty", good.clear(), "empty|no rows|no interactions"
    yield "one-item users", good.unique("user_id"), "user with three interactions"
    yield (
        "NaN ids",
        good.with_columns(item_id=pl.Series([1.0, 2.0, float("nan"), 4.0, 2.0, 3.0, 1.0])),
        "item_id.*float",
    )
    yield "null ids", good.with_columns(user_id=pl.Series([1, 1, None, 1, 2, 2, 2])), "user_id.*empty"
    yield "missing column", good.rename({"item_id": "itemid"}), "no item column 'item_id'.*Did you mean 'itemid'"
    yield "missing times", good.with_columns(timestamp=pl.Series([1, None, 3, 4, 5, 6, 7])), "timestamp"
    yield "wrong type", good.with_columns(item_id=pl.Series([[1]] * 7)), "item_id.*List"


TABLES = list(wrong_tables())


@pytest.mark.parametrize(("table", "said"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES])
def test_wrong_tables(shell: Shell, tmp_path: Path, table: pl.DataFrame, said: str) -> None:
    table.write_parquet(tmp_path / "table.parquet")
    source, before = tmp_path / "table.parquet", tree(tmp_path)
    out = ["--out", tmp_path / "out"]
    for words in (["train", "sasrec", "--data", source, *out, *TINY], ["prepare", source, *out]):
        assert re.search(said, shell.wrong(*words))
    assert tree(tmp_path) == before
    diagnosis = shell.run("doctor", source)
    assert "Traceback" not in diagnosis.err
    if "three interactions" not in said:
        assert diagnosis.code == 2
        assert "problem" in diagnosis.out


def test_no_such_data(shell: Shell, tmp_path: Path) -> None:
    words = ["train", "sasrec", "--data", tmp_path / "none.csv", "--out", tmp_path / "out"]
    assert "There is no file or folder" in shell.wrong(*words)


@pytest.mark.parametrize("asked", [["--split", "leave_last_out"], ["--ties", "file"], ["--tie-seed", 0]])
def test_a_prepared_folder_is_not_split_anew(shell: Shell, shop: Path, tmp_path: Path, asked: list[object]) -> None:
    moments = ["--split", "temporal", "--valid-from", 0.8, "--test-from", 0.9]
    shell.ok("prepare", shop, "--out", tmp_path / "data", *moments, "--ties", "shuffle", "--tie-seed", 3)
    words = ["train", "sasrec", "--data", tmp_path / "data", "--out", tmp_path / "run", *TINY, *asked]
    assert "was prepared with a split of its own: prepare it anew" in shell.wrong(*words)
    assert not (tmp_path / "run").exists()


def test_shops_as_the_page_on_data_makes_them(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    forethought (simulate .*)$", page, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        shell.ok(*command.split())
    told = json.loads((tmp_path / "hard-shop" / "shop.json").read_text())
    turned = {"intents_per_user": 12, "route_length": 15, "noise": 0.4, "aimless_users": 0.5}
    turned |= {"interactions_per_user": 8.0, "items": 3000}
    assert told == json.loads((tmp_path / "shop" / "shop.json").read_text()) | turned


def test_a_study_makes_no_shop_for_a_variant_that_it_does_not_have(shell: Shell, tmp_path: Path) -> None:
    asked = ("study", "alignment", "--only", "nobody", "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert "alignment has no variant 'nobody'" in shell.wrong(*asked)
    assert not list(tmp_path.iterdir())


def test_data_is_no_option_of_a_study_that_makes_its_own(shell: Shell, shop: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert "--data" in shell.wrong("study", "when-to-think", "--data", shop, "--results", tmp_path / "r")
    assert "forethought study when-to-think --seeds 0 1 2" in shell.ok("study", "when-to-think", "--help")
    assert tree(tmp_path) == before


# ---- wrong folders


def test_folders_in_use(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    train = ["train", "sasrec", "--data", shop, "--out"]
    assert "is not empty: choose another, or add --resume" in shell.wrong(*train, run)
    assert "there is nothing to resume here" in shell.wrong(*train, tmp_path / "none", "--resume")
    assert "was configured otherwise" in shell.wrong(*train, run, "--resume", "--width", 32)
    assert "not empty" in shell.wrong("prepare", shop, "--out", run)
    assert "not a simulated shop" in shell.wrong("simulate", "--out", run, "--users", 20)
    assert tree(tmp_path) == before


def test_corrupted_runs(shell: Shell, run: Path) -> None:
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    for words in (["evaluate", run], ["recommend", run, "--history", "i00001"]):
        assert "is damaged" in shell.wrong(*words)
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"format": 2', '"format": 3'))
    assert "is not a run of this version" in shell.wrong("evaluate", run)
    assert "There is no run folder" in shell.wrong("evaluate", run / "none")


def test_data_that_moved_or_changed(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    pl.read_parquet(shop / "interactions.parquet").head(-1).write_parquet(tmp_path / "less.parquet")
    assert "is not the data the run was trained on" in shell.wrong("evaluate", run, "--data", tmp_path / "less.parquet")
    assert shell.json("evaluate", run, "--data", shop, "--resamples", 20)["protocol"]["n_cases"] == 80


# ---- a full disk


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Writing beyond this many bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 3000, 8000])
def test_a_full_disk(shell: Shell, run: Path, shop: Path, tmp_path: Path, size: int) -> None:
    shell.ok("evaluate", run, "--resamples", 20)
    before, rated, long = tree(run), tmp_path / "rated.parquet", "x" * 10_000
    pl.read_parquet(shop / "interactions.parquet").with_columns(pl.lit(1).alias(long)).write_parquet(rated)
    with no_file_over(size):
        told = [
            shell.wrong("train", "sasrec", "--data", shop, "--out", tmp_path / "new", *TINY),
            shell.wrong("simulate", "--out", tmp_path / "shop", "--users", 2000),
            shell.wrong("prepare", rated, "--out", tmp_path / "data", "--rating", long, "--minimum-rating", 0),
            shell.wrong("recommend", run, "--input", shop, "--out", tmp_path / "recs.parquet", "--k", 40),
        ]
        if size < 3000:
            said = shell.run("evaluate", run, "--resamples", 20)  # shown all the same, only not kept
            assert (said.code, "ndcg" in said.out) == (0, True)
            told.append(said.err)
    assert all("written" in sentence for sentence in told)
    assert tree(run) == before
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "new") == ["rated.parquet", "run"]


def test_a_folder_that_cannot_be_made(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file is no folder")
    inside = tmp_path / "file" / "deep"
    shell.wrong("train", "sasrec", "--data", shop, "--out", inside, *TINY)
    shell.wrong("simulate", "--out", inside)
    shell.wrong("prepare", shop, "--out", inside)
    shell.wrong("recommend", run, "--input", shop, "--out", inside)
    assert (tmp_path / "file").read_text() == "a file is no folder"


# ---- processes of their own


def start(*words: Any, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "forethought", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_nobody_can_take(run: Path) -> None:
    with open("/dev/full", "w") as full:
        process = start("recommend", run, "--history", "i00001", "--json", stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert re.fullmatch(r"forethought: The system refused to read or write: .*No space left.*\.\n", err)


def test_ctrl_c_and_resume(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ["train", "sasrec", "--data", shop, "--out", tmp_path / "run", *TINY, "--patience", "9999"]
    words[words.index("--epochs") + 1] = "5000"
    process = start(*words, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (tmp_path / "run/log.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopped. Everything is saved: the same command with --resume goes on from here" in err
    before = json.loads((tmp_path / "run/state/state.json").read_text())
    assert load(tmp_path / "run").outcome()["epochs"] == before["epoch"]
    assert shell.wrong(*words, "--resume", "--seed", "1").endswith("seed: 0 -> 1): resume it unchanged.")
