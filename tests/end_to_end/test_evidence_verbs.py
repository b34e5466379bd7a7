"""Evidence on the command line, from training to explanation; and what of it ends in a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from shell import TINY, Shell, tree

from forethought.data.evidence import Evidence
from forethought.training.progress import Quiet


@pytest.fixture
def vectors(shop: Path, tmp_path: Path) -> Path:
    """Some that fit, some of another length, some with NaN."""
    rows = len(pl.read_parquet(shop / "items.parquet"))
    fits = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    np.save(tmp_path / "shape.npy", fits)
    np.save(tmp_path / "long.npy", np.concatenate([fits, fits]))
    fits[3, 2] = np.nan
    np.save(tmp_path / "nan.npy", fits)
    return tmp_path


@pytest.mark.parametrize("fit", [(), ("--evidence-fit", "training", "--evidence-gate")])
def test_a_run_from_beginning_to_end(shell: Shell, shop: Path, vectors: Path, fit: tuple[str, ...]) -> None:
    run, use = vectors / "run", f"co_occurrence,repeat,{vectors / 'shape.npy'}"
    told = shell.json("train", "sasrec", "--data", shop, "--out", run, *TINY, "--quiet", "--evidence", use, *fit)
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["evidence"]["use"] == use
    assert [each["name"] for each in config["about"]["evidence"]] == ["co_occurrence", "repeat", "shape"]
    assert told["epochs"] == 1
    assert shell.json("evaluate", run, "--resamples", 20)["metrics"]["ndcg@10"]
    history = ("--history", "i00001,i00002,i00005")
    (listed,) = shell.json("recommend", run, *history, "--k", 4)
    explained = shell.json("explain", run, *history, "--k", 4)
    assert [each["item"] for each in explained["answer"]] == listed["items"]
    assert [each["score"] for each in explained["answer"]] == pytest.approx(listed["scores"], abs=1e-6)
    assert [each["name"] for each in explained["evidence"]] == ["co_occurrence", "repeat", "shape"]
    for whole in explained["sums"]:
        assert whole["score"] == pytest.approx(whole["model"] + sum(whole["added"].values()), abs=1e-6)
    assert "What speaks for them" in shell.ok("explain", run, *history)
    assert "has evidence beside it: rank all items" in shell.wrong("recommend", run, *history, "--approximate")
    words = ("train", "igr-sr", "--data", shop, "--out", vectors / "none", "--encoder-run", run, "--split", "temporal")
    size = ("--width", 16, "--layers", 1, "--window", 8)
    assert "was trained on another split" in shell.wrong(*words, "--valid-from", 0.7, "--test-from", 0.85, *size)
    assert not (vectors / "none").exists()


def test_what_is_counted_can_be_chosen(shell: Shell, shop: Path, tmp_path: Path) -> None:
    chosen = {
        "neighbours": 3,
        "window": 2,
        "directed": True,
        "most_popular": 9,
        "weeks": 1.5,
        "last": 4,
        "recency": 0.5,
    }
    words = [word for name, value in chosen.items() for word in (f"--evidence-{name.replace('_', '-')}", value)]
    words = [word for word in words if word is not True]
    use = ("--evidence", "co_occurrence,popular")
    shell.ok("train", "sasrec", "--data", shop, "--out", tmp_path / "run", *TINY, "--quiet", *use, *words)
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["config"]["evidence"] == asdict(Evidence(use="co_occurrence,popular", **chosen))
    assert [each["neighbours"] for each in told["about"]["evidence"]] == [3, 1]


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("sasrec", ("--evidence", "nothing"), "There is no evidence 'nothing': choose co_occurrence, text, repeat"),
        ("sasrec", ("--evidence", "co-occurrence"), "Did you mean 'co_occurrence'?"),
        ("sasrec", ("--evidence", ""), "has an empty name"),
        ("sasrec", ("--evidence", "text"), "There are no text vectors of items beside the data"),
        ("sasrec", ("--evidence", "categories"), "is no vector of an item"),
        ("sasrec", ("--evidence", "{at}/long.npy"), "rows, but the item table 40"),
        ("sasrec", ("--evidence", "{at}/nan.npy"), "hold NaN, infinity"),
        ("sasrec", ("--evidence", "{at}/none.npy"), "cannot be read"),
        ("sasrec", ("--evidence", "auto", "--evidence-gate"), "gate would do nothing"),
        ("sasrec", ("--evidence-fit", "training"), "need --evidence NAMES"),
        ("sasrec", ("--evidence-window", "3"), "need --evidence NAMES"),
        (
            "sasrec",
            ("--evidence", "repeat", "--evidence-window", "3"),
            "window would change nothing, because evidence is",
        ),
        ("sasrec", ("--evidence", "auto", "--evidence-recency", "2"), "recency is 2.0, but must be"),
        ("sasrec", ("--evidence", "auto", "--evidence-fit", "training", "--loss.kind", "bce"), "with the softmax over"),
        ("sasrec", ("--evidence", "auto", "--split-catalogue"), "leave split_catalogue or the evidence out"),
        ("rearec-prl", ("--evidence", "auto", "--evidence-fit", "training"), "loss does not know the weights"),
        ("ease", ("--evidence", "auto"), "no option '--evidence'"),
    ],
)
def test_what_cannot_be_ends_in_a_sentence_and_leaves_nothing(
    shell: Shell, shop: Path, vectors: Path, method: str, words: tuple[str, ...], said: str
) -> None:
    before = tree(vectors)
    given = [word.format(at=vectors) for word in words]
    assert said in shell.wrong("train", method, "--data", shop, "--out", vectors / "run", "--quiet", *given)
    assert tree(vectors) == before
    assert not (vectors / "run").exists()


def test_texts_of_another_data_set_are_refused(shell: Shell, shop: Path, vectors: Path) -> None:
    """Of an item table of another length, beside the data."""
    copy = vectors / "copy"
    copy.mkdir()
    for path in ("interactions.parquet", "items.parquet"):
        (copy / path).write_bytes((shop / path).read_bytes())
    (copy / "item_text_embeddings.npy").write_bytes((vectors / "long.npy").read_bytes())
    words = ("train", "sasrec", "--data", copy, "--out", vectors / "run", "--quiet", "--evidence", "auto")
    assert "rows, but the item table 40" in shell.wrong(*words)
    assert not (vectors / "run").exists()


def test_a_stopped_run_says_that_its_evidence_has_no_weight_yet(
    shell: Shell, shop: Path, vectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "train",
        "sasrec",
        "--data",
        shop,
        "--out",
        vectors / "run",
        *TINY,
        "--epochs",
        3,
        "--quiet",
        "--evidence",
        "auto",
    )
    said = "the weights of its evidence are not chosen yet"

    def stop(self: Quiet, epoch: int, *_: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quiet, "end_epoch", stop)
        assert shell.run(*words).code == 130
    assert said in shell.run("evaluate", vectors / "run", "--resamples", 20).err
    shell.ok(*words, "--resume")
    assert said not in shell.run("evaluate", vectors / "run", "--resamples", 20).err
