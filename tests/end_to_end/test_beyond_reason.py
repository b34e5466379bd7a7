"""Numbers beyond reason, broken files and odd surroundings end in one sentence, soon, and never in a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from run_tools import edit_config, edit_json
from shell import TINY, Shell, tree

from forethought import cli
from forethought.evaluation.report import Evaluation
from forethought.nn import budget


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Nothing hangs."""

    def hangs(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


HUGE = "99999999999999999999"
TRAIN = ["train", "sasrec", "--data", "SHOP", "--out", "OUT"]
BEYOND = [
    (["simulate", "--out", "OUT", "--interactions-per-user", "nan"], "is nan, but must be a number from 1 to 1,000"),
    (["simulate", "--out", "OUT", "--interactions-per-user", "inf"], "is inf, but must be a number from 1 to 1,000"),
    (["simulate", "--out", "OUT", "--interactions-per-user", "1e308"], "is 1e+308, but must be"),
    (
        ["simulate", "--out", "OUT", "--items", HUGE],
        f"items is {HUGE}, but must be a whole number from 10",
    ),
    (["simulate", "--out", "OUT", "--seed", HUGE], "seed is 9999"),
    (["simulate", "--out", "OUT", "--route-length", 21], "route_length is 21, but must be a whole number from 1 to 20"),
    (["simulate", "--out", "OUT", "--intents-per-user", 0], "intents_per_user is 0, but must be a whole number from"),
    (["simulate", "--out", "OUT", "--users", 2147483648], "users is 2147483648, but must be"),
    *(
        ([*TRAIN, f"--{option}", "inf"], f"{option.replace('-', '_')} is inf, but must be a number")
        for option in ("checkpoint-every-s", "clip-norm", "weight-decay", "learning-rate")
    ),
    (
        [*TRAIN, "--window", 1_000_000_000],
        "window is 1000000000, but must be a whole number from 1 to 100,000",
    ),
    ([*TRAIN, "--rounds", 2147483648], "NextItem's rounds is 2147483648, but must be a whole number from 1 to 100"),
    ([*TRAIN, "--rounds", HUGE], "NextItem's rounds is 9999"),
    ([*TRAIN, "--epochs", HUGE], "Training's epochs is 9999"),
    ([*TRAIN, "--seed", HUGE], "--seed is 9999"),
    ([*TRAIN, "--layers", 64, "--width", 16384], "GB of memory, but this machine has"),
    (["train", "dtrec", *TRAIN[2:], "--base-weight", "1e308"], "DTRec's base_weight is 1e+308, but must be a number"),
    (["train", "dtrec", *TRAIN[2:], "--max-steps", 100_000], "DTRec's max_steps is 100000"),
    (
        ["train", "rearec-prl", *TRAIN[2:], "--temperature_scale", "1e308"],
        "ReaRec's temperature_scale is 1e+308, but must be a number",
    ),
    (["train", "igr-sr", *TRAIN[2:], "--slots", 1_000_000], "IGRSR's slots is 1000000"),
    (["train", "lares", *TRAIN[2:], "--core-layers", 1_000_000], "LARES's core_layers is 1000000"),
    (["prepare", "SHOP", "--out", "OUT", "--minimum-rating", "nan"], "minimum_rating is nan"),
    (["prepare", "SHOP", "--out", "OUT", "--ties", "shuffle", "--tie-seed", HUGE], "SplitConfig's seed is 9999"),
    (
        ["prepare", "SHOP", "--out", "OUT", "--split", "temporal", "--valid-from", "inf", "--test-from", "0.9"],
        "valid_from is inf, but must be text",
    ),
    (["evaluate", "RUN", "--resamples", 2147483648], "resamples is 2147483648, but must be"),
    (["evaluate", "RUN", "--batch", HUGE], "batch is 9999"),
    (["evaluate", "RUN", "--seed", HUGE], "seed is 9999"),
    (["evaluate", "RUN", "--sampled", HUGE], "negatives is 9999"),
    (["evaluate", "RUN", "--noise", "swap", "--noise-seeds", HUGE], "--noise-seeds is 9999"),
    (["recommend", "RUN", "--history", "i00001", "--k", HUGE], "k is 9999"),
    (
        ["recommend", "RUN", "--input", "SHOP", "--out", "."],
        "'.' is a folder, but recommendations are one file",
    ),
    (["explain", "RUN", "--history", "i00001", "--k", HUGE], "k is 9999"),
    (["compare", "a=RUN", "b=OTHER", "--seed", HUGE], "seed is 9999"),
    (["study", "hps", "--data", "SHOP", "--seeds", HUGE, "--results", "OUT"], "--seeds is 9999"),
]


NOTHING_DONE = [
    (["prepare", "SHOP", "--out", "OUT", "--rating", "foo"], "--rating foo would change nothing, because only prepare"),
    (["train", "itemknn", "--data", "SHOP", "--out", "OUT", "--rating", "foo"], "--rating foo would change nothing"),
    (["doctor", "SHOP", "--rating", "foo"], "--rating foo would change nothing"),
    (
        ["prepare", "SHOP", "--out", "OUT", "--rating", "foo", "--minimum-rating", 3],
        "there is no 'foo': say which it is with rating=... (on the command line --rating).",
    ),
    (["recommend", "RUN", "--history", "i00001", "--strict-lists"], "--strict-lists would change nothing without"),
    (["compare", "a=RUN", "b=OTHER", "--data", "nofile"], "--data would change nothing without --scores NAME=FILE"),
    (["compare", "a=RUN", "b=OTHER", "--items", "nofile"], "--items would change nothing without --scores"),
    (["compare", "a=RUN", "b=OTHER", "--across-noise"], "No evaluation has noise, so that --across-noise"),
    (["prepare", "SHOP", "--out", "OUT", "--test-table", "x"], "give --test-table and --valid-table to train, tune or"),
    (["prepare", "SHOP", "--out", ""], "--out is empty: give it a value, or leave it out."),
    (["prepare", "SHOP", "--out", "OUT", "--name="], "--name is empty"),
    ([*TRAIN, "--set", "dropout=0.2,0.20"], "--set dropout=0.2,0.20 has a value twice"),
]
REFUSED = [*BEYOND, *NOTHING_DONE]


@pytest.mark.parametrize(
    ("words", "said"), REFUSED, ids=[" ".join(map(str, words)).replace("/", "") for words, _ in REFUSED]
)
def test_numbers_beyond_reason_and_options_that_would_do_nothing_are_refused(
    shell: Shell, run: Path, shop: Path, tmp_path: Path, words: list[Any], said: str
) -> None:
    if words[0] == "compare":
        Evaluation.read(_evaluated(shell, run)).write(tmp_path / "other")
    places = {"SHOP": str(shop), "OTHER": str(tmp_path / "other"), "RUN": str(run), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        words = [word.replace(name, place) if isinstance(word, str) else word for word in words]
    assert said in shell.wrong(*words)
    assert not (tmp_path / "out").exists()


def _evaluated(shell: Shell, run: Path) -> Path:
    if not (run / "metrics.json").exists():
        shell.ok("evaluate", run, "--resamples", 20)
    return run


def test_times_that_are_no_seconds_of_a_history(shell: Shell, shop: Path, tmp_path: Path) -> None:
    shell.ok("train", "hstu", "--data", shop, "--out", tmp_path / "run", *TINY, "--quiet")
    wrong = {
        HUGE: f"--times has {HUGE}, which is no time: Unix seconds count from 1970",
        "-5": "--times has -5, which is no time",
        "1700000000000": "--times has 1700000000000, which is a date as Unix milliseconds: give seconds",
        "1.5": "--times has '1.5', but Unix seconds are whole numbers",
        "9,5": "--times has 5 behind 9, but a history goes from the oldest item to the newest",
        "5,5": "has 1 items but 2 times",
    }
    for verb in ("recommend", "explain"):
        for times, said in wrong.items():
            assert said in shell.wrong(verb, tmp_path / "run", "--history", "i00001", f"--times={times}")
        shell.ok(verb, tmp_path / "run", "--history", "i00001,i00002", "--times", "1700000000,1700000000")


def test_times_for_a_model_that_reads_none(shell: Shell, run: Path) -> None:
    said = shell.wrong("recommend", run, "--input", "x.csv", "--out", "y.csv", "--times", "5")
    assert "--times stands beside --history" in said
    for verb in ("recommend", "explain"):
        said = shell.wrong(verb, run, "--history", "i00001", "--times", "5")
        assert "This model reads no times, so that --times would change nothing: leave it out." in said


def test_an_empty_query_is_no_table(shell: Shell) -> None:
    said = shell.run("doctor", "sql:")
    assert said.code == 2
    assert said.out.startswith("problem: ")
    assert len(said.out.splitlines()) == 1


# ---- what lies in a run folder


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("config.method.backbone.layers", 10**9, "SASRec's layers is 1000000000, but must be"),
        ("config.method.backbone.window", 10**12, "SASRec's window is 1000000000000, but must be"),
        ("config.method.rounds", 2**31, "NextItem's rounds is 2147483648"),
        ("config.method.loss.temperature", 1e308, "ItemLoss's temperature is 1e+308"),
        ("config.seed", 2**64, "RunConfig's seed is 18446744073709551616"),
        ("config.training", [], "training must be an object with keys"),
        ("about", [], "about is [], but must be an object with keys"),
        ("about.users", "many", "about.users is 'many', but must be a whole number"),
        ("about.users", 10**30, "about.users is 1000000000000000000000000000000"),
        ("about.exclude_history", "no", "about.exclude_history is 'no', but must be True or False"),
        ("about.protocol", 3, "about.protocol is 3, but must be an object"),
        ("about.data_path", {"a": 1}, "about.data_path is {'a': 1}, but must be text or None"),
        ("about.columns", {"user": 3}, "about.columns is {'user': 3}, but must be an object of text or None"),
    ],
)
def test_an_absurd_configuration_does_not_hang_or_crash(
    shell: Shell, run: Path, path: str, value: Any, said: str
) -> None:
    def edit(parts: dict[str, Any]) -> dict[str, Any]:
        *way, last = path.split(".")
        inner = parts
        for key in way:
            inner = inner[key]
        inner[last] = value
        return parts

    edit_config(run, edit)
    assert said in shell.wrong("recommend", run, "--history", "i00001")
    assert said in shell.wrong("evaluate", run)


def test_a_model_larger_than_the_machine_is_refused_before_it_is_made(
    shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(parts: dict[str, Any]) -> dict[str, Any]:
        parts["config"]["method"]["backbone"] |= {"width": 16384, "layers": 64, "ffn_width": 16384}
        return parts

    edit_config(run, edit)
    monkeypatch.setattr(budget, "UNASKED", 2**20)
    said = shell.wrong("recommend", run, "--history", "i00001")
    assert "This model needs about " in said
    assert "damaged" not in said


STATE: list[tuple[str, Any]] = [
    *(("epoch", value) for value in ("x", -1, 1.5, None, 10**30, True)),
    *(("stages", value) for value in ([], [1], [0, 0], [0, 99], "x", [0, "x"], [0, 1])),
    *(("best_epoch", value) for value in (99, -2, "x")),
    *(("sums", value) for value in ([], {"loss": "x"})),
    *[("trained_s", float("inf")), ("best", "x"), ("done", 1), ("batch", []), ("bound", []), ("tensors", {})],
    *[("bound", {"files": [], "log": {}}), ("bound", {"files": {}, "log": {"bytes": -1, "sha256": ""}})],
]


@pytest.mark.parametrize(("key", "value"), STATE, ids=[f"{key}={value!r}" for key, value in STATE])
def test_wrong_types_in_the_saved_state(shell: Shell, run: Path, shop: Path, key: str, value: Any) -> None:
    edit_json(run / "state" / "state.json", lambda parts: parts | {key: value})
    words = ["train", "sasrec", "--data", shop, "--out", run, "--resume", "--quiet", *_as_trained(run)]
    assert shell.wrong(*words)
    if key not in ("bound", "tensors"):
        assert shell.wrong("evaluate", run, "--resamples", 20)


def _as_trained(run: Path) -> list[Any]:
    """The options that the shared run was trained with."""
    config = json.loads((run / "config.json").read_text())["config"]
    parts = {**config["method"]["backbone"], **config["training"]}
    asked = ("width", "layers", "heads", "window", "ffn_width", "dropout", "epochs", "batch_positions")
    asked = (*asked, "learning_rate", "warmup_steps", "checkpoint_every_s", "patience")
    return [word for name in asked for word in (f"--{name.replace('_', '-')}", parts[name])]


METRICS: list[tuple[str, Any]] = [
    *(("halting", value) for value in ({}, [], {"rule": 1, "threshold": 0.5, "max_steps": 3}, {"threshold": 0.5})),
    *(("protocol", value) for value in ({}, [], None)),
    *(("metrics", value) for value in ([], {"ndcg@10": 3}, {"ndcg@10": {"mean": "x", "ci95": [0, 1]}})),
    *[("cost", []), ("groups", []), ("lists", 3)],
]


@pytest.mark.parametrize(("key", "value"), METRICS, ids=[f"{key}={value!r}" for key, value in METRICS])
def test_compare_with_wrong_types_or_no_halting_rule(
    shell: Shell, run: Path, tmp_path: Path, key: str, value: Any
) -> None:
    Evaluation.read(_evaluated(shell, run)).write(tmp_path / "other")
    edit_json(tmp_path / "other" / "metrics.json", lambda parts: parts | {key: value})
    assert "The saved evaluation is damaged (" in shell.wrong("compare", run, tmp_path / "other")


def test_compare_with_numbers_beyond_reason_in_the_cost(shell: Shell, run: Path, tmp_path: Path) -> None:
    Evaluation.read(_evaluated(shell, run)).write(tmp_path / "other")
    cost = {"parameters": 10**400, "steps": True, "training": [], "ms_per_history": {"encode": "x"}}
    edit_json(tmp_path / "other" / "metrics.json", lambda parts: parts | {"cost": cost})
    assert "other" in shell.ok("compare", run, tmp_path / "other")


@pytest.mark.parametrize("damage", ["user_id", "rank", "ndcg@10", "nested", "text"])
def test_compare_with_a_damaged_table_of_cases(shell: Shell, run: Path, tmp_path: Path, damage: str) -> None:
    evaluation = Evaluation.read(_evaluated(shell, run))
    cases = evaluation.cases
    if damage in cases.columns:
        broken = cases.drop(damage)
    else:
        value = pl.concat_list("user_id") if damage == "nested" else pl.col("rank").cast(pl.String)
        broken = cases.with_columns(value.alias("user_id" if damage == "nested" else "rank"))
    evaluation.__class__(**{**vars(evaluation), "cases": broken}).write(tmp_path / "other")
    assert "The saved evaluation is damaged (" in shell.wrong("compare", run, tmp_path / "other")


def test_cases_with_other_ids_are_not_compared(shell: Shell, run: Path, tmp_path: Path) -> None:
    evaluation = Evaluation.read(_evaluated(shell, run))
    numbered = evaluation.cases.with_columns(user_id=pl.int_range(pl.len()))
    evaluation.__class__(**{**vars(evaluation), "cases": numbered}).write(tmp_path / "other")
    assert "have other ids than those of another" in shell.wrong("compare", run, tmp_path / "other")


@pytest.mark.parametrize("name", ["config.json", "items.parquet", "metrics.json", "state/state.json", "log.jsonl"])
def test_a_pipe_is_not_waited_for(shell: Shell, run: Path, shop: Path, name: str) -> None:
    _evaluated(shell, run)
    train = ["train", "sasrec", "--data", shop, "--out", run, "--resume", "--quiet", *_as_trained(run)]
    (run / name).unlink()
    os.mkfifo(run / name)
    words: dict[str, list[Any]] = {"metrics.json": ["compare", f"a={run}", f"b={run}2"]}
    assert shell.wrong(*words.get(name, train))
    if name in ("config.json", "items.parquet"):
        assert shell.wrong("recommend", run, "--history", "i00001")


def test_a_pipe_is_no_table(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for pipe in (tmp_path / "x.csv", tmp_path / "x.parquet", tmp_path / "shop" / "interactions.parquet"):
        os.mkfifo(pipe)
        source = pipe.parent if pipe.parent.name == "shop" else pipe
        shell.wrong("train", "sasrec", "--data", source, "--out", tmp_path / "out")
        shell.wrong("prepare", source, "--out", tmp_path / "out")
        shell.wrong("recommend", run, "--input", source, "--out", tmp_path / "recs.parquet")
        shell.wrong("recommend", run, "--history", "i00001", "--allow", pipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "state/state.json", "metrics.json", "prepared.json"])
@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_nested_brackets(shell: Shell, run: Path, shop: Path, tmp_path: Path, name: str, deep: str) -> None:
    words: dict[str, list[Any]] = {
        "config.json": ["recommend", run, "--history", "i00001"],
        "state/state.json": ["train", "sasrec", "--data", shop, "--out", run, "--resume", *_as_trained(run)],
        "metrics.json": ["compare", run, run.with_name("other")],
        "prepared.json": ["train", "sasrec", "--data", tmp_path / "data", "--out", tmp_path / "out"],
    }
    if name == "prepared.json":
        shell.ok("prepare", shop, "--out", tmp_path / "data")
    folder = tmp_path / "data" if name == "prepared.json" else run
    (folder / name).write_text(deep)
    assert "is damaged (maximum recursion depth" in shell.wrong(*words[name])


def test_a_nul_or_a_bad_byte_in_a_path(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for name in ("a\0b", "x\udcff"):
        out = tmp_path / name
        commands: list[list[Any]] = [
            ["simulate", "--out", out, "--users", 20],
            ["prepare", shop, "--out", out],
            ["train", "sasrec", "--data", shop, "--out", out, *TINY],
            ["train", "sasrec", "--data", name, "--out", tmp_path / "out"],
            ["recommend", run, "--input", shop, "--out", out],
            ["evaluate", run, "--resamples", 20, "--out", out],
            ["download", "ml-1m", "--out", out],
        ]
        for words in commands:
            said = shell.wrong(*words)
            assert "holds a NUL, or bytes that are no UTF-8: choose another name" in said
            assert "make room" not in said
    assert tree(tmp_path) == before


# ---- odd surroundings


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"])
def test_a_launcher_that_counts_in_letters(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv(name, "abc")
    said = shell.wrong("train", "sasrec", "--data", shop, "--out", tmp_path / "out", *TINY)
    assert f"{name} is 'abc' in the environment" in said
    study = ("study", "hps", "--only", "dtrec", "--results", tmp_path / "results", "--runs", tmp_path / "runs")
    assert f"{name} is 'abc' in the environment" in shell.wrong(*study, "--data", shop)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_cannot_put_its_runs_anywhere_leaves_nothing(shell: Shell, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    study = ("study", "hps", "--only", "dtrec", "--data", shop, "--results", tmp_path / "results", "--runs")
    for runs in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / ("x" * 300), "file:///etc/passwd"):
        shell.wrong(*study, runs)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_to_compare_that_holds_a_nul_byte(shell: Shell, run: Path) -> None:
    assert "holds a NUL" in shell.wrong("compare", "nul\0byte", f"b={run}")


def python_forethought(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    command = [sys.executable, "-m", "forethought", *map(str, words)]
    return subprocess.run(command, text=True, env=environment, timeout=120, check=False, **options)


@pytest.mark.parametrize("words", [["--version"], ["recommend", "RUN", "--history", "i00001"]], ids=["flag", "verb"])
def test_a_closed_standard_output(run: Path, words: list[str]) -> None:
    words = [str(run) if word == "RUN" else word for word in words]
    command = f'exec "{sys.executable}" -m forethought {" ".join(words)} >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == ("forethought: The system refused to read or write: [Errno 9] standard output is closed.\n")


def test_an_output_that_takes_ascii_only(run: Path, processes: dict[str, str]) -> None:
    for extra in ([], ["--json"]):
        words = ["evaluate", run, "--resamples", 20, *extra]
        done = subprocess.run(
            ["forethought", *map(str, words)],
            env=processes | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["protocol"] if extra else r"leave_last_out \xb7 ties" in done.stdout


# ---- the last net


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Memory ran out: "),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "when 9 bytes more",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "when 9 GiB more were asked for"),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "ran out when 7.45 GiB more were asked for: use a"),
        (OSError(12, "Cannot allocate memory"), "Memory ran out: "),
        (RecursionError("maximum recursion depth exceeded"), "is nested too deeply to be read (maximum recursion"),
        (UnicodeEncodeError("ascii", "ï", 0, 1, "no"), "A text cannot be read or written ('ascii' codec"),
        (OSError(5, "Input/output error"), "The system refused to read or write: [Errno 5] Input/output error."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_machine_refuses_is_one_sentence(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr("forethought.cli.doctor.run", _raising(error))
    assert said in shell.wrong("doctor", "x")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ValueError("ours"), RuntimeError("ours"), KeyError("ours")):
        monkeypatch.setattr("forethought.cli.doctor.run", _raising(error))
        with pytest.raises(type(error), match="ours"):
            cli.main(["doctor", "x"])


def _raising(error: Exception) -> Callable[[list[str]], None]:
    def run(arguments: list[str]) -> None:
        raise error

    return run
