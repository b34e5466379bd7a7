"""An evaluation on disk: `metrics.json` for readers, `per_user.parquet` with every case. Each is whole or absent."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forethought.data.sources import read_parquet
from forethought.errors import RunError
from forethought.files import checked, first_line, read_json, replace_file, sha256_of, verified, write_json
from forethought.run_files import CASES_FILE, CONFIG_FILE, METRICS_FILE, MODEL_FILE
from forethought.settings import Number, Seed, Share, Whole, check, check_keys
from forethought.tensor_files import stated_checksum

MEND = "evaluate the run again"
PROTOCOL = {
    **dict.fromkeys(("n_cases", "n_items"), Whole),
    **dict.fromkeys(("data", "data_hash", "split", "part", "candidates"), str),
    "history_excluded": bool,
}
NOISE = {"kind": str, "share": Share, "seed": Seed, "seeds": Whole}
HALTING = {"rule": str, "threshold": Number, "max_steps": Whole}
"""What is read of an evaluation by those who compare and show it: keys, and what they hold."""


def write(folder: Path, parts: dict[str, Any], cases: pl.DataFrame) -> None:
    """Write both files, the metrics last, with the checksum of the cases in them and of all that they say.

    Raises:
        RunError: the folder cannot be written (no permission, disk full), or holds a `metrics.json` of others.
    """
    if (folder / METRICS_FILE).exists() and not _is_ours(folder / METRICS_FILE):
        raise RunError(f"{folder / METRICS_FILE} is there already and is no evaluation: choose another folder.")
    replace_file(folder / CASES_FILE, cases.write_parquet)
    write_json(folder / METRICS_FILE, checked({**parts, "cases_sha256": sha256_of(folder / CASES_FILE)}))


def read(folder: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """What both files hold, once they fit their checksums.

    Raises:
        RunError: a file is missing or damaged, they were not written together, or they are of other weights than lie
            beside them.
    """
    metrics, cases = folder / METRICS_FILE, folder / CASES_FILE
    if not metrics.exists():
        raise RunError(never_evaluated(folder))
    parts = verified(read_json(metrics, MEND), metrics, MEND)
    try:
        if sha256_of(cases) != parts.pop("cases_sha256", None):
            raise RunError(f"{cases} is damaged, or from another evaluation than {METRICS_FILE}: {MEND}.")
        _check_weights(folder, parts.get("weights"))
        return parts, read_parquet(cases)
    except FileNotFoundError as error:
        raise RunError(f"{folder} has no {CASES_FILE}: {MEND}.") from error
    except OSError as error:
        raise RunError(f"{cases} is damaged ({first_line(error)}): {MEND}.") from error
    except (ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise RunError(f"{cases} is not readable Parquet ({first_line(error)}): {MEND}.") from error


def never_evaluated(folder: Path) -> str:
    """What to say where there are no metrics; a run with items that its data lacks never has any."""
    try:
        extended = read_json(folder / CONFIG_FILE, MEND)["about"].get("extended")
    except (RunError, KeyError, AttributeError, TypeError, OSError):
        extended = None
    if extended:
        return (
            f"{folder} has no {METRICS_FILE}, for it was extended by items that its data does not have: take the run "
            "that it was extended from, or the folder of an evaluation on what came later."
        )
    return f"{folder} has no {METRICS_FILE}: evaluate the run first."


def _check_weights(folder: Path, ranked_with: object) -> None:
    """Numbers of weights that are gone are not passed off for those of the weights beside them."""
    from safetensors import SafetensorError

    if not isinstance(ranked_with, str) or not os.path.lexists(folder / MODEL_FILE):
        return
    try:
        now = stated_checksum(folder / MODEL_FILE)
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"The run folder {folder} is damaged ({MODEL_FILE} cannot be read: {first_line(error)}): copy or train it "
            "again."
        ) from error
    if now != ranked_with:
        raise RunError(
            f"{folder / METRICS_FILE} is of other weights ({ranked_with[:12]}) than lie beside it ({now[:12]}), which "
            f"were trained since: {MEND}."
        )


def check_parts(parts: Mapping[str, Any], cases: pl.DataFrame) -> None:
    """Refuse parts and cases whose types nobody could compare or show.

    Raises:
        KeyError, ConfigError, PolarsError, TypeError: one of them is missing or of another type.
    """
    protocol = check_keys(parts["protocol"], PROTOCOL, "protocol")
    if protocol["candidates"] == "sampled":
        check_keys(protocol, {"negatives": Whole, "negatives_by": str}, "protocol")
    if protocol.get("noise") is not None:
        check_keys(protocol["noise"], NOISE, "protocol.noise")
    if parts.get("halting") is not None:
        check_keys(parts["halting"], HALTING, "halting")
    check(parts["cost"], dict, "cost")
    check(parts.get("weights"), str | None, "weights")
    for name in ("user_id", "target_id"):
        if cases[name].dtype.is_nested() or cases[name].dtype.is_float():
            raise TypeError(f"{name} is no column of ids")
    for name in ("case", "rank", *parts["metrics"]):
        if not cases[name].dtype.is_numeric():
            raise TypeError(f"{name} is no column of numbers")


def halting(parts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How a stored evaluation halted; that nothing was noisy was once said, and goes without saying."""
    return None if parts is None else {key: value for key, value in parts.items() if key != "noise" or value}


def plain(value: Any) -> Any:
    """The same as JSON has it: numpy scalars unwrapped, tuples as lists, null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_ours(path: Path) -> bool:
    try:
        parts = read_json(path, MEND)
    except RunError:
        return True  # damaged, and to be replaced
    return isinstance(parts, Mapping) and {"protocol", "metrics"} <= parts.keys()
