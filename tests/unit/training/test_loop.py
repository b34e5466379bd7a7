"""The loop: it learns, stops in time, says when it diverges, and tells whoever watches."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, MissingExtraError, RunError
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem, NextItemModel
from forethought.recommender import Recommender, load
from forethought.runs import train
from forethought.training import loop, validation
from forethought.training.interrupt import Interrupted
from forethought.training.loop import Fit
from forethought.training.progress import Quiet, Watch
from forethought.training.settings import Training
from forethought.training.state import Progress
from forethought.training.tracking import JsonLines, Trackers


def lines(folder: Path) -> list[dict[str, float]]:
    return list(map(json.loads, (folder / "log.jsonl").read_text().splitlines()))


def test_training_lowers_the_loss(trained: Recommender) -> None:
    assert trained.folder is not None
    told = lines(trained.folder)
    assert [line["epoch"] for line in told] == [1, 2]
    assert told[1]["loss"] < told[0]["loss"]
    outcome = trained.outcome()
    best = max(told, key=lambda line: line["valid_ndcg@10"])
    assert outcome["epochs"] == 2
    assert outcome["best_epoch"] == best["epoch"]
    assert outcome["valid_ndcg@10"] == best["valid_ndcg@10"]


def test_the_same_seed_gives_the_same_weights(
    trained: Recommender, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    again = train(Recipe(method=sasrec, training=quick), split, tmp_path / "again").method.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in trained.method.state_dict().items())
    other = train(Recipe(method=sasrec, training=quick, seed=1), split, tmp_path / "other").method.state_dict()
    assert not any(
        torch.equal(other[name], tensor) for name, tensor in trained.method.state_dict().items() if tensor.ndim > 1
    )


def test_a_warm_up_that_outlasts_the_training_is_said_once(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    class Hears(Quiet):
        def __init__(self) -> None:
            self.said: list[str] = []

        def note(self, sentence: str) -> None:
            self.said.append(sentence)

    for warmup, times in ((100_000, 1), (0, 0)):
        hears = Hears()
        recipe = Recipe(method=sasrec, training=replace(quick, warmup_steps=warmup))
        train(recipe, split, tmp_path / f"warm-{warmup}", observer=hears)
        assert sum("learning rate comes to" in each for each in hears.said) == times


def test_what_an_epoch_begins_with_is_part_of_its_cost(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NextItemModel, "begin_epoch", lambda *_: time.sleep(0.3))
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert lines(tmp_path / "run")[-1]["trained_s"] > 0.6


def test_early_stopping_keeps_the_best_epoch(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(quick, epochs=9, patience=2, schedule="constant")
    qualities = iter([0.1, 0.3, 0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(validation, "ndcg", lambda ranks, k: np.full(1, next(qualities)))
    two = train(
        Recipe(method=sasrec, training=replace(settings, epochs=2)), split, tmp_path / "two"
    ).method.state_dict()
    stopped = train(Recipe(method=sasrec, training=settings), split, tmp_path / "nine")
    assert stopped.outcome() | {"trained_s": 0} == {"epochs": 4, "best_epoch": 2, "valid_ndcg@10": 0.3, "trained_s": 0}
    assert all(torch.equal(two[name], tensor) for name, tensor in stopped.method.state_dict().items())


def test_a_diverging_loss_ends_in_a_sentence(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    wild = NextItem(backbone=sasrec, loss=ItemLoss(temperature=1e-40))
    with pytest.raises(RunError, match=r"The loss became .* in epoch 1, step \d+: try a lower learning_rate") as told:
        train(Recipe(method=wild, training=quick), split, tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()  # there was nothing to go on from


@pytest.fixture
def read_rarely(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As where losses lie on a device: read every few steps. How many each reading told of."""
    read, told = Fit._read, []
    monkeypatch.setattr(loop, "reads_every", lambda *_: 3)
    monkeypatch.setattr(
        Fit, "_read", lambda fit, fabric, unread, *rest: told.append(len(unread)) or read(fit, fabric, unread, *rest)
    )
    return told


def test_losses_that_are_read_rarely_are_the_same(
    trained: Recommender, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, read_rarely: list[int]
) -> None:
    """Every step was copied and reduced, whether anybody looked or not."""
    again = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert trained.folder is not None
    assert [line["loss"] for line in lines(tmp_path / "run")] == [line["loss"] for line in lines(trained.folder)]
    assert [line["step"] for line in lines(tmp_path / "run")] == [line["step"] for line in lines(trained.folder)]
    assert all(torch.equal(again.method.state_dict()[n], t) for n, t in trained.method.state_dict().items())
    assert set(read_rarely) <= {1, 2, 3}
    assert len(read_rarely) < sum(read_rarely) == lines(tmp_path / "run")[-1]["step"]


@pytest.mark.usefixtures("read_rarely")
def test_a_loss_that_diverges_unread_is_told_with_its_step(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda *_: 1e38)
    wild = replace(quick, clip_norm=0)
    with pytest.raises(RunError, match=r"The loss became .* in epoch 1, step 2: try a lower learning_rate"):
        train(Recipe(method=sasrec, training=wild), split, tmp_path / "run")
    assert not (tmp_path / "run" / "state" / "state.json").exists()


@pytest.mark.usefixtures("read_rarely")
def test_one_process_stops_at_once_when_asked(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    class Press(Quiet):
        def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=Press())
    assert json.loads((tmp_path / "run" / "state" / "state.json").read_text())["step"] == 1


def test_nothing_to_learn_from(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    short = replace(split, train=replace(split.train, ends=split.train.starts + 1))
    with pytest.raises(DataError, match="No user has two interactions in the training part"):
        train(Recipe(method=sasrec, training=quick), short, tmp_path / "run")
    empty = replace(split, valid=split.valid.take(np.zeros(0, np.int64)))
    with pytest.raises(DataError, match="The validation part is empty"):
        train(Recipe(method=sasrec, training=quick), empty, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folders_that_are_in_use(
    trained: Recommender, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    assert trained.folder is not None
    with pytest.raises(RunError, match=r"is not empty: choose another, or add --resume .* or --overwrite"):
        train(Recipe(method=sasrec, training=quick), split, trained.folder)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="holds something other than a run, which is not overwritten"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").is_file()
    with pytest.raises(RunError, match="is a file, but a run needs a folder"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "thesis.tex")


# ---- who is told


def test_a_log_without_a_terminal_has_a_line_an_epoch(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    out = io.StringIO()
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=Watch(Console(file=out, width=200)))
    first, second, last = out.getvalue().splitlines()
    assert first.startswith("epoch   1  loss ")
    assert second.startswith("epoch   2  loss ")
    assert "valid ndcg@10" in first
    assert last.startswith("Trained 2 epochs in ")
    assert "all epochs done" in last


def test_a_line_has_five_figures_at_most_and_the_log_has_all() -> None:
    parts = {
        "ce_first": 1.0,
        "ce_last": 2.0,
        "loss": 3.0,
        "soft_steps": 1.5,
        "valid_ndcg@10": 0.25,
        "valid_recall@10": 0.5,
    }
    told = {**parts, "valid_steps": 2.0, "trained_s": 4.0, "valid_s": 1.0, "epoch": 7.0, "prototype_weight": 0.0}
    out = io.StringIO()
    watch = Watch(Console(file=out, width=300))
    watch.start(Progress(), Training(epochs=9))
    for losses in (told, {"token_1": 2.5, "trained_s": 4.0, "valid_ndcg@10": 0.25}):
        watch.begin_epoch(6, 10, 0)
        watch.end_epoch(7, losses, improved=True)
    assert out.getvalue().splitlines() == [
        "epoch   7  loss 3.0000  valid recall@10 0.5000  valid ndcg@10 0.2500 *  4 s",
        "epoch   7  token 1 2.5000  valid ndcg@10 0.2500 *  4 s",
    ]


def test_training_that_ended_at_its_best_says_that_more_may_help() -> None:
    def said(best_epoch: int, epoch: int) -> str:
        out = io.StringIO()
        watch = Watch(Console(file=out, width=300))
        watch.epochs = 5
        watch.finish(Progress(epoch=epoch, best_epoch=best_epoch, best=0.3, trained_s=1.0, stale=1))
        return out.getvalue()

    advice = "It was still getting better when it ended: more --epochs may be worth their time."
    assert advice in said(best_epoch=4, epoch=5)
    assert advice not in said(best_epoch=3, epoch=5)
    assert advice not in said(best_epoch=3, epoch=4)  # stopped for want of a gain


def test_the_terminal_is_given_back(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    """A bar hides the cursor; an interrupted one must show it again."""
    out = io.StringIO()

    class Press(Watch):
        def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
            super().begin_epoch(epoch, batches, done)
            os.kill(os.getpid(), signal.SIGINT)

    watch = Press(Console(file=out, width=120, force_terminal=True))
    with pytest.raises(Interrupted):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=watch)
    assert out.getvalue().count("\x1b[?25h") >= out.getvalue().count("\x1b[?25l") > 0
    assert "positions/s" in out.getvalue()
    resumed = io.StringIO()
    watch = Watch(Console(file=resumed, width=120))
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=watch, resume=True)
    assert resumed.getvalue().startswith("Going on at epoch 1, batch 2.")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str], trained: Recommender) -> None:
    Quiet().finish(loop.Progress())
    assert capsys.readouterr().out == ""


def test_log_forgets_what_will_be_repeated(tmp_path: Path) -> None:
    log = JsonLines()
    log.start(tmp_path, {})
    log.rewind(3)  # there is nothing yet
    for step in (5, 10, 15):
        log.log({"loss": step / 2}, step)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')  # cut short by a kill
    log.rewind(10)
    assert lines(tmp_path) == [{"step": 5, "loss": 2.5}, {"step": 10, "loss": 5.0}]
    log.path = tmp_path
    with pytest.raises(RunError, match="could not be written"):
        log.log({"loss": 1.0}, 20)


def test_tensorboard(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", track=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    told = [event.value for event in events.Scalars("loss")]
    assert told == pytest.approx([line["loss"] for line in lines(tmp_path / "run")])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_trackers_that_are_not_installed(
    name: Any, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    """It is said before anything is written."""
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingExtraError, match=rf"needs the package '{name}', .* pip install {name} brings it"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", track=[name])
    assert not (tmp_path / "run").exists()


class FakeMLflow:
    """What of MLflow is called, with artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broken = folder, False
        self.params: dict[str, Any] = {}

    def log_params(self, params: dict[str, Any]) -> None:
        assert len(params) <= 100  # more at once are refused
        assert self.params.keys().isdisjoint(params)
        self.params |= params

    def log_artifact(self, path: str, artifact_path: str) -> None:
        if self.broken:
            raise OSError("the server is gone")
        (self.folder / artifact_path).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, self.folder / artifact_path)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def test_mlflow_keeps_the_model_where_that_is_asked_for(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeMLflow(tmp_path / "artifacts")
    monkeypatch.setitem(sys.modules, "mlflow", server)  # type: ignore[arg-type]
    recipe = Recipe(method=sasrec, training=replace(quick, epochs=1))
    train(recipe, split, tmp_path / "plain", track=["mlflow"])
    assert not server.folder.exists()
    assert server.params["training.epochs"] == 1
    assert server.params["method.backbone.width"] == sasrec.width
    assert not any(isinstance(value, dict) for value in server.params.values())
    server.params = {}
    model = train(recipe, split, tmp_path / "run", track=["mlflow"], track_model=True)
    kept = load(server.folder / "run")
    assert kept.weights_sum == model.weights_sum
    history = [model.items.id_list([1, 2])]
    assert kept.recommend(history)[0].items == model.recommend(history)[0].items
    server.params, server.broken = {}, True
    with pytest.raises(RunError, match=r"is whole, but MLflow did not take its files \(the server is gone\)"):
        train(recipe, split, tmp_path / "broken", track=["mlflow"], track_model=True)
    assert load(tmp_path / "broken").weights_sum == model.weights_sum
    server.params, server.broken = {}, False
    train(recipe, split, tmp_path / "broken", track=["mlflow"], track_model=True, resume=True)
    with pytest.raises(ConfigError, match="needs one that keeps files: track mlflow or wandb"):
        train(recipe, split, tmp_path / "none", track=["tensorboard"], track_model=True)
    assert not (tmp_path / "none").exists()


def test_unknown_trackers() -> None:
    with pytest.raises(ConfigError, match=r"There is no tracker 'tensorbord'; .* Did you mean 'tensorboard'"):
        Trackers(["tensorbord"])  # type: ignore[list-item]
