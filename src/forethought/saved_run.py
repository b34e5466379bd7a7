"""A run as its folder holds it: configuration, items and weights, checked when they are read, bound when written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from safetensors import SafetensorError

from forethought import config as configuration
from forethought import plugins
from forethought.config import RunConfig
from forethought.data.interactions import DataSizes
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.sources import read_parquet
from forethought.data.vocabulary import IdKind, Vocabulary
from forethought.errors import ForethoughtError, RunError
from forethought.files import first_line, read_json, replace_file, short_of_memory, write_json
from forethought.memory import ShortOfMemoryError
from forethought.methods.interface import Method
from forethought.methods.items import check_evidence, know_trained
from forethought.nn.budget import built
from forethought.run_files import (
    CONFIG_FILE,
    ITEMS_FILE,
    MODEL_FILE,
    STATE_FOLDER,
    Sums,
    bound_sums,
    not_a_run,
    read_model,
)
from forethought.settings import check_keys
from forethought.training import state
from forethought.untrained import untrained

FORMAT = 2
MOST_STAGES = 1_000  # of any method
# What broken files make of themselves; a Rust panic of polars is no Exception.
DAMAGED = (
    *(SafetensorError, OSError, KeyError, RuntimeError, TypeError, ValueError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)


class SavedRun(NamedTuple):
    """What a recommender is made of.

    Attributes:
        method: with its weights, in evaluation mode.
        config, items, item_table, about, weights_sum: as `Recommender` has them.
    """

    method: Method
    config: RunConfig
    items: Vocabulary
    item_table: pl.DataFrame
    about: dict[str, Any]
    weights_sum: str


def read_run(folder: Path, device: torch.device, *, mapped: bool, allow_plugins: bool) -> SavedRun:
    """What lies in a run folder, its method on a device.

    Args:
        mapped, allow_plugins: as `recommender.load` has them.

    Raises:
        RunError: the folder is missing, incomplete or damaged, or needs code that is not there or not allowed.
    """
    if not folder.is_dir():
        raise RunError(f"There is no run folder {str(folder)!r}: train one first (forethought train --help).")
    parts = read_json(folder / CONFIG_FILE, not_a_run(folder))
    if not isinstance(parts, dict) or parts.get("format") != FORMAT:
        raise RunError(
            f"{folder / CONFIG_FILE} is not a run of this version (format {FORMAT}, whose files have checksums): train "
            "it anew."
        )
    if not (folder / ITEMS_FILE).is_file():
        raise RunError(f"{folder} has no {ITEMS_FILE}, which it was made with: copy or train it again.")
    if not (folder / MODEL_FILE).is_file():
        check_weights(folder)
        raise RunError(
            f"{folder} has no {MODEL_FILE}: its training has not finished a first epoch; go on with --resume."
        )
    try:
        with plugins.allowing(allow_plugins):
            plugins.check_recorded(parts.get("plugins"), configuration.KINDS)
            run = _read(folder, parts, mapped)
        run.method.to(device)
        return run
    except (RunError, ShortOfMemoryError):
        raise
    except (*DAMAGED, ForethoughtError) as error:
        if short_of_memory(error):
            raise
        said = f"it has no {error}" if isinstance(error, KeyError) else first_line(error).rstrip(".:")
        raise RunError(f"The run folder {folder} is damaged ({said}): copy or train it again.") from error


def check_weights(folder: Path) -> None:
    """Refuse a run whose training found weights that are no longer there: to go on does not bring them back."""
    if (folder / MODEL_FILE).exists() or not state.exists(folder / STATE_FOLDER):
        return
    if state.load_progress(folder / STATE_FOLDER, MOST_STAGES).best_epoch >= 0:
        raise RunError(
            f"{folder} has no {MODEL_FILE}, though its training has found weights: copy the run again, or train it "
            "anew with --overwrite."
        )


def _read(folder: Path, parts: dict[str, Any], mapped: bool) -> SavedRun:
    weights, contents = read_model(folder)  # and with it that the other files are those it was trained with
    config = configuration.from_json(RunConfig, parts["config"])
    kind: IdKind = parts["id_kind"]
    about = check_keys(parts["about"], configuration.ABOUT, "about")
    table = read_parquet(folder / ITEMS_FILE)
    items = Vocabulary.from_series(table["item_id"], kind)
    method = built(lambda: untrained(config, about, DataSizes(len(items), about["users"])))
    # What is as large as all pairs is not held twice.
    method.load_state_dict(weights, assign=mapped or not method.stages())
    if TRAIN_COUNT in table.columns:
        know_trained(method, table[TRAIN_COUNT].cast(pl.Int64).to_torch())
    if not all(tensor.isfinite().all() for tensor in method.state_dict().values()):
        raise ValueError("its weights hold NaN or infinity")
    check_evidence(method)
    return SavedRun(method.eval(), config, items, table, about, contents)


def write_bound(
    folder: Path, config: RunConfig, items: Vocabulary, item_table: pl.DataFrame, about: dict[str, Any]
) -> Sums:
    """Write what is known before training, `config.json` and `items.parquet`; their checksums bind what comes later."""
    _write_about(folder, config, items.kind, about)
    _write_items(folder, items, item_table)
    return bound_sums(folder)


def _write_about(folder: Path, config: RunConfig, id_kind: IdKind, about: dict[str, Any]) -> None:
    """`config.json`: the configuration, and what the run was trained on."""
    from forethought.version import __version__

    parts = {"format": FORMAT, "forethought": __version__, "config": configuration.to_json(config)}
    own = plugins.recorded_of(parts["config"], about.get("members", []))
    write_json(folder / CONFIG_FILE, {**parts, **({"plugins": own} if own else {}), "id_kind": id_kind, "about": about})


def _write_items(folder: Path, items: Vocabulary, item_table: pl.DataFrame) -> None:
    """`items.parquet`: the vocabulary, row i being item i, with all that is known of the items."""
    table = item_table.with_columns(items.ids.alias("item_id"))
    replace_file(folder / ITEMS_FILE, table.write_parquet)
