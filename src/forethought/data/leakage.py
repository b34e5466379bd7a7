"""What a split lets training see that it should not, counted and told in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forethought.data.histories import Cases
from forethought.data.splits import Split

DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class PartLeakage:
    """What leaks into one part, valid or test.

    Attributes:
        cases: number of cases.
        future: int64 [cases], training interactions later than the case's target; None without times.
        not_earlier: cases whose history holds something of the target's second or later; None without times.
        cold_users: cases whose user has nothing in training.
        cold_items: cases whose target nobody met in training.
        repeats: cases whose target the user had met before.
    """

    cases: int
    future: np.ndarray | None
    not_earlier: int | None
    cold_users: int
    cold_items: int
    repeats: int

    @property
    def future_share(self) -> float | None:
        """Share of cases for which training holds anything later than the target."""
        return None if self.future is None else float((self.future > 0).mean())


@dataclass(frozen=True, kw_only=True)
class LeakageReport:
    """What leaks in a split.

    Attributes:
        kind: of the split.
        train_interactions: what training may see.
        valid, test: what leaks into each part.
        same_second: share of adjacent interactions of a user in the same second; None without times.
        last_two_same_day: share of users with two interactions whose last two fall on one day (UTC); None
            without times.
    """

    kind: str
    train_interactions: int
    valid: PartLeakage
    test: PartLeakage
    same_second: float | None
    last_two_same_day: float | None

    def sentences(self) -> list[str]:
        """The report in words, most important first."""
        return [*self._on_future(), *self._on_ties(), *self._on_cases()]

    def _on_future(self) -> list[str]:
        if self.test.future is None or self.valid.future is None:
            usually = "; leave-last-out usually lets that happen" if self.kind.startswith("leave_last") else ""
            return [f"Without times nobody can say whether training holds anything later than a test target{usually}."]
        later = int(self.valid.future.sum() + self.test.future.sum())
        if later == 0:
            return [
                f"Zero of {self.train_interactions:,} training interactions are later than any of the "
                f"{self.valid.cases + self.test.cases:,} validation and test targets."
            ]
        return [
            f"Leakage: for {self.test.future_share:.1%} of test cases training holds interactions later than the "
            f"target (median {int(np.median(self.test.future)):,} of {self.train_interactions:,}): what other users "
            "did afterwards helps to rank it. A temporal split has no such leak."
        ]

    def _on_ties(self) -> list[str]:
        if self.same_second is None or self.last_two_same_day is None:
            return []
        sentences = []
        if self.same_second > 0:
            sentences.append(
                f"{self.same_second:.1%} of adjacent interactions share their time, and {self.last_two_same_day:.1%} "
                "of users have their last two on one day: the order among those decides which item is to be found."
            )
        if self.test.not_earlier:
            sentences.append(
                f"In {self.test.not_earlier:,} of {self.test.cases:,} test cases the history holds interactions of the "
                "target's own time."
            )
        return sentences

    def _on_cases(self) -> list[str]:
        return [
            f"Of {part.cases:,} {name} cases {part.cold_users:,} are of users and {part.cold_items:,} of items that "
            f"training never saw, and {part.repeats:,} repeat an item of their own history."
            for name, part in (("validation", self.valid), ("test", self.test))
        ]


def leakage(split: Split) -> LeakageReport:
    """Count what leaks.

    Example:
        >>> import polars as pl
        >>> from forethought.data.reading import read
        >>> from forethought.data.splits import leave_last_out
        >>> table = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [7, 8, 9], "timestamp": [10, 20, 30]})
        >>> leakage(leave_last_out(read(table))).sentences()[0]
        'Zero of 1 training interactions are later than any of the 2 validation and test targets.'
    """
    histories, train = split.train.histories, split.train
    same_second = last_two = None
    train_times = None
    if histories.times is not None:
        inside = np.arange(len(histories.items)) < np.repeat(train.ends, histories.lengths)
        train_times = np.sort(histories.times[inside])
        same_second, last_two = _tie_shares(split)
    return LeakageReport(
        kind=split.protocol["split"],
        train_interactions=int(train.lengths.sum()),
        valid=_part(split, split.valid, train_times),
        test=_part(split, split.test, train_times),
        same_second=same_second,
        last_two_same_day=last_two,
    )


def _part(split: Split, cases: Cases, train_times: np.ndarray | None) -> PartLeakage:
    histories, history = cases.history.histories, cases.history
    future = not_earlier = None
    if train_times is not None and histories.times is not None:
        moments = histories.times[history.ends]
        future = len(train_times) - np.searchsorted(train_times, moments, side="right")
        not_earlier = int((histories.times[history.ends - 1] >= moments)[history.lengths > 0].sum())
    trained = split.train.item_counts(split.data.n_items) > 0
    return PartLeakage(
        cases=len(cases),
        future=future,
        not_earlier=not_earlier,
        cold_users=int((split.train.lengths[history.users] == 0).sum()),
        cold_items=int((~trained[cases.targets]).sum()),
        repeats=int(met_before(cases, split.data.n_items).sum()),
    )


def met_before(cases: Cases, n_items: int) -> np.ndarray:
    """Whether each target stands in its own history, bool [cases]: the user's first meeting with it comes earlier."""
    histories, history = cases.history.histories, cases.history
    met = np.zeros(len(cases), bool)
    for users in histories.blocks():
        rows = histories.rows(users)
        keys = histories.owners(users) * np.int64(n_items) + histories.items[rows]
        pairs, first = np.unique(keys, return_index=True)
        mine = np.flatnonzero((history.users >= users.start) & (history.users < users.stop))
        wanted = history.users[mine] * np.int64(n_items) + cases.targets[mine]
        met[mine] = rows.start + first[np.searchsorted(pairs, wanted)] < history.ends[mine]
    return met


def _tie_shares(split: Split) -> tuple[float, float]:
    histories = split.train.histories
    times, ends = histories.dated(), histories.ends[histories.lengths >= 2]
    gaps = np.diff(times)
    within = np.ones(len(gaps), bool)
    within[histories.starts[(histories.starts > 0) & (histories.starts < len(times))] - 1] = False
    same_day = times[ends - 1] // DAY == times[ends - 2] // DAY
    return float((gaps[within] == 0).mean()) if within.any() else 0.0, float(same_day.mean()) if len(ends) else 0.0
