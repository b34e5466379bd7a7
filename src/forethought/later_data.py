"""A run is held against what people did after it was trained.

A run that was extended with new items, or that has served for a month, knows items that the data of its training may
lack. So later interactions are read with the run's own items, and nothing is split anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.columns import AUTO
from forethought.data.interactions import Interactions
from forethought.data.later import later_cases
from forethought.data.leakage import met_before
from forethought.data.periods import Targets, bound
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.prepare import open_prepared, prepared_folder
from forethought.data.reading import read
from forethought.data.splits import Split
from forethought.data.stored import recorded_columns
from forethought.data.times import iso
from forethought.errors import ConfigError, DataError
from forethought.recommender import Recommender, load
from forethought.references import check_unseen
from forethought.settings import check, check_all
from forethought.untrained import SEEN_UNTIL

ROLES = ("user", "item", "time", "position")


def later_split(
    run: Recommender | str | Path,
    source: Any,
    since: str | int | float | date,
    *,
    targets: Targets = "first",
    columns: Mapping[str, str | None] | None = None,
) -> Split:
    """What happened from a moment on, as test cases for a run: `evaluate` takes it in the place of the run's own split.

    The history of a case is all that its user did strictly before the target's second, before that moment or after it.
    Interactions with items that the run does not know are left out, and counted in the protocol; `extend` adds items.
    Users need not be those of the training: a run that keeps vectors of users reads all as unknown.

    Args:
        run: a recommender or a run folder, extended or not.
        source: whatever `read` takes, histories included, with times and the columns that the run was trained on.
        since: where the cases begin: an ISO date, a date or datetime (UTC where no zone is said), Unix seconds, or a
            share between 0 and 1 of all interactions in order of time.
        targets: of each user, find the "first" item since then, the "last" or "all"; those without a history are left
            out, and counted in the protocol.
        columns: what `user`, `item`, `time` and `position` are called, where not as in the data of the training.

    Returns:
        A split with test cases alone; its training part are the histories before that moment, and `met` is how often
        the run's own training met each item.

    Raises:
        DataError: no times, no case, items of another kind than the run's, or a moment before the last interaction
            that the run has seen.
        RunError: there is no such run, or it is damaged.
    """
    check_all(run=(run, Recommender | str | Path), targets=(targets, Targets))
    check(columns, Mapping | None, "columns")
    model = run if isinstance(run, Recommender) else load(run, device="cpu")
    data = _read(model, source, columns or {})
    begin = bound(data.histories, "since", since)
    check_unseen(model, iso(begin))
    split = later_cases(data, model.items, model.item_table, begin, targets)
    return replace(split, met=model.item_table[TRAIN_COUNT].cast(pl.Int64).to_numpy())


def remarks(model: Recommender, split: Split, *, exclude_history: bool) -> list[str]:
    """What is to be known of later cases before their numbers, a sentence each."""
    told, said = split.protocol["test"], []
    if model.about.get(SEEN_UNTIL) is None:
        said.append(
            "The run does not say until when it has seen interactions (it was trained without times, or by an older "
            "version), so that this was not checked: choose a moment after its training."
        )
    if told["unknown_items"]:
        said.append(
            f"{told['unknown_items']:,} interactions since then are with items that the run does not know, and are "
            "left out: forethought extend adds them."
        )
    if told["without_history"]:
        said.append(f"{told['without_history']:,} targets have no history before them, and are left out.")
    if exclude_history and (met := int(met_before(split.test, split.data.n_items).sum())):
        said.append(
            f"{met:,} of {len(split.test):,} targets stand in their own history, which is no candidate here, so that "
            "nothing can find them: --exclude-history no lets it."
        )
    return said


def _read(model: Recommender, source: Any, asked: Mapping[str, str | None]) -> Interactions:
    """The interactions, read as the run's were.

    Raises:
        DataError: their items are of another kind than the run's, or there are no times.
    """
    if unknown := [name for name in asked if name not in ROLES]:
        raise ConfigError(f"columns may name {', '.join(ROLES)}, but not {unknown[0]!r}: leave it out.")
    if not asked and (folder := prepared_folder(source)) is not None:
        data = open_prepared(folder).data
    else:
        recorded = {role: name for role, name in recorded_columns(model.about).items() if role in ROLES}
        if recorded.get("time", AUTO) is None:  # of the training; this data has times, or is of no use
            del recorded["time"]
        data = read(source, **{**recorded, **asked})
    data.histories.dated()
    if data.items.kind != model.items.kind:
        raise DataError(
            f"The ids of the items are of kind {data.items.kind}, but those of the run of kind {model.items.kind}: "
            "give them as the run's data has them."
        )
    return data
