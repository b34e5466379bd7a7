"""What tests do to run folders: edit a file and make all checksums fit again, as a hostile author would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forethought.files import checked, verified
from forethought.run_files import CONFIG_FILE, MODEL_FILE, bound_sums
from forethought.tensor_files import CHECKSUM, load_tensors, save_tensors
from forethought.training.tracking import JsonLines


def reseal(folder: Path) -> None:
    """Bind weights and state to the files that lie beside them now."""
    sums = bound_sums(folder)
    if (folder / MODEL_FILE).is_file():
        tensors, about = load_tensors(folder / MODEL_FILE)
        save_tensors(folder / MODEL_FILE, tensors, {n: t for n, t in about.items() if n != CHECKSUM} | sums)
    path = folder / "state" / "state.json"
    if path.is_file():
        lines = JsonLines()
        lines.start(folder, {})
        edit_json(path, lambda parts: parts | {"bound": {"files": sums, "log": lines.mark()}})


def edit_json(path: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a JSON file of ours, its own checksum included where it has one."""
    parts = json.loads(path.read_text(encoding="utf-8"))
    new = edit(verified(parts, path, "") if "sha256" in parts else parts)
    path.write_text(json.dumps(checked(new) if "sha256" in parts else new), encoding="utf-8")


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change `config.json`, and make what was trained with it fit."""
    edit_json(folder / CONFIG_FILE, edit)
    reseal(folder)


def read_checked(path: Path) -> dict[str, Any]:
    """What a JSON file of ours says, its checksum aside."""
    return verified(json.loads(path.read_text(encoding="utf-8")), path, "")
