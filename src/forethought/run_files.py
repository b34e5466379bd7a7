"""The files of a run folder: their names, and the checksums that bind them to each other.

`config.json` and `items.parquet` are written once, before training. Whatever is made with them names their checksums:
the weights in `model.safetensors`, the state in `state/state.json`, which names those of its tensors and of the log as
well. `metrics.json` names those of its cases and of the weights they were ranked with, an index that of the weights it
was built from. Each file that names
others is written whole and after them, so that a kill at any moment leaves files that fit each other. The model card is
for people, who may write in it, and nothing reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import RunError
from forethought.files import first_line, sha256_of

if TYPE_CHECKING:  # comparisons read this module and do without torch
    from torch import Tensor

CONFIG_FILE, ITEMS_FILE, MODEL_FILE = "config.json", "items.parquet", "model.safetensors"
CARD_FILE, LOG_FILE, METRICS_FILE, CASES_FILE = "README.md", "log.jsonl", "metrics.json", "per_user.parquet"
REWARD_FILE = "reward.safetensors"  # of a run that was aligned with a learned one
STATE_FOLDER, INDEX_FILES = "state", ("annindex.bin", "annindex.json")
BOUND = (CONFIG_FILE, ITEMS_FILE)
MEND = "copy or train it again"

SHOWN = 3  # runs of a folder of runs


Sums = dict[str, str]
"""Checksums by the name of the file."""


def not_a_run(folder: Path) -> str:
    """How to mend that a folder is no run: it may hold several, as a grid of trainings does."""
    within = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))[:SHOWN] if folder.is_dir() else []
    runs = f"name one of the runs in it, such as {', '.join(map(str, within))}"
    return runs if within else "give a folder that forethought train has written"


def bound_sums(folder: Path) -> Sums:
    """The checksums of what is written before training.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    return {name: sha256_of(folder / name) for name in BOUND}


def check_sums(folder: Path, expected: Mapping[str, str], mend: str = MEND) -> None:
    """Whether the files written before training are still those that others were made with.

    Raises:
        RunError: one is not, or is gone.
    """
    for name in BOUND:
        try:
            fits = sha256_of(folder / name) == expected.get(name)
        except FileNotFoundError as error:
            raise RunError(f"{folder} has no {name}, which it was made with: {mend}.") from error
        except OSError as error:
            raise RunError(f"The run folder {folder} is damaged ({first_line(error)}): {mend}.") from error
        if not fits:
            raise RunError(
                f"The run folder {folder} is damaged ({name} is not the one that its weights were trained with): "
                f"{mend}."
            )


def write_model(folder: Path, tensors: Mapping[str, Tensor], sums: Sums) -> str:
    """`model.safetensors`, bound to the files of these sums; its checksum. An index of other weights goes."""
    from forethought.tensor_files import save_tensors

    for name in INDEX_FILES:
        (folder / name).unlink(missing_ok=True)
    return save_tensors(folder / MODEL_FILE, tensors, sums)


def read_model(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The weights and their checksum, once they fit it and the files beside them.

    Raises:
        RunError: a file beside them is missing or another one.
        SafetensorError, OSError: the weights are damaged or missing.
    """
    from forethought.tensor_files import CHECKSUM, load_tensors

    tensors, about = load_tensors(folder / MODEL_FILE)
    check_sums(folder, about)
    return tensors, about[CHECKSUM]
