"""Accuracy of one case: where did the item that came next stand among the candidates?

Each case has a single relevant item, so every metric follows from its rank alone. Ranks are mid-ranks (equal scores
count half), hence may be half-integers; a target that cannot be recommended has rank infinity and scores zero.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forethought import plugins
from forethought.errors import ConfigError

CUTS = (5, 10, 20)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, else 0, float64 [n]; with one relevant item also called hit rate."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 1) within the first k, float64 [n]; the ideal gain of one relevant item is 1.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / rank within the first k, float64 [n]."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"recall": recall, "ndcg": ndcg, "mrr": mrr}


def named(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The metric of a name such as "ndcg@10": ranks in, one number a case out.

    Raises:
        ConfigError: there is no such metric.
    """
    kind, _, cut = name.partition("@")
    if kind not in METRICS or not (cut.isascii() and cut.isdigit() and int(cut) > 0):
        raise ConfigError(f"There is no metric {name!r}: give {', '.join(METRICS)} with a length, such as ndcg@10.")
    return lambda ranks: METRICS[kind](ranks, int(cut))


@dataclass(frozen=True)
class Metric:
    """A metric of one's own: `ft.Metric("top3", lambda ranks: ranks <= 3)`.

    Attributes:
        name: what tables and files call it, such as `top3` or `hits@3`.
        function: `function(ranks)` or `function(ranks, lists)`, which gives one number a case; `ranks` as in
            `per_case`, `lists` int32 [n, K], the rows of the best items in the item table, -1 where there are fewer.
    """

    name: str
    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or re.fullmatch(r"[A-Za-z][\w-]*(@[1-9]\d*)?", self.name, re.ASCII) is None:
            raise ConfigError(f"A metric is called {self.name!r}, but its name must be like top3 or hits@3.")
        if self.name.partition("@")[0] in {*METRICS, *COLUMNS}:
            raise ConfigError(f"There is a {self.name.partition('@')[0]} already: give your metric a name of its own.")
        if not callable(self.function):
            raise ConfigError(f"The metric {self.name} needs a function of ranks, or of ranks and lists.")

    @property
    def reads_lists(self) -> bool:
        """Whether it asks for lists beside the ranks."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        try:
            asked = [p for p in inspect.signature(self.function).parameters.values() if p.kind in kinds]
        except (TypeError, ValueError):  # of some functions in C nobody can say
            return False
        return len([p for p in asked if p.default is p.empty]) >= 2

    def values(self, ranks: np.ndarray, lists: np.ndarray | None = None) -> np.ndarray:
        """One number a case, float64 [n].

        Raises:
            ConfigError: the function fails, or gives something else.
        """
        try:
            made = np.asarray(self.function(ranks, lists) if self.reads_lists else self.function(ranks))
            values = made.astype(np.float64)
        except Exception as error:  # whatever somebody else's function does
            said = (str(error).splitlines() or [""])[0].rstrip(".")
            raise ConfigError(f"The metric {self.name} failed ({type(error).__name__}: {said}).") from error
        if values.shape != ranks.shape or not np.isfinite(values).all():
            raise ConfigError(
                f"The metric {self.name} must give one finite number a case, but of {len(ranks)} cases it made "
                f"{'an array' if values.shape != ranks.shape else 'values'} "
                f"{f'of shape {values.shape}' if values.shape != ranks.shape else 'that are none'}."
            )
        return values


class _Known(Metric):
    """One of ours, whose name is taken."""

    def __post_init__(self) -> None:
        pass


COLUMNS = ("user_id", "case", "target_id", "rank", "history_length", "target_popularity", "steps")
"""What cases have beside their metrics."""


def metric_of(name: str, *, person: bool = False) -> Metric:
    """The metric of a name such as "ndcg@10", or of an import path such as "my_metrics:top3".

    Args:
        person: a person names it here and now, so that it may be imported.

    Raises:
        ConfigError: there is none.
        PluginError: it would have to be imported because a run folder says so.
    """
    if not plugins.is_path(name):
        return _Known(name, named(name))
    own = plugins.named(name, "metric") if person else plugins.trusted(name)
    return own if isinstance(own, Metric) else Metric(name.rpartition(":")[2], own)


def chosen_mean(metric: Metric, ranks: np.ndarray, lists: np.ndarray | None) -> float:
    """The mean over all cases of a metric that an epoch is chosen by.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    mean = float(metric.values(ranks, lists).mean())
    if not 0 <= mean <= 1:
        raise ConfigError(f"The metric {metric.name} is {mean:g}, but what chooses an epoch must lie between 0 and 1.")
    return mean


def per_case(
    ranks: np.ndarray,
    cuts: Sequence[int] = CUTS,
    own: Sequence[Metric] = (),
    lists: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """All metrics of all cases.

    Args:
        ranks: float64 [n], 1 is best, infinity where the target is no candidate.
        cuts: list lengths k.
        own: further metrics; `lists` is what those read that read lists.

    Returns:
        `recall@5`, `recall@10`, ... `mrr@20`, each float64 [n].
    """
    known = {f"{name}@{k}": metric(ranks, k) for name, metric in METRICS.items() for k in cuts}
    return known | {each.name: each.values(ranks, lists) for each in own}
