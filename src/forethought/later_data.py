"""A run is held against what people did after it was trained.

A run that was extended with new items, or that has served for a month, knows items that the data of its training may
lack. So later interactions are read with the run's own items, and nothing is split anew.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from forethought.data.interactions import Interactions
from forethought.data.later import later_cases
from forethought.data.periods import Targets, bound
from forethought.data.prepare import open_prepared, prepared_folder
from forethought.data.reading import read
from forethought.data.splits import Split
from forethought.data.stored import recorded_columns
from forethought.data.times import iso, moment
from forethought.errors import DataError
from forethought.recommender import Recommender, load
from forethought.settings import check_all
from forethought.untrained import SEEN_UNTIL


def later_split(
    run: Recommender | str | Path, source: Any, since: str | int | float | date, *, targets: Targets = "first"
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
        targets: of each user, find the "first" item since then, the "last" or "all".

    Returns:
        A split with test cases alone; its training part are the histories before that moment.

    Raises:
        DataError: no times, no case, items of another kind than the run's, or a moment before the last interaction
            that the run has seen.
        RunError: there is no such run, or it is damaged.
    """
    check_all(run=(run, Recommender | str | Path), targets=(targets, Targets))
    model = run if isinstance(run, Recommender) else load(run, device="cpu")
    data = _read(model, source)
    begin, seen = bound(data.histories, "since", since), model.about.get(SEEN_UNTIL)
    if seen is not None and begin <= moment(seen, SEEN_UNTIL):
        raise DataError(
            f"The run has seen interactions until {seen}, and since is {iso(begin)}, so that it may have been trained "
            "on what is to be found: choose a later moment."
        )
    return later_cases(data, model.items, model.item_table, begin, targets)


def _read(model: Recommender, source: Any) -> Interactions:
    """The interactions, read as the run's were.

    Raises:
        DataError: their items are of another kind than the run's, or there are no times.
    """
    if (folder := prepared_folder(source)) is not None:
        data = open_prepared(folder).data
    else:
        columns = recorded_columns(model.about)
        data = read(source, **{key: columns[key] for key in ("user", "item", "time", "position") if key in columns})
    data.histories.dated()
    if data.items.kind != model.items.kind:
        raise DataError(
            f"The ids of the items are of kind {data.items.kind}, but those of the run of kind {model.items.kind}: "
            "give them as the run's data has them."
        )
    return data
