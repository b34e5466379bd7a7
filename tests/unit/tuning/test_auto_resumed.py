"""`train auto` stopped and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import RunError
from forethought.files import BESIDE, checked, write_json
from forethought.recommender import Recommender
from forethought.run_files import MODEL_FILE
from forethought.tuning import auto, tried
from forethought.tuning.auto import train_best

Halt = Callable[[str], None]
RUN, KEPT = "run", "run.tried"


@pytest.fixture(scope="module")
def at_once(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of eight epochs that nobody stopped."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "_affordable", lambda *_: 8)
        best(split, folder)
    return folder / RUN


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight epochs, whatever an epoch takes."""
    monkeypatch.setattr(auto, "_affordable", lambda *_: 8)


def best(
    split: Split, folder: Path, say: Halt = lambda _: None, *, resume: bool = False, overwrite: bool = False
) -> Recommender:
    return train_best(split, folder / RUN, minutes=5.0, say=say, resume=resume, overwrite=overwrite)


def stopped_at(words: str) -> Halt:
    def say(said: str) -> None:
        if words in said:
            raise KeyboardInterrupt

    return say


def stop_in_step(monkeypatch: pytest.MonkeyPatch, number: int, how: Callable[[], None]) -> None:
    """At the step of that number, those of all trainings counted."""
    steps = iter(range(1, 10_000))

    def step(self: object, losses: dict[str, float], positions: int) -> None:
        if next(steps) == number:
            how()

    monkeypatch.setattr(auto._Watcher, "step", step)


def press() -> None:
    signal.raise_signal(signal.SIGINT)  # the step is finished and the state saved


def kill() -> None:
    raise KeyboardInterrupt  # at once


def same(one: Path, other: Path) -> None:
    """Two runs of the same weights, chosen among the same."""
    assert (one / MODEL_FILE).read_bytes() == (other / MODEL_FILE).read_bytes()
    assert (one / "choice.json").read_text() == (other / "choice.json").read_text()


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    "words",
    ["ease: valid", "dropout 0.5: valid ndcg@10", "after 2 of 8", "after 4 of 8", "trained 8 epochs", "Chosen"],
)
def test_stopped_between_candidates_it_comes_to_the_same(
    split: Split, at_once: Path, tmp_path: Path, words: str
) -> None:
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        best(split, stopped, stopped_at(words))
    assert [path.name for path in stopped.iterdir()] == [KEPT]
    best(split, stopped, resume=True)
    assert [path.name for path in stopped.iterdir()] == [RUN]
    same(at_once, stopped / RUN)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("how", [press, kill])
def test_stopped_within_a_candidate_it_comes_to_the_same(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]
) -> None:
    plain = auto._trained
    quick = {"batch_positions": 128, "checkpoint_every_s": 0}

    def trained(*words: object) -> list[auto.Candidate]:  # several steps an epoch
        found = plain(*words)  # type: ignore[arg-type]
        for each in found:
            each.recipe = replace(each.recipe, training=replace(each.recipe.training, **quick))
        return found

    monkeypatch.setattr(auto, "_trained", trained)
    at_once, stopped = tmp_path / "once", tmp_path / "stopped"
    best(split, at_once)
    for number in (1, 7, 19, 40):  # the first before there is any state
        with monkeypatch.context() as patch:
            stop_in_step(patch, number, how)
            with pytest.raises(KeyboardInterrupt):
                best(split, stopped, resume=(stopped / KEPT).exists())
    best(split, stopped, resume=True)
    assert [path.name for path in stopped.iterdir()] == [RUN]
    same(at_once / RUN, stopped / RUN)


@pytest.mark.usefixtures("eight")
def test_ctrl_c_while_an_epoch_is_validated_is_not_lost(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate pauses then, and the next one is not to begin."""
    with monkeypatch.context() as patch:
        patch.setattr(auto._Watcher, "end_epoch", lambda self, epoch, *_: press() if epoch == 2 else None)
        with pytest.raises(KeyboardInterrupt):
            best(split, tmp_path)
    begun = sorted(path.name for path in (tmp_path / KEPT).iterdir() if path.name.startswith("trained"))
    assert begun == ["trained-0"]
    best(split, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [RUN]


@pytest.mark.usefixtures("eight")
def test_what_is_known_is_not_trained_again(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all rungs there is one to go on with, and nothing to fit."""
    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path, stopped_at("after 4 of 8"))
    trained: list[str] = []
    train = auto.train

    def watched(recipe: object, split: object, folder: Path, **named: object) -> object:
        trained.append(folder.name)
        return train(recipe, split, folder, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "train", watched)
    said: list[str] = []
    best(split, tmp_path, said.append, resume=True)
    assert len(set(trained)) == 1
    assert said[0].startswith(f"Going on with what lies in {tmp_path / KEPT}")


@pytest.mark.usefixtures("eight")
def test_the_time_of_all_sittings_counts(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left the rung that had begun is finished, and the best of it is the run."""
    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path, stopped_at("after 2 of 8"))
    record = tmp_path / KEPT / "tried.json"
    parts = json.loads(record.read_text())
    assert 0 < parts["spent_s"] < 300
    del parts["sha256"]
    write_json(record, checked(parts | {"spent_s": 300.0}))
    said: list[str] = []
    model = best(split, tmp_path, said.append, resume=True)
    assert not any("after 4 of 8" in words for words in said)
    assert model.outcome()["epochs"] <= 3


@pytest.mark.usefixtures("eight")
def test_another_command_is_refused(split: Split, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path, stopped_at("ease: valid"))
    with pytest.raises(RunError, match=r"add --resume to go on with it, or --overwrite"):
        best(split, tmp_path)
    for change in ({"minutes": 6.0}, {"seed": 1}, {"device": "cpu"}):
        with pytest.raises(RunError, match=rf"tried otherwise \({next(iter(change))}: .* resume it unchanged"):
            train_best(split, tmp_path / RUN, **{"minutes": 5.0} | change, resume=True)  # type: ignore[arg-type]
    others = leave_last_out(read(Shop(users=80, items=40, seed=4).write(tmp_path / "shop")))
    for other, what in ((others, "data"), (leave_last_out(split.data, ties="shuffle"), "split.ties")):
        with pytest.raises(RunError, match=rf"tried otherwise \({what}: "):
            best(other, tmp_path, resume=True)
    best(split, tmp_path, resume=True)


@pytest.mark.usefixtures("eight")
def test_a_damaged_record_is_told(split: Split, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path, stopped_at("ease: valid"))
    record = tmp_path / KEPT / "tried.json"
    whole = record.read_text()
    for damaged in (whole[:100], "", "[]", "{}", whole.replace('"epochs": null', '"epochs": 3')):
        record.write_text(damaged)
        with pytest.raises(RunError, match=r"tried\.json is damaged .*: begin anew with --overwrite\.$"):
            best(split, tmp_path, resume=True)
    best(split, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [RUN]


def test_nothing_to_resume_is_told(split: Split, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        best(split, tmp_path, resume=True)
    (tmp_path / KEPT).mkdir()
    (tmp_path / KEPT / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        best(split, tmp_path, overwrite=True)
    assert [path.name for path in (tmp_path / KEPT).iterdir()] == ["mine.txt"]


def test_what_is_refused_leaves_nothing(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does what is stopped before there is anything to go on from."""
    monkeypatch.setattr(auto, "train", lambda *_, **__: kill())
    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("eight")
def test_killed_before_the_record_goes_the_run_stays(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(auto, "write_card", lambda _: kill())
        with pytest.raises(KeyboardInterrupt):
            best(split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {RUN, KEPT}
    monkeypatch.setattr(auto, "train", lambda *_, **__: pytest.fail("it is trained already"))
    best(split, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [RUN]
    assert (tmp_path / RUN / "README.md").exists()


@pytest.mark.usefixtures("eight")
def test_the_record_goes_at_once(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it is removed, half of it would neither be gone on with nor begun anew."""
    remove, there = shutil.rmtree, []

    def watched(path: Path, **named: bool) -> None:
        there.append((path.suffix, (tmp_path / KEPT).exists()))
        remove(path, **named)

    with pytest.raises(KeyboardInterrupt):
        best(split, tmp_path, stopped_at("ease: valid"))
    monkeypatch.setattr(tried.shutil, "rmtree", watched)
    best(split, tmp_path, overwrite=True)
    removed = [was_there for suffix, was_there in there if suffix == BESIDE]
    assert len(removed) >= 2
    assert not any(removed[:1] + removed[-1:])
    assert [path.name for path in tmp_path.iterdir()] == [RUN]


@pytest.mark.usefixtures("eight")
def test_a_run_that_is_to_be_replaced_stays_until_then(split: Split, tmp_path: Path) -> None:
    best(split, tmp_path)
    before = (tmp_path / RUN / "choice.json").read_text()
    with pytest.raises(KeyboardInterrupt):
        train_best(split, tmp_path / RUN, minutes=5.0, seed=1, overwrite=True, say=stopped_at("ease: valid"))
    assert (tmp_path / RUN / "choice.json").read_text() == before
    model = train_best(split, tmp_path / RUN, minutes=5.0, seed=1, overwrite=True, resume=True)
    assert model.config.seed == 1
    assert [path.name for path in tmp_path.iterdir()] == [RUN]
