"""A training that begins with the weights of a run, so that new interactions are learned without beginning anew.

Items are matched by their ids. Those that are new begin as untrained ones do. Features are read as the run's were, with
its means and its tags, because that is what its weights mean. Items that a method knows as tokens keep the run's, and
new ones are tokenised by what made them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forethought.alignment.kinds import policy_of
from forethought.alignment.settings import Alignment
from forethought.config import RunConfig, to_json
from forethought.data.features import FeatureScale, feature_scale
from forethought.data.splits import Split
from forethought.data.vocabulary import UNKNOWN
from forethought.errors import ConfigError, DataError, RunError, some
from forethought.evaluation.thresholds import fit_threshold, never
from forethought.methods.interface import Method
from forethought.methods.items import hold_back
from forethought.methods.take_over import take_over
from forethought.reasoning.halting_head import HaltingHead
from forethought.recommender import Recommender, load
from forethought.references import DIVIDES
from forethought.run_folder import differences

ANEW = "method.halting"  # is no part of the weights
MEND = "give what the run was trained with, or train without its weights"


def start_from(folder: str | Path, out: Path, config: RunConfig, split: Split) -> Recommender:
    """The run whose weights a training in another folder may begin with.

    Raises:
        RunError: there is no such run, or it is damaged.
        ConfigError: it lies where the training is to be, or its method, features or evidence are configured otherwise.
        DataError: it knows items that the data lacks, or ids of another kind.
    """
    if Path(folder).is_dir() and out.is_dir() and os.path.samefile(folder, out):
        raise ConfigError(
            f"The run in {str(folder)!r} would be overwritten by what begins with it: choose another out."
        )
    run = load(folder, device="cpu")
    other = differences(to_json(run.config.method), to_json(config.method), "method")
    other = [key for key in other if not key.startswith(ANEW)]
    for name in ("features", "evidence"):
        parts = (getattr(each, name) for each in (run.config, config))
        theirs, mine = (None if part is None else to_json(part) for part in parts)
        other += differences(theirs, mine, name)
    if other:
        raise ConfigError(f"The run in {str(folder)!r} is configured otherwise ({', '.join(other)}): {MEND}.")
    if config.alignment is not None and not np.array_equal(run.items.ids, split.data.items.ids):
        what = "knows other items than the data: align it on what it was trained on"
        if run.about.get("extended"):
            what = "was extended by items that the data does not have: align the run that it was extended from"
        raise DataError(f"The run in {str(folder)!r} {what}.")
    scales_of(run)
    items = split.data.items
    if run.items.kind != items.kind:
        raise DataError(
            f"The ids of the items in {str(folder)!r} are of kind {run.items.kind}, but those of the data of kind "
            f"{items.kind}: read the data as the run's was read."
        )
    gone = np.flatnonzero(items.index_of(run.items.ids) == UNKNOWN)
    if len(gone):
        raise DataError(
            f"The run in {str(folder)!r} knows items that the data lacks "
            f"({some(run.items.id_list(gone), 3)}): give data that holds the run's, with what came later."
        )
    return run


def scales_of(run: Recommender) -> dict[str, FeatureScale]:
    """What its features were made with, by their names.

    Raises:
        RunError: it does not say.
    """
    shapes = run.about.get("features", [])
    if any("scale" not in each for each in shapes):
        where = "" if run.folder is None else f" in {str(run.folder)!r}"
        raise RunError(
            f"The run{where} does not say what its features were made with, as it is of before: train it anew."
        )
    return {each["name"]: feature_scale(each["scale"]) for each in shapes}


def begin_with(method: Method, run: Recommender, split: Split, alignment: Alignment | None = None) -> dict[str, Any]:
    """Give an untrained method the weights of the run.

    Args:
        alignment: it is aligned, and has all that belongs to its training, such as prototypes; for the same items.

    Returns:
        What the run folder tells of its beginning: `noted`, and `delta` where its halting begins at another threshold.
    """
    if alignment is not None:
        delta = _begins_at(run, split, alignment)
        method.load_state_dict(run.method.state_dict())
        _stop_alike(method, run.method, None if delta == never("arh") else delta)
        return noted(run, split) | ({} if delta is None else {"delta": delta})
    rows = split.data.items.index_of(run.items.ids).copy()
    take_over(method, run.method, torch.from_numpy(rows), trains=True)
    hold_back(method, 0.0)
    if method.evidence is not None and not method.evidence.trained:
        torch.nn.init.zeros_(method.evidence.weights_E)  # until they are fitted anew
    return noted(run, split)


def _begins_at(run: Recommender, split: Split, alignment: Alignment) -> float | None:
    """The threshold at which halting is said to have stopped: as given, or as the validation part chooses it."""
    if alignment.delta_within is None:
        return alignment.delta
    policy_of(run.method, alignment)  # refuses what does not halt
    assert run.method.reasoning is not None
    found = fit_threshold(
        run.method,
        split.valid,
        exclude_history=run.about["exclude_history"],
        halting=replace(run.method.reasoning.halting, rule="arh"),
        tolerance=alignment.delta_within,
    )
    return found.halting.threshold


def begins_at(about: Mapping[str, Any], alignment: Alignment | None) -> str | None:
    """A sentence on the threshold that was chosen for it."""
    if alignment is None or alignment.delta_within is None:
        return None
    delta, within = about["started_from"]["delta"], f"{alignment.delta_within:.1%}"
    if delta == never("arh"):
        return f"No threshold keeps NDCG@10 within {within} on the validation part: it begins where the run stops."
    return (
        f"It begins as if the run stopped at the threshold {delta:.4g}, where the validation part takes the fewest "
        f"steps and keeps NDCG@10 within {within} of all steps'."
    )


def _stop_alike(method: Method, start: Method, delta: float | None) -> None:
    """Where a halting net is held against another threshold than before, rows stop where they did, or would at delta.

    At 0 or less everybody stopped, at 1 or more nobody: no move of the net says so at another threshold.
    """
    now, before = (getattr(getattr(each, "config", None), "halting", None) for each in (method, start))
    if now is None or before is None:
        return
    threshold = before.threshold if delta is None else delta
    if not 0 < threshold < 1:
        return
    for part in method.modules():
        if isinstance(part, HaltingHead):
            part.rebase(threshold, now.threshold)


def noted(run: Recommender, split: Split) -> dict[str, Any]:
    """What a run folder tells of the run that it began with.

    `may_have_seen`: whether that was trained on other data or another split, and hence perhaps on what is tested here.
    `data` and `data_hash` are of the training that is in doubt: the run's own, or one before it.
    """
    protocol = run.about["protocol"]
    other = run.about["data_hash"] != split.data.data_hash or any(
        protocol.get(key) != split.protocol.get(key) for key in DIVIDES
    )
    before = run.about.get("started_from") or {}
    doubted = bool(before.get("may_have_seen"))
    source = before if doubted and not other else trained_on(run)[0]
    return origin(run, source, may_have_seen=bool(other or doubted))


def trained_on(run: Recommender) -> list[dict[str, Any]]:
    """`data` and `data_hash` of each data set that a run's weights were trained on, the last one first."""
    before = run.about.get("started_from") or {}
    parts = [] if run.about.get("transferred") else [run.about]
    parts += [before] if before else []
    parts += before.get("earlier", [])
    named = {part.get("data_hash"): {key: part.get(key) for key in ("data", "data_hash")} for part in parts}
    return list(named.values())


def origin(run: Recommender, source: Mapping[str, Any], *, may_have_seen: bool) -> dict[str, Any]:
    """A run as what another began with; `earlier` are the other data sets that its weights were trained on, if any."""
    made = {"weights": run.weights_sum, "data": source["data"], "data_hash": source["data_hash"]}
    earlier = [each for each in trained_on(run) if each["data_hash"] != source["data_hash"]]
    return made | {"may_have_seen": may_have_seen} | ({"earlier": earlier} if earlier else {})
