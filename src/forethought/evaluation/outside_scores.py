"""Scores of a model from elsewhere, ranked as ours are: a table of user, item and score becomes an evaluation.

Items that the table lists for a case stand before all others in the order of their scores. Those that it does not list
are equal to each other and come last, so that a target among them has their middle rank: leaving items out gains
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from forethought.data.histories import Cases
from forethought.data.sources import describe, open_table, readable
from forethought.data.splits import Split
from forethought.data.vocabulary import UNKNOWN
from forethought.errors import ConfigError, DataError, nearest
from forethought.evaluation import protocol as protocols
from forethought.evaluation.own_groups import own_groups
from forethought.evaluation.ranking import Ranked
from forethought.evaluation.report import Evaluation, summarise
from forethought.evaluation.settings import EvaluationConfig
from forethought.settings import check

LIST_LENGTH = 20
VALUES = ("score", "rank")


@dataclass(frozen=True)
class _Listed:
    """What the table lists, in order of users (and cases, where it says which) and falling scores.

    Attributes:
        owners: int64 [R], the user row, or the case where the table says which.
        items: int64 [R].
        scores: float64 [R], more is better.
        by_case: whether `owners` are cases.
        passed_over: rows of users or items that are not known.
    """

    owners: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    by_case: bool
    passed_over: int


def evaluate_scores(
    source: Any,
    split: Split,
    config: EvaluationConfig | None = None,
    *,
    user: str = "user_id",
    item: str = "item_id",
    score: str | None = None,
    users: Any = None,
) -> Evaluation:
    """Rank every case of a part of the split by scores that another program has given.

    Args:
        source: a table with a row for each scored pair, whatever `open_table` opens: user, item, and `score` (more is
            better) or `rank` (1 is best). A column `case` (0, 1, .. within the user, as in `per_user.parquet`) says
            which case a row is for, where users have several; without it a row is for all of its user's cases.
        split: what was held out; scores must not have been fitted to it, which nobody can check here.
        config: part, history, cut-offs, metrics and groups; neither halting, noise, a sample nor unknown users.
        user, item, score: names of columns; None: `score` or, where there is none, `rank`.
        users: as in `ft.evaluate`.

    Raises:
        ConfigError: the configuration asks for what scores alone cannot answer.
        DataError: missing columns, scores that are no numbers, a pair listed twice, or no row for any case.
    """
    config = EvaluationConfig() if config is None else config
    check(config, EvaluationConfig, "config")
    for name in ("halting", "noise", "sample", "unknown_users"):
        if getattr(config, name) not in (None, False):
            raise ConfigError(f"Scores of another program know no {name}: leave it out.")
    cases = split.test if config.part == "test" else split.valid
    excluded = protocols.excludes_history(split.data) if config.exclude_history is None else config.exclude_history
    groups = own_groups(config.groups_by, cases, split, users)
    listed = _listed(source, split, cases, user, item, score)
    k = min(max(LIST_LENGTH, *config.cutoffs), split.data.n_items)
    ranked, without = _ranked(listed, cases, split.data.n_items, k, excluded=excluded)
    if without == len(cases):
        raise DataError(
            f"{describe(source)} has no row for any of the {len(cases):,} cases: give the ids of the data, and scores "
            f"of users of the {config.part} part."
        )
    said = f"{open_table(source).name or describe(source)}, {without / len(cases):.1%} of the cases without a row"
    both = score is None and {*VALUES} <= {*open_table(source).frame.collect_schema().names()}
    by = ", by its column score and not by rank" if both else ""
    passed = f", {listed.passed_over:,} rows of unknown users or items passed over" if listed.passed_over else ""
    evaluation = summarise(
        ranked,
        cases,
        split,
        window=None,
        history_excluded=excluded,
        part=config.part,
        extras={"scores": said + by + passed},
        cuts=config.cutoffs,
        own=config.metrics,
        groups_by=groups,
        resamples=config.resamples,
        seed=config.seed,
    )
    return replace(evaluation, cost={"cases_without_row": without / len(cases)})  # what they cost nobody knows


def _listed(source: Any, split: Split, cases: Cases, user: str, item: str, score: str | None) -> _Listed:
    with readable(source):
        frame = open_table(source).frame.collect()
    value = score or next((name for name in VALUES if name in frame.columns), VALUES[0])
    for role, name in (("user", user), ("item", item), ("score", value)):
        if name not in frame.columns:
            raise DataError(
                f"{describe(source)} has no {role} column {name!r}, but {', '.join(frame.columns)}: say which it is."
                f"{nearest(name, frame.columns)}"
            )
    if not frame[value].dtype.is_numeric():
        raise DataError(
            f"The column {value!r} of {describe(source)} holds {frame[value].dtype}, and scores are numbers."
        )
    scores = frame[value].cast(pl.Float64).to_numpy() * (-1 if value == "rank" else 1)
    if not np.isfinite(scores).all():
        raise DataError(f"The column {value!r} of {describe(source)} is empty or no number in some rows: drop those.")
    owners = split.data.users.index_of(frame[user])
    items = split.data.items.index_of(frame[item])
    by_case = "case" in frame.columns
    if by_case:
        owners = _case_rows(frame["case"], owners, cases, source)
    known = (owners != UNKNOWN) & (items != UNKNOWN)
    rows = pl.DataFrame({"owner": owners, "item": items, "score": scores}).filter(pl.Series(known))
    if rows.select("owner", "item").is_duplicated().any():
        raise DataError(f"{describe(source)} lists an item twice for one user: keep one row of each pair.")
    rows = rows.sort("owner", -pl.col("score"), "item")
    ranked = {plural: rows[name].to_numpy() for plural, name in (("owners", "owner"), ("items", "item"))}
    return _Listed(**ranked, scores=rows["score"].to_numpy(), by_case=by_case, passed_over=int((~known).sum()))


def _case_rows(numbers: pl.Series, owners: np.ndarray, cases: Cases, source: Any) -> np.ndarray:
    """The case of each row of the table, from its user and its number within the user."""
    if not numbers.dtype.is_integer() or numbers.null_count():
        raise DataError(
            f"The column 'case' of {describe(source)} must hold whole numbers, counted from 0 in each user."
        )
    users = pl.DataFrame({"owner": np.asarray(cases.history.users, np.int64)})
    table = users.with_columns(case=pl.int_range(pl.len()).over("owner")).with_row_index("row")
    asked = pl.DataFrame({"owner": owners, "case": numbers.cast(pl.Int64)})
    joined = asked.join(table, on=["owner", "case"], how="left", maintain_order="left")
    return joined["row"].cast(pl.Int64).fill_null(UNKNOWN).to_numpy()


def _ranked(listed: _Listed, cases: Cases, n_items: int, k: int, *, excluded: bool) -> tuple[Ranked, int]:
    """Ranks and lists of all cases, and how many cases have no row."""
    owners = np.arange(len(cases)) if listed.by_case else np.asarray(cases.history.users)
    firsts = np.searchsorted(listed.owners, owners)
    lasts = np.searchsorted(listed.owners, owners, side="right")
    ranks, lists = np.empty(len(cases)), np.full((len(cases), k), -1, np.int32)
    for n, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        items, scores = listed.items[first:last], listed.scores[first:last]
        met = np.unique(cases.met[n]) if excluded else np.zeros(0, np.int32)
        if excluded:
            stay = ~np.isin(items, met)
            items, scores = items[stay], scores[stay]
        ranks[n] = _rank(items, scores, int(cases.targets[n]), n_items - len(met), met)
        lists[n, : len(items[:k])] = items[:k]
    steps = np.zeros(len(cases), np.float32)
    return Ranked(ranks, lists, steps, {}), int((firsts == lasts).sum())


def _rank(items: np.ndarray, scores: np.ndarray, target: int, candidates: int, met: np.ndarray) -> float:
    """The mid-rank of the target among the candidates, infinity where it is none."""
    if np.isin(target, met):
        return np.inf
    at = np.flatnonzero(items == target)
    if len(at) == 0:
        return len(items) + (candidates - len(items) + 1) / 2
    own = scores[at[0]]
    return 1 + int((scores > own).sum()) + (int((scores == own).sum()) - 1) / 2
