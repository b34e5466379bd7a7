"""A small split and made-up rankings of its cases."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from forethought.data.histories import Histories
from forethought.data.interactions import Interactions
from forethought.data.splits import Split, leave_last_out
from forethought.data.vocabulary import Vocabulary
from forethought.evaluation.report import Evaluation, summarise

N_USERS, N_ITEMS = 200, 400


def interactions(seed: int = 0, name: str = "small") -> Interactions:
    random = np.random.default_rng(seed)
    chances = random.dirichlet(np.full(N_ITEMS, 0.5))
    lists = [random.choice(N_ITEMS, size, replace=False, p=chances) for size in random.integers(3, 12, N_USERS)]
    items = pl.Series("item_id", np.arange(N_ITEMS) + 1000)
    users = pl.Series("user_id", [f"user {u}" for u in range(N_USERS)])
    table = pl.DataFrame({"item_id": items})
    return Interactions(
        Histories.from_lists(lists), Vocabulary.from_series(users), Vocabulary.from_series(items), table, name
    )


def ranking(split: Split, seed: int = 0, better: float = 1.0, lists: bool = True) -> SimpleNamespace:
    """Ranks as the ranking of a model would give them; `better` divides them."""
    random, n = np.random.default_rng(seed), len(split.test)
    ranks = np.maximum(1, np.floor(np.exp(random.uniform(0, np.log(N_ITEMS), n)) / better))
    top = np.argsort(random.random((n, N_ITEMS)), axis=1)[:, :20].astype(np.int32)
    return SimpleNamespace(
        ranks=ranks,
        lists=top if lists else None,
        steps=random.integers(0, 4, n).astype(np.float32),
        seconds={"encode": 0.5, "rank": 1.5, "lists": 3.0},
    )


@pytest.fixture(scope="session")
def split() -> Split:
    return leave_last_out(interactions())


@pytest.fixture(scope="session")
def evaluate(split: Split) -> Callable[..., Evaluation]:
    """Summarise a made-up ranking of the small split."""

    def build(seed: int = 0, better: float = 1.0, **settings) -> Evaluation:
        given = {"window": 50, "history_excluded": True, "resamples": 200} | settings
        return summarise(ranking(split, seed, better), split.test, split, **given)

    return build


@pytest.fixture(scope="session")
def make_ranking() -> Callable[..., SimpleNamespace]:
    return ranking


@pytest.fixture(scope="session")
def make_data() -> Callable[..., Interactions]:
    return interactions
