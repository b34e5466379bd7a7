"""Runs are published and fetched: a Hugging Face hub repository, or a folder that stands for one.

What is published is what `load` needs, the log, the figures and the model card; the state of the training and the ranks
of single users stay at home. What is fetched is copied by name and loaded, checksums and all, before it gets its place.
No file of a run is code, and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forethought.config import to_json
from forethought.errors import ConfigError, ForethoughtError, MissingExtraError, RunError
from forethought.files import first_line, read_json
from forethought.folders import check_own, replace_folder
from forethought.recommender import Recommender, load
from forethought.reports.model_card import BARE, model_card
from forethought.run_files import CARD_FILE, CONFIG_FILE, ITEMS_FILE, LOG_FILE, METRICS_FILE, MODEL_FILE, REWARD_FILE
from forethought.saved_run import FORMAT
from forethought.settings import check_all

NEEDED = (CONFIG_FILE, ITEMS_FILE, MODEL_FILE)
PUBLISHED = (*NEEDED, CARD_FILE, LOG_FILE, METRICS_FILE, REWARD_FILE)
HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
FRONT = re.compile(r"\A---\n.*?^---\n+", re.M | re.S)


def push(run: str | Path, target: str | Path, *, private: bool = False, overwrite: bool = False) -> str:
    """Publish a run; where it lies now.

    Args:
        target: `hf://OWNER/NAME`, which is made if it is not there, or a folder.
        private: a repository that is made is not shown to others.
        overwrite: replace an earlier run in the folder; on the hub a push is one more revision in any case.

    Raises:
        RunError: there is no such run, it is damaged, or the hub refuses it.
        DataError: the folder is in use.
        ConfigError: the target is no name of a repository.
        MissingExtraError: huggingface_hub is not installed.
    """
    check_all(target=(target, str | Path), private=(private, bool), overwrite=(overwrite, bool))
    folder, (repository, revision) = Path(run), _hub_name(target)
    model = load(folder, device="cpu")  # what is damaged is not passed on
    if repository is None:
        _check_out(Path(target), overwrite=overwrite)
        with replace_folder(Path(target), overwrite=overwrite) as out:
            _copy(folder, out, model)
        return str(target)
    if revision is not None:
        raise ConfigError(f"A push makes a revision of its own: leave {'@' + revision!r} out.")
    with tempfile.TemporaryDirectory() as place:
        _copy(folder, Path(place), model)
        with _asking(repository):
            client = hub().HfApi()
            client.create_repo(repository, private=private, exist_ok=True)
            client.upload_folder(repo_id=repository, folder_path=place, commit_message="Push a run of Forethought")
    return f"hf://{repository}"


def pull(source: str | Path, out: str | Path, *, overwrite: bool = False) -> Recommender:
    """Fetch a run into a folder of its own, checked as `load` checks any.

    Args:
        source: `hf://OWNER/NAME`, perhaps with `@REVISION`, or a folder.
        overwrite: replace an earlier run.

    Raises:
        RunError: there is none, or it is damaged; then nothing is written.
        DataError: the folder is in use.
        ConfigError: the source is no name of a repository.
        MissingExtraError: huggingface_hub is not installed.
    """
    check_all(source=(source, str | Path), out=(out, str | Path), overwrite=(overwrite, bool))
    (repository, revision), out = _hub_name(source), Path(out)
    _check_out(out, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(source)
        if repository is not None:
            folder = Path(place)
            with _asking(repository):
                hub().snapshot_download(
                    repository, revision=revision, allow_patterns=list(PUBLISHED), local_dir=str(folder)
                )
        if not folder.is_dir():
            raise RunError(f"There is no run folder {str(source)!r}: give a folder, or hf://OWNER/NAME.")
        with replace_folder(out, overwrite=overwrite) as new:
            _copy(folder, new)
            load(new, device="cpu")
    return load(out, device="cpu")


def _hub_name(place: str | Path) -> tuple[str | None, str | None]:
    """Repository and revision of an address of the hub; None of a path."""
    text = str(place)
    if not text.startswith(("hf:", "http:", "https:")):
        return None, None
    parts = HUB.fullmatch(text)
    if parts is None:
        raise ConfigError(f"{text!r} names no repository: give hf://OWNER/NAME, or a folder.")
    return parts["name"], parts["revision"]


def _copy(source: Path, out: Path, model: Recommender | None = None) -> None:
    """The files of a run by name; with a model, its card has the metadata that a hub reads.

    Raises:
        RunError: a file is missing, or is no ordinary one.
    """
    for name in PUBLISHED:
        path = source / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise RunError(f"{path} is no ordinary file, and a run has no other ones: copy or train it again.")
        if path.is_file():
            shutil.copyfile(path, out / name)
        elif name in NEEDED:
            raise RunError(f"{source} has no {name}, so it is no run: copy or train it again.")
    if model is not None:
        path = source / CARD_FILE
        text = path.read_text(encoding="utf-8") if path.is_file() else _card(source, model)
        (out / CARD_FILE).write_text(_front(model) + FRONT.sub("", text), encoding="utf-8")


def _card(source: Path, model: Recommender) -> str:
    return model_card(source.resolve().name, to_json(model.config), model.about)


def _front(model: Recommender) -> str:
    """The card's metadata in YAML, whose strings are JSON's."""
    method = to_json(model.config)["method"]
    backbone = method["backbone"]["type"] if "backbone" in method else None
    kinds = [backbone] if method["type"] in BARE else [method["type"], backbone]
    tags = ["recommender-systems", "sequential-recommendation", *(kind for kind in kinds if kind)]
    lines = ["library_name: forethought", "tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    return "\n".join(["---", *lines, "---", "", ""])


def _check_out(out: Path, *, overwrite: bool) -> None:
    check_own(out, PUBLISHED, _is_run, "a pushed or pulled run", overwrite=overwrite)


def _is_run(folder: Path) -> bool:
    try:
        parts = read_json(folder / CONFIG_FILE, "")
    except RunError:
        return False
    return isinstance(parts, dict) and parts.get("format") == FORMAT


def hub() -> Any:
    """The hub's own package: the one place where it is asked for.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub", "An address that begins with hf://") from error
    return huggingface_hub


@contextmanager
def _asking(repository: str) -> Iterator[None]:
    """What the hub or the network refuses, in a sentence."""
    try:
        yield
    except (ForethoughtError, KeyboardInterrupt):
        raise
    except Exception as error:  # of requests, of the hub, of the system
        raise RunError(
            f"The hub did not answer as hoped for {repository!r} ({first_line(error).rstrip('.')}): look at the name, "
            "at your token (hf auth login) and at the network."
        ) from error
