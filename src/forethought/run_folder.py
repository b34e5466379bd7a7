"""The folder of a run: whether a training may begin there or go on, and one for what was made without any."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forethought.config import ABOUT, RunConfig, from_json, to_json
from forethought.errors import ConfigError, DataError, RunError
from forethought.files import BESIDE, ENDING, TEMPORARY, read_json, refuse_special, sweep, to_the_end
from forethought.folders import LOCK_FILE, alone, replace_folder, writable
from forethought.recommender import Recommender, load
from forethought.reports.model_card import model_card
from forethought.run_files import (
    CARD_FILE,
    CASES_FILE,
    CONFIG_FILE,
    INDEX_FILES,
    ITEMS_FILE,
    LOG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    REWARD_FILE,
    STATE_FOLDER,
    Sums,
    bound_sums,
    check_sums,
)
from forethought.saved_run import FORMAT, check_weights, write_bound
from forethought.settings import Whole, check, check_keys
from forethought.training import state
from forethought.training.tracking import check_log

CHOICE_FILE = "choice.json"  # of `train auto`
STUDIED = ("noise.json", "noise.parquet", "clusters.md", CHOICE_FILE)  # what is left beside a model
TRACKED = ("tensorboard", "wandb")
OURS = {
    *(ITEMS_FILE, MODEL_FILE, CARD_FILE, LOG_FILE, METRICS_FILE, CASES_FILE, STATE_FOLDER),
    *(*INDEX_FILES, *STUDIED, *TRACKED, REWARD_FILE, CONFIG_FILE),
}
REPLACED = (MODEL_FILE, CARD_FILE, LOG_FILE, *INDEX_FILES)
NEW = "train it anew with --overwrite"
VALUES = ("features.", "vectors.", "texts")  # references that are what is known of items, whatever the machine
WHEREABOUTS = "training.split_catalogue:"  # where numbers lie while they train, no part of what they come to


def written(run: Recommender, out: Path, *, device: str) -> Recommender:
    """A run that was made without a training, loaded from the folder that it now has; that appears whole or not at all.

    Args:
        device: where it is loaded.
    """
    with replace_folder(out) as folder:
        run.save(folder)
        (folder / CARD_FILE).write_text(model_card(out.name, to_json(run.config), run.about), encoding="utf-8")
    return load(out, device=device)


def unfinished(run: Recommender) -> str | None:
    """What is said of a run whose training has not ended, and whose figures are not those of its recipe."""
    progress, evidence = run.progress(), run.method.evidence
    if not progress or progress["done"]:
        return None
    silent = evidence is not None and evidence.silent()
    fits = "; the weights of its evidence are not chosen yet, so that it is ranked without any" if silent else ""
    return (
        f"The training of this run has not ended (it stands in epoch {progress['epoch'] + 1}), and what is ranked are "
        f"the best weights so far{fits}: the same command with --resume goes on to the end."
    )


@contextmanager
def begun(run: Recommender, *, resume: bool, overwrite: bool) -> Iterator[Sums]:
    """The folder is the training's own meanwhile, and holds what is known before it: checksums of that.

    Raises:
        RunError: something lies there already, or what is to be resumed is not there or was configured otherwise;
            or another training is at work there.
    """
    assert run.folder is not None
    _check(run, run.folder, resume=resume, overwrite=overwrite)
    with writable(run.folder), alone(run.folder):
        sweep(run.folder)
        if resume:
            state.tidy(run.folder / STATE_FOLDER)
            yield bound_sums(run.folder)
        else:
            _empty(run.folder)
            with _nothing_useless(run.folder):
                yield write_bound(run.folder, run.config, run.items, run.item_table, run.about)


@contextmanager
def _nothing_useless(folder: Path) -> Iterator[None]:
    """Where training ends before there is a state to go on from, all is removed: weights of a first epoch alone would
    be taken for a trained run's."""
    try:
        yield
    except BaseException:
        if not state.exists(folder / STATE_FOLDER):
            to_the_end(lambda: _empty(folder))
            (folder / LOCK_FILE).unlink(missing_ok=True)
        raise


def _empty(folder: Path) -> None:
    """Remove an earlier run; its configuration goes last, so that a kill leaves what can be overwritten again."""
    for path in sorted(_contents(folder), key=lambda path: path.name == CONFIG_FILE):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _check(run: Recommender, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Whether a training may begin there, or go on; nothing is written."""
    if resume and overwrite:
        raise ConfigError(
            "resume goes on with what lies in the folder, overwrite removes it (on the command line --resume and "
            "--overwrite): give one of them."
        )
    if resume:
        _check_resumable(run, folder)
    else:
        check_new(folder, overwrite=overwrite)


def check_new(folder: Path, *, overwrite: bool, resumable: bool = True) -> None:
    """Whether a run may be made there; nothing is written.

    Args:
        resumable: whether whoever asks could go on with what lies there.

    Raises:
        RunError: something lies there that is not to be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, but a run needs a folder.")
    contents = _contents(folder)
    if not contents:
        return
    if not overwrite:
        go_on = "--resume to go on with a stopped run or " if resumable else ""
        raise RunError(
            f"The folder {str(folder)!r} is not empty: choose another, or add {go_on}--overwrite to begin anew."
        )
    if not _is_run(folder):
        raise RunError(f"The folder {str(folder)!r} holds something other than a run, which is not overwritten.")
    foreign = sorted(path.name for path in contents if path.name not in OURS)
    if foreign:
        raise RunError(
            f"The run folder {str(folder)!r} also holds {foreign[0]!r}, which overwriting would lose: move it away, or "
            "choose another folder."
        )


def _is_run(folder: Path) -> bool:
    """Whether its configuration is one of ours, of whatever version, damaged settings included."""
    path = folder / CONFIG_FILE
    try:
        parts = read_json(path, NEW) if path.is_file() else None
    except RunError:
        return b'"forethought"' in path.read_bytes()
    return isinstance(parts, dict) and {"format", "config", "about"} <= parts.keys()


def _contents(folder: Path) -> list[Path]:
    """Of a run; not what a killed process was about to write, and not the lock."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if path.name != LOCK_FILE and not _is_temporary(path)]


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY) and path.suffix in (ENDING, BESIDE)


def _check_replaced(folder: Path) -> None:
    """Refuse a run folder in which a training cannot write, or would write elsewhere, before it changes anything.

    Raises:
        RunError: a folder in it is a link, or a file that is to be replaced is none.
    """
    for name in (STATE_FOLDER, *TRACKED):
        if (folder / name).is_symlink():
            raise RunError(
                f"{folder / name} is a link, and nothing is changed where it leads: put the folder itself there, or "
                f"{NEW}."
            )
    states = [path for path in _contents(folder / STATE_FOLDER) if path.suffix in (".json", ".safetensors")]
    for path in (*(folder / name for name in REPLACED), *states):
        refuse_special(path)


def _check_resumable(run: Recommender, folder: Path) -> None:
    parts = read_json(folder / CONFIG_FILE, "there is nothing to resume here; train without --resume")
    damaged = RunError(f"{folder / CONFIG_FILE} is damaged: copy the run again, or {NEW}.")
    if not isinstance(parts, dict) or not {"config", "about"} <= parts.keys():
        raise damaged
    if parts.get("format") != FORMAT:
        raise RunError(f"{folder / CONFIG_FILE} is not a run of this version (format {FORMAT}): {NEW}.")
    about = check_keys(parts["about"], ABOUT, f"{folder / CONFIG_FILE}: about")
    check(about.get("trained_on", {}), dict, "about.trained_on")
    _check_replaced(folder)
    if not state.exists(folder / STATE_FOLDER):
        raise RunError(f"{folder} has no saved state yet: {NEW}.")
    check_weights(folder)
    _refuse_changes(folder, parts["config"], run.config)
    started = [each.get("references", {}).get("start") for each in (about, run.about)]
    if started[0] != started[1]:
        raise ConfigError(
            f"The run in {folder} began with {'other weights' if started[0] else 'weights of its own'}: resume it with "
            f"{'the same run to start from (--from)' if started[0] else 'no run to start from (--from)'}."
        )
    taught = [each.get("references", {}).get("teacher_run") for each in (about, run.about)]
    if taught[0] != taught[1]:
        raise ConfigError(f"The run in {folder} had a teacher of other weights: resume it with the same one, or {NEW}.")
    met = [each.get("references", {}).get("collaborative_from") for each in (about, run.about)]
    if met[0] != met[1]:
        before = "item vectors of another run: resume it with that" if met[0] else "no run's vectors: resume it without"
        raise ConfigError(f"The tokens of the run in {folder} were made of {before} (--collaborative-from), or {NEW}.")
    judged = [each.get("references", {}).get("feedback") for each in (about, run.about)]
    if judged[0] != judged[1]:
        before = "other feedback: resume it with that" if judged[0] else "no feedback: resume it without"
        raise ConfigError(f"The run in {folder} began with {before}, or align anew with --overwrite.")
    _check_reward(folder, about.get("references", {}), run.about["references"])
    _check_values(folder, about.get("references", {}), run.about["references"])
    if about["data_hash"] != run.about["data_hash"]:
        raise DataError(f"The run in {folder} was trained on other data ({about['data']!r}): resume on that.")
    bound = state.load_bound(folder / STATE_FOLDER)
    check_keys(bound, {"files": dict[str, str], "log": dict}, "bound")
    check_sums(folder, bound["files"], f"copy the run again, or {NEW}")
    check_log(folder, check_keys(bound["log"], {"bytes": Whole, "sha256": str}, "bound.log"))


def _check_reward(folder: Path, before: dict[str, str], now: dict[str, str]) -> None:
    """Whether the reward that was learned, here or on other data, is the one it began with."""
    if before.get("reward_from") != now.get("reward_from"):
        other = "a reward of another run: resume it with the same one (--reward-from)"
        own = "no reward of another run: resume it without (--reward-from)"
        raise ConfigError(f"The run in {folder} began with {other if 'reward_from' in before else own}, or {NEW}.")
    if before.get("reward") != now.get("reward"):
        raise RunError(f"The run in {folder} began with another {REWARD_FILE}: copy the run again, or {NEW}.")


def check_unchanged(folder: Path, config: RunConfig) -> None:
    """Whether the run that lies there was configured so; all else of it is looked at when it goes on.

    Raises:
        ConfigError: it was not.
        RunError: what lies there is no run that can be read.
    """
    parts = read_json(folder / CONFIG_FILE, NEW)
    _refuse_changes(folder, check_keys(parts, {"config": dict}, str(folder / CONFIG_FILE))["config"], config)


def _refuse_changes(folder: Path, recorded: Any, config: RunConfig) -> None:
    before = to_json(from_json(RunConfig, recorded))  # options that are newer than the run are as they were
    changed = [each for each in differences(before, to_json(config)) if not each.startswith(WHEREABOUTS)]
    if changed:
        raise ConfigError(f"The run in {folder} was configured otherwise ({', '.join(changed)}): resume it unchanged.")


def _check_values(folder: Path, before: dict[str, str], now: dict[str, str]) -> None:
    """Whether what is known of items is what it was. Tables of neighbours are left out, whose last bits go with the
    machine: those of the run itself are read again, so that the vectors they were made of are what counts.

    Raises:
        DataError: a file or a column has changed since.
    """
    changed = [key for key in before if key.startswith(VALUES) and key in now and before[key] != now[key]]
    if changed:
        kind, _, name = changed[0].partition(".")
        what = (
            f"the {'feature' if kind == 'features' else 'vectors'} {name!r} of the items" if name else "texts of items"
        )
        raise DataError(
            f"The run in {folder} began with other values of {what}: put back what has changed since, or {NEW}."
        )


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Settings that changed, each as `name: before -> now`; of parts of two types the types alone."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = ["type"] if before.get("type") != now.get("type") else {**before, **now}
        return [d for key in keys for d in differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {before!r} -> {now!r}"]
