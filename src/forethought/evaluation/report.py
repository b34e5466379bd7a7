"""An evaluation: the protocol, every case, the metrics with intervals, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from forethought.data.histories import Cases
from forethought.data.popularity import training_counts
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation import cost, storage
from forethought.evaluation import protocol as protocols
from forethought.evaluation.frames import evaluation_frame
from forethought.evaluation.groups import (
    REPEAT,
    TARGET,
    Group,
    chance_of_recall,
    membership,
    quantile_groups,
    repeat_or_new,
    warm_or_cold,
)
from forethought.evaluation.lists import beyond_accuracy
from forethought.evaluation.metrics import CUTS, Metric, per_case
from forethought.evaluation.statistics import Estimate, estimate_means
from forethought.evaluation.tables import evaluation_document
from forethought.files import first_line
from forethought.tables.html import fragment
from forethought.tables.table import Document

if TYPE_CHECKING:
    from forethought.evaluation.ranking import Ranked

# What broken parts make of themselves.
DAMAGED = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError),
    *(ConfigError, pl.exceptions.PolarsError),
)
# what cases are grouped by, its column, and that whose range is shown
GROUPINGS = {
    "history_length": ("length_group", "history_length"),
    "target_popularity": ("popularity_group", "target_popularity"),
    TARGET: ("target_group", "target_popularity"),
    REPEAT: ("repeat_group", "target_popularity"),
}


SHOWN = ("recall@10", "ndcg@10")
"""Metrics that stand for all of them where there is one line."""


@dataclass(frozen=True)
class Evaluation:
    """How one model did on one set of cases.

    Attributes:
        protocol: what was measured, as in `forethought.evaluation.protocol.describe`.
        cases: one row a case: `user_id`, `case` (0, 1, .. within the user), `target_id`, `rank` (mid-rank),
            `history_length` and `target_popularity` (interactions), `length_group` and `popularity_group` (`G1`..),
            `target_group` (`warm` or `cold`, where training never met some target), `steps` (of reasoning), and one
            column for each metric.
        metrics: means over cases with 95% intervals over users, by name (`ndcg@10`).
        lists: coverage, Gini, novelty and popularity of the lists (`coverage@10`); empty if no lists were made.
        groups: `history_length` and `target_popularity`, each with its groups `G1`.. of ascending quantiles; `target`
            with `warm` and `cold`, where training never met some target; `repeat` with `repeat` and `new`, where some
            target stands in its own history and may be recommended; and those by columns that were asked for.
        cost: `steps` (mean) with `steps_quantiles` and `steps_saved` (of those it could have used), `seconds` by stage,
            `ms_per_history` and `flops_per_history` by stage, `look_ups_per_history` where items are scored by
            tokens, `states_per_second` (lists apart), `parameters`,
            `training` (`epochs`, `trained_s`, and where epochs were passes over the data `s_per_epoch` and
            `flops_per_epoch`) and the `machine` that was timed.
        halting: the rule by which it stopped thinking, with its threshold and depth; None if it does not reason.
        weights: checksum of the weights that cases were ranked with, as `model.safetensors` states it; None where they
            come from no file.
    """

    protocol: dict[str, Any]
    cases: pl.DataFrame
    metrics: dict[str, Estimate]
    lists: dict[str, float]
    groups: dict[str, dict[str, Group]]
    cost: dict[str, Any]
    halting: dict[str, Any] | None = None
    weights: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the cases, as values that `json.dumps` takes; what is not a number becomes null."""
        parts = {
            "protocol": self.protocol,
            "metrics": {name: asdict(estimate) for name, estimate in self.metrics.items()},
            "lists": self.lists,
            "groups": {
                by: {name: asdict(group) for name, group in groups.items()} for by, groups in self.groups.items()
            },
            "cost": self.cost,
            "halting": self.halting,
            "weights": self.weights,
        }
        return storage.plain(parts)

    @classmethod
    def from_json(cls, parts: dict[str, Any], cases: pl.DataFrame) -> Evaluation:
        """The evaluation that `to_json` and its cases describe.

        Raises:
            RunError: a part is missing or not what it should be, or the cases are not those of the metrics.
        """
        try:
            storage.check_parts(parts, cases)
            evaluation = cls(
                protocol=dict(parts["protocol"]),
                cases=cases,
                metrics=_estimates(parts["metrics"]),
                lists={name: _number(value) for name, value in parts["lists"].items()},
                groups={by: {name: _group(g) for name, g in groups.items()} for by, groups in parts["groups"].items()},
                cost=dict(parts["cost"]),
                halting=storage.halting(parts.get("halting")),
                weights=parts.get("weights"),
            )
            belongs = cases.height == evaluation.protocol["n_cases"] and all(
                math.isclose(cases[name].to_numpy().mean(), estimate.mean, abs_tol=1e-9)
                for name, estimate in evaluation.metrics.items()
            )
        except DAMAGED as error:
            raise RunError(
                f"The saved evaluation is damaged ({type(error).__name__}: {first_line(error)}): "
                "evaluate the run again."
            ) from error
        if not belongs:
            raise RunError("The saved metrics and cases come from different evaluations: evaluate the run again.")
        return evaluation

    def write(self, folder: str | Path) -> None:
        """Write `metrics.json` and `per_user.parquet` into a run folder; each is there whole or not at all.

        Raises:
            RunError: the folder cannot be written.
        """
        storage.write(Path(folder), self.to_json(), self.cases)

    @classmethod
    def read(cls, folder: str | Path) -> Evaluation:
        """Read what `write` wrote.

        Raises:
            RunError: a file is missing or damaged, or the two do not belong together.
        """
        return cls.from_json(*storage.read(Path(folder)))

    def document(self) -> Document:
        """Accuracy, lists, groups and cost, and what to know of them."""
        parts = self.protocol, self.metrics, self.lists, self.groups, self.cost, self.halting
        return evaluation_document(*parts, self.weights)

    def to_frame(self) -> pl.DataFrame:
        """Every metric of all cases and of each group: `by`, `group`, `cases`, `metric`, `mean`, `low`, `high`."""
        return evaluation_frame(self.metrics, self.groups, self.protocol["n_cases"])

    def _repr_html_(self) -> str:
        return fragment(self.document())

    def __rich__(self) -> Document:
        return self.document()

    def __repr__(self) -> str:
        measured = [f"{name} {each.mean:.4f}" for name, each in self.metrics.items() if name in SHOWN]
        return f"<Evaluation of {self.cases.height:,} cases: {', '.join(measured) or 'nothing measured'}>"

    def __str__(self) -> str:
        return self.document().text()


def summarise(
    ranked: Ranked | Sequence[Ranked],
    cases: Cases,
    split: Split,
    *,
    window: int | None,
    history_excluded: bool,
    part: protocols.Part = "test",
    sample: dict[str, Any] | None = None,
    halting: dict[str, Any] | None = None,
    extras: Mapping[str, Any] | None = None,
    cuts: Sequence[int] = CUTS,
    own: Sequence[Metric] = (),
    groups_by: Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Turn ranks and lists into an evaluation.

    Args:
        ranked: ranks [n], lists [n, K] or None, steps [n], seconds; of several rankings of the same cases (noise drawn
            more than once) each case, and each figure of the lists, is their mean.
        cases: the cases that were ranked, [n], in the same order.
        split: where they come from; its training part defines popularity.
        window: the longest history the method reads, in items; None where nobody knows.
        history_excluded: whether items of the history were left out of the candidates.
        part: which part of the split the cases are.
        sample: `sampled.Sample.protocol()` where ranks are among sampled negatives.
        halting: how the model stopped thinking, `max_steps` among it; None if it does not reason. It is part of the
            method and not of the protocol: the same weights may be compared under several.
        extras: further keys of the protocol; methods are compared only where these agree too.
        cuts: list lengths at which metrics are taken.
        own: further metrics.
        groups_by: further groups, by what they are called: the group of each case, str [n].
        resamples, seed: of the bootstrap.

    Raises:
        DataError: no cases, another number of ranks than cases, or ranks that are not numbers.
    """
    draws = list(ranked) if isinstance(ranked, Sequence) else [ranked]
    for each in draws:
        _check(each.ranks, len(cases))
    described = protocols.describe(
        split, part, len(cases), window=window, history_excluded=history_excluded, sample=sample
    )
    protocol = storage.plain({**described, **(extras or {})})
    prefix = protocols.metric_prefix(protocol)
    popularity = training_counts(split)
    measured = _mean([per_case(each.ranks, cuts, own, each.lists) for each in draws])
    by_case = {prefix + name: value for name, value in measured.items()}
    labels = {f"by_{name}": pl.Series(group) for name, group in (groups_by or {}).items()}
    if not history_excluded and (repeats := repeat_or_new(cases, split.data.n_items)) is not None:
        labels["repeat_group"] = pl.Series(repeats)
    columns = labels | {name: pl.Series(values) for name, values in by_case.items()}
    frame = _frame(draws, cases, split, popularity).with_columns(**columns)
    metrics, groups = _estimate(frame, by_case, cases.history.users, resamples, seed)
    if TARGET in groups:
        negatives = None if sample is None else sample["negatives"]
        chances = chance_of_recall(cases, split.data.n_items, negatives, history_excluded=history_excluded)
        groups[TARGET] = {
            name: replace(group, chance=float(chances[frame["target_group"].to_numpy() == name].mean()))
            for name, group in groups[TARGET].items()
        }
    shown = [each.lists for each in draws if each.lists is not None]
    lists = _mean([beyond_accuracy(each, cases.history, popularity, cuts) for each in shown]) if shown else {}
    steps = np.concatenate([each.steps for each in draws])
    seconds = {stage: sum(each.seconds[stage] for each in draws) for stage in draws[0].seconds}
    spent = cost.of_ranking(steps, seconds, None if halting is None else halting["max_steps"])
    return Evaluation(protocol, frame, metrics, lists, groups, spent, halting)


def _mean(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the same figures, each the mean over the draws, element by element."""
    return {name: sum(each[name] for each in draws) / len(draws) for name in draws[0]}


def _check(ranks: np.ndarray, n_cases: int) -> None:
    if n_cases == 0:
        raise DataError("There is nothing to evaluate: this part of the split has no cases.")
    if len(ranks) != n_cases:
        raise DataError(f"There are {len(ranks)} ranks for {n_cases} cases: rank the very cases you summarise.")
    if not (ranks >= 1).all():
        raise DataError(
            f"{int((~(ranks >= 1)).sum())} of {n_cases} ranks are not numbers from 1 up: "
            "the model's scores are probably NaN, so look at the training loss."
        )


def _frame(draws: Sequence[Ranked], cases: Cases, split: Split, popularity: np.ndarray) -> pl.DataFrame:
    users, lengths, popular = cases.history.users, cases.history.lengths, popularity[cases.targets]
    target_groups = {} if (popular > 0).all() else {"target_group": warm_or_cold(popular)}
    return pl.DataFrame(
        {
            "user_id": split.data.users.ids[users],
            "target_id": split.data.items.ids[cases.targets],
            "rank": np.mean([each.ranks for each in draws], axis=0, dtype=np.float64),
            "history_length": lengths.astype(np.int64),
            "target_popularity": popular.astype(np.int64),
            "length_group": quantile_groups(lengths),
            "popularity_group": quantile_groups(popular),
            **target_groups,
            "steps": np.mean([each.steps for each in draws], axis=0, dtype=np.float32),
        }
    ).select("user_id", pl.int_range(pl.len()).over("user_id").alias("case"), pl.exclude("user_id"))


def _estimate(
    frame: pl.DataFrame, by_case: dict[str, np.ndarray], users: np.ndarray, resamples: int, seed: int
) -> tuple[dict[str, Estimate], dict[str, dict[str, Group]]]:
    """Means of all cases and of every group, from the same resampled users."""
    strata, keys = [np.ones((frame.height, 1), bool)], []
    groupings = {by: columns for by, columns in GROUPINGS.items() if columns[0] in frame.columns}
    named = [name for name in frame.columns if name.startswith("by_")]
    groupings |= {name.removeprefix("by_"): (name, "target_popularity") for name in named}
    for by, (column, _) in groupings.items():
        names, members = membership(frame[column].to_numpy())
        strata.append(members)
        keys += [(by, name) for name in names]
    table, everyone = np.column_stack(list(by_case.values())), np.concatenate(strata, axis=1)
    rows = estimate_means(table, users, resamples=resamples, seed=seed, strata=everyone)
    groups: dict[str, dict[str, Group]] = {by: {} for by in groupings}
    for (by, name), members, row in zip(keys, everyone.T[1:], rows[1:], strict=True):
        values, steps = frame[groupings[by][1]].to_numpy()[members], frame["steps"].to_numpy()[members]
        means = dict(zip(by_case, row, strict=True))
        groups[by][name] = Group(len(values), (int(values.min()), int(values.max())), means, float(steps.mean()))
    return dict(zip(by_case, rows[0], strict=True)), groups


def _estimates(parts: dict[str, Any]) -> dict[str, Estimate]:
    return {n: Estimate(_number(p["mean"]), (_number(p["ci95"][0]), _number(p["ci95"][1]))) for n, p in parts.items()}


def _group(parts: dict[str, Any]) -> Group:
    (low, high), steps = parts["range"], parts.get("steps")
    known, chance = (None if x is None else float(x) for x in (steps, parts.get("chance")))
    return Group(int(parts["cases"]), (int(low), int(high)), _estimates(parts["metrics"]), known, chance)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
