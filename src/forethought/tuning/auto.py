"""The best of a few good recipes within a time: what nobody has to choose who only wants a good first model.

What is fitted in closed form takes seconds and is asked first. Recipes that are trained go through successive halving:
all of them a quarter of their epochs, the better half another quarter, the best one to its end. The validation part
chooses; the run is an ordinary one. What is tried is recorded as it goes (`tried.py`), and a stopped command goes on.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forethought import recipes
from forethought.config import Recipe, to_json
from forethought.data.evidence import Evidence
from forethought.data.features import Features, read_features
from forethought.data.splits import Split
from forethought.devices import Device
from forethought.errors import ForethoughtError, RunError
from forethought.files import write_json
from forethought.folders import replace_folder
from forethought.memory import ShortOfMemoryError
from forethought.recommender import Recommender, load
from forethought.run_files import STATE_FOLDER
from forethought.run_folder import CHOICE_FILE
from forethought.runs import train, write_card
from forethought.training import state
from forethought.training.observer import EndedEarly
from forethought.training.progress import Quiet
from forethought.training.settings import Training
from forethought.training.state import Progress
from forethought.tuning.grid import final_validation
from forethought.tuning.tried import Tried, is_made_of, keeping_tried, tried_folder

CLOSED_FORM = ("itemknn", "ease")
DROPOUTS = (0.2, 0.5)  # between them lies what was best on every set that was tried
EPOCHS = 28  # at most, as of `--effort default`
FEWEST_EPOCHS = 4  # of which a quarter is one
RESERVE = 0.9  # of the time that is left is planned with


@dataclass
class Candidate:
    """A recipe that may become the run, and how far it came.

    Attributes:
        valid: NDCG@10 on the validation part; -1 before it is known.
        said: why it is out.
    """

    name: str
    recipe: Recipe
    folder: Path
    valid: float = -1.0
    epochs: int = 0
    said: str = ""


class _Paused(EndedEarly):
    """A training that stands at the beginning of an epoch, to be gone on with; never seen outside of this file."""


class _Watcher(Quiet):
    """Somebody who stops a training before an epoch, or ends it while there is time for its end."""

    def __init__(self, pause_at: int | None, until: float, tried: Tried) -> None:
        self.pause_at, self.until, self.tried = pause_at, until, tried
        self.longest, self.began = 0.0, time.perf_counter()
        self.valid, self.epochs = -1.0, 0

    def start(self, progress: Progress, settings: Training) -> None:
        self.valid, self.epochs = progress.best, progress.epoch

    def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
        if self.pause_at is not None and epoch >= self.pause_at:
            raise _Paused
        self.began = time.perf_counter()

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        self.longest = max(self.longest, time.perf_counter() - self.began)
        self.valid, self.epochs = max(self.valid, figures["valid_ndcg@10"]), epoch
        self.tried.write()  # the time that it took, should it be killed

    def enough(self) -> bool:
        return self.pause_at is None and time.time() + self.longest > self.until


def train_best(
    split: Split,
    out: str | Path,
    *,
    minutes: float = 20.0,
    seed: int = 0,
    device: Device = "auto",
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Recommender:
    """Train the best of a few recipes into a run folder; which one, the validation part says.

    Args:
        minutes: that it may take, those before it was stopped counted; an epoch that has begun is finished.
        resume: go on with what was tried before it was stopped, all else being as it was.
        overwrite: remove what lies in `out` first, and what was tried for it unless that is resumed.
        say: told how each of them does, and what was chosen.

    Raises:
        RunError: something lies in `out`, what was tried lies beside it or does not fit, or nothing could be trained.
        Interrupted: Ctrl-C; `resume=True` goes on.
    """
    out = Path(out)
    room = tried_folder(out)
    closed, trained = _closed_form(room, seed, device), _trained(split, room, seed, device)
    asked = {
        **{"data": split.data.data_hash, "split": split.protocol, "minutes": minutes, "seed": seed, "device": device},
        "recipes": {each.name: to_json(each.recipe) for each in (*closed, *trained)},
    }
    with keeping_tried(out, asked, resume=resume, overwrite=overwrite) as tried:
        if resume:
            say(f"Going on with what lies in {room}; {tried.spent_s / 60:.1f} of {minutes:g} minutes are spent.")
        if not is_made_of(out, tried):
            with replace_folder(out, overwrite=overwrite) as made:
                _fit(closed, split, tried, say)
                best = _halving(trained, split, tried, tried.until(minutes), say)
                chosen = _chosen([*closed, best], tried, minutes, say)
                shutil.copytree(chosen.folder, made, dirs_exist_ok=True)  # a kill meanwhile costs nothing
        model = load(out, device=device)
        write_card(model)
    return model


def _chosen(candidates: list[Candidate], tried: Tried, minutes: float, say: Callable[[str], None]) -> Candidate:
    """The best on validation, which its folder says, as the record does."""
    sound = [each for each in candidates if not each.said]
    if not sound:
        raise RunError(candidates[-1].said)
    chosen = max(sound, key=lambda each: each.valid)
    say(_why(chosen, sound))
    others = {each.name: each.valid for each in sound} | {each.name: each.said for each in candidates if each.said}
    write_json(chosen.folder / CHOICE_FILE, {"chosen": chosen.name, "valid_ndcg@10": others, "minutes": minutes})
    tried.chosen = chosen.folder.name
    tried.write()
    return chosen


def _closed_form(room: Path, seed: int, device: Device) -> list[Candidate]:
    found = []
    for name in CLOSED_FORM:
        recipe = recipes.METHODS[name]()
        recipe = replace(recipe, seed=seed, training=replace(recipe.training, device=device))
        found.append(Candidate(name, recipe, room / name))
    return found


def _fit(candidates: list[Candidate], split: Split, tried: Tried, say: Callable[[str], None]) -> None:
    for each in candidates:
        try:
            if each.name not in tried.closed_form:
                shutil.rmtree(each.folder, ignore_errors=True)  # of a kill
                model = train(each.recipe, split, each.folder)
                tried.closed_form[each.name] = model.outcome()["valid_ndcg@10"]
                tried.write()
            each.valid = tried.closed_form[each.name]
            say(f"{each.name}: valid ndcg@10 {each.valid:.4f}")
        except ShortOfMemoryError as error:
            each.said = str(error)
            say(f"{each.name} is left out. {error}")


def _trained(split: Split, room: Path, seed: int, device: Device) -> list[Candidate]:
    """SASRec with little and with much dropout, with and without the features that the data has."""
    features = (None, Features()) if _has_features(split) else (None,)
    plain = recipes.METHODS["sasrec"]()
    found = []
    for known in features:
        for dropout in DROPOUTS:
            name = f"sasrec with dropout {dropout}" + (" and features" if known else "")
            recipe = recipes.with_settings(plain, {"dropout": dropout})
            training = replace(recipe.training, device=device)
            recipe = replace(recipe, seed=seed, training=training, features=known, evidence=Evidence())
            found.append(Candidate(name, recipe, room / f"trained-{len(found)}"))
    return found


def _has_features(split: Split) -> bool:
    try:
        return bool(read_features(split.data, Features()))
    except ForethoughtError:
        return False


def _halving(
    candidates: list[Candidate], split: Split, tried: Tried, until: float, say: Callable[[str], None]
) -> Candidate:
    """The best, trained to its end and evaluated; the others as far as they came are told and left out."""
    left = list(candidates)
    if tried.epochs is None:
        shutil.rmtree(left[-1].folder, ignore_errors=True)  # a kill left less than an epoch to measure
        tried.epochs = _affordable(left, split, tried, until)
        shutil.rmtree(left[-1].folder, ignore_errors=True)
        tried.write()
    epochs = tried.epochs
    if epochs < FEWEST_EPOCHS:
        dropout = recipes.dropout_for(len(split.data), len(split.data) / max(split.data.n_users, 1))
        left = [left[DROPOUTS.index(dropout) if dropout in DROPOUTS else 0]]
        say("There is time for one training only, and so nothing is compared.")
    for each in left:
        training = replace(each.recipe.training, epochs=max(1, epochs), patience=max(4, epochs // 4))
        each.recipe = replace(each.recipe, training=training)
    rung = max(1, epochs // 4)
    pause = rung
    while len(left) > 1 and (str(pause) in tried.rungs or time.time() < until):  # what has begun is finished
        _climb(left, split, tried, pause, until)
        for each in left:
            say(f"{each.name}: valid ndcg@10 {each.valid:.4f} after {each.epochs} of {epochs} epochs")
        left = sorted(left, key=lambda each: -each.valid)[: math.ceil(len(left) / 2)]
        pause += rung
    best = max(left, key=lambda each: each.valid)
    model = _train(best, split, tried, None, until)
    assert model is not None
    best.valid = final_validation(model, split)
    say(f"{best.name}: valid ndcg@10 {best.valid:.4f}, trained {best.epochs} epochs")
    return best


def _climb(left: list[Candidate], split: Split, tried: Tried, pause: int, until: float) -> None:
    """Each of them to the end of a rung; how they stood there is recorded, since one that went further is better."""
    rung = tried.rungs.setdefault(str(pause), {})
    for each in left:
        if each.name in rung:
            each.valid, each.epochs = rung[each.name]["valid"], rung[each.name]["epochs"]
            continue
        _train(each, split, tried, pause, until)
        rung[each.name] = {"valid": each.valid, "epochs": each.epochs}
        tried.write()


def _affordable(candidates: list[Candidate], split: Split, tried: Tried, until: float) -> int:
    """Epochs of a whole training, so that the halving of all of them fits into the time that is left."""
    first = candidates[-1]  # with features, if any: the dearest
    watcher = _Watcher(1, until, tried)
    _watched(first, split, watcher)
    spent, left = watcher.longest, RESERVE * (until - time.time())
    shares, quarters, n = 0.0, 0, len(candidates)
    while n > 1:
        shares, quarters, n = shares + n / 4, quarters + 1, math.ceil(n / 2)
    shares += max(0.0, 1 - quarters / 4)
    return min(EPOCHS, int(left / max(spent, 1e-3) / shares)) if left > 0 else 0


def _train(each: Candidate, split: Split, tried: Tried, pause_at: int | None, until: float) -> Recommender | None:
    """Go on with one until it pauses; the model where it came to its end."""
    watcher = _Watcher(pause_at, until, tried)
    model = _watched(each, split, watcher)
    each.valid, each.epochs = watcher.valid, watcher.epochs
    return model


def _watched(each: Candidate, split: Split, watcher: _Watcher) -> Recommender | None:
    there = state.exists(each.folder / STATE_FOLDER)
    if not there:
        shutil.rmtree(each.folder, ignore_errors=True)  # killed before it had a state
    try:
        return train(each.recipe, split, each.folder, resume=there, observer=watcher)
    except _Paused:
        return None


def _why(chosen: Candidate, tried: list[Candidate]) -> str:
    others = sorted((each for each in tried if each is not chosen), key=lambda each: -each.valid)
    beside = ", ".join(f"{each.name} has {each.valid:.4f}" for each in others)
    return f"Chosen: {chosen.name}, whose NDCG@10 on the validation part is {chosen.valid:.4f}" + (
        f"; {beside}." if beside else "."
    )


def choice_of(model: Recommender) -> dict[str, Any]:
    """What a run was chosen among, as it was written."""
    from forethought.files import read_json

    assert model.folder is not None
    return read_json(model.folder / CHOICE_FILE, "train it anew")
