"""Scores of another program become ranks: unlisted items come last, and nobody gains by leaving items out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import forethought as ft
from forethought.data.splits import Split
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation


def table(split: Split, share: float, seed: int = 0, users: int | None = None, levels: int = 4) -> pl.DataFrame:
    """Scores with many ties, of a share of all pairs."""
    random = np.random.default_rng(seed)
    pairs = [
        (u, i, float(random.integers(levels)))
        for u in split.data.users.ids.to_list()[:users]
        for i in split.data.items.ids.to_list()
        if random.random() < share
    ]
    return pl.DataFrame(pairs, schema=["user_id", "item_id", "score"], orient="row")


def by_hand(split: Split, scores: pl.DataFrame, *, excluded: bool) -> list[float]:
    """Every candidate has a number, those without a row one below all others."""
    known = {(u, i): s for u, i, s in scores.rows()}
    items, ranks = split.data.items.ids.to_list(), []
    for row, target in enumerate(split.test.targets):
        user = split.data.users.ids[int(split.test.history.users[row])]
        met = {*split.test.history[row].tolist()} if excluded else set()
        of = {n: known.get((user, item), -1.0) for n, item in enumerate(items) if n not in met}
        own = of.get(int(target))
        better, equal = sum(s > own for s in of.values()), sum(s == own for s in of.values())
        ranks.append(np.inf if own is None else 1 + better + (equal - 1) / 2)
    return ranks


@pytest.mark.parametrize("excluded", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.7, 1.0])
def test_ranks_are_those_by_hand(split: Split, share: float, excluded: bool) -> None:
    scores = table(split, share)
    config = ft.EvaluationConfig(exclude_history=excluded, resamples=20)
    made = ft.evaluate_scores(scores.sample(fraction=1.0, shuffle=True, seed=1), split, config)
    assert made.cases["rank"].to_list() == by_hand(split, scores, excluded=excluded)
    ranks = scores.with_columns(rank=10 - pl.col("score")).drop("score")
    assert ft.evaluate_scores(ranks, split, config).cases["rank"].equals(made.cases["rank"])
    both = ft.evaluate_scores(scores.with_columns(rank=pl.col("score")), split, config)
    assert both.cases["rank"].equals(made.cases["rank"])
    assert ", by its column score and not by rank" in both.protocol["scores"]
    assert "by its column" not in made.protocol["scores"]


def test_says_the_share_without_a_row_and_stands_beside_a_run(split: Split, evaluate) -> None:
    made = ft.evaluate_scores(
        table(split, 0.3, users=50), split, ft.EvaluationConfig(exclude_history=True, resamples=50)
    )
    assert made.cost == {"cases_without_row": 0.75}
    assert "75.0% of the cases without a row" in str(made)
    outcome = compare({"run": evaluate(), "other": made}, resamples=50, permutations=50)
    assert outcome.methods["other"].window is None
    assert "other" in str(outcome)


def test_is_written_and_read_back(split: Split, tmp_path) -> None:
    made = ft.evaluate_scores(table(split, 0.3), split, ft.EvaluationConfig(resamples=50))
    made.write(tmp_path)
    assert str(Evaluation.read(tmp_path)) == str(made)


def test_scores_know_whom_they_are_of(split: Split) -> None:
    with pytest.raises(ft.ConfigError, match="Scores of another program know no unknown_users: leave it out"):
        ft.evaluate_scores(table(split, 0.3), split, ft.EvaluationConfig(unknown_users=True))


def test_a_row_may_say_which_case_it_is_for(shop) -> None:
    split = ft.temporal(ft.read(shop), valid_from=0.6, test_from=0.7, targets="all")
    users, targets = split.data.users.ids, split.data.items.ids
    frame = pl.DataFrame({"row": np.arange(len(split.test)), "user": split.test.history.users})
    frame = frame.with_columns(case=pl.int_range(pl.len()).over("user"))
    scores = pl.DataFrame(
        {"user_id": users[frame["user"]], "item_id": targets[split.test.targets], "case": frame["case"], "score": 1.0}
    )
    made = ft.evaluate_scores(scores, split, ft.EvaluationConfig(exclude_history=False, resamples=20))
    assert (made.cases["rank"] == 1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.rename({"score": "points"}), "has no score column 'score'"),
        (lambda t: t.with_columns(score=pl.lit(None, pl.Float64)), "empty or no number in some rows"),
        (lambda t: t.with_columns(score=pl.lit("high")), "scores are numbers"),
        (lambda t: pl.concat([t, t.head(1)]), "lists an item twice for one user"),
        (lambda t: t.with_columns(user_id=pl.lit("nobody")), "has no row for any of the 200 cases"),
    ],
)
def test_bad_tables_get_a_sentence(split: Split, change, said: str) -> None:
    with pytest.raises(ft.DataError, match=said):
        ft.evaluate_scores(change(table(split, 0.1)), split)
