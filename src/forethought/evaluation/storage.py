"""An evaluation on disk: `metrics.json` for readers, `per_user.parquet` with every case. Each is whole or absent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forethought.errors import RunError
from forethought.files import first_line, replace_file, write_json

METRICS_FILE, CASES_FILE = "metrics.json", "per_user.parquet"


def write(folder: Path, parts: dict[str, Any], cases: pl.DataFrame) -> None:
    """Write both files, the metrics last.

    Raises:
        RunError: the folder cannot be written (no permission, disk full).
    """
    replace_file(folder / CASES_FILE, cases.write_parquet)
    write_json(folder / METRICS_FILE, parts)


def read(folder: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Both files as they are; whether they fit each other is for the caller to see.

    Raises:
        RunError: a file is missing or damaged.
    """
    parts = _read(folder / METRICS_FILE, "JSON", lambda path: json.loads(path.read_text(encoding="utf-8")))
    return parts, _read(folder / CASES_FILE, "Parquet", pl.read_parquet)


def plain(value: Any) -> Any:
    """The same as JSON has it: numpy scalars unwrapped, tuples as lists, null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path, kind: str, load: Callable[[Path], Any]) -> Any:
    try:
        return load(path)
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} has no {path.name}: evaluate the run first.") from error
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} is not readable {kind} ({first_line(error)}): evaluate the run again.") from error
