"""Several methods on the same cases: who is better, by how much, and could it be chance?

Intervals and tests speak of users: would other users from the same place give the same verdict? They do not speak of
training seeds; where a method has several, each user's metrics are averaged over them and the spread stands beside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import polars as pl

from forethought.errors import DataError, nearest, shown
from forethought.evaluation import cost, storage
from forethought.evaluation.frames import comparison_frame
from forethought.evaluation.protocol import conflicts
from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import Estimate, bootstrap_sums, cluster_sums, holm, interval, sign_flip_test
from forethought.evaluation.summary import Difference, MethodSummary
from forethought.evaluation.tables import comparison_document
from forethought.settings import Between, Resamples, Seed, check, check_all
from forethought.tables.html import fragment
from forethought.tables.table import Document

KEYS = ["user_id", "case"]
Permutations = Annotated[int, Between(1, 1_000_000)]


@dataclass(frozen=True)
class Comparison:
    """Methods side by side, under the one protocol they share."""

    protocol: dict[str, Any]
    baseline: str
    methods: dict[str, MethodSummary]
    differences: list[Difference]
    resamples: int
    permutations: int

    def to_json(self) -> dict[str, Any]:
        """Everything, as values that `json.dumps` takes; what is not a number becomes null."""
        return storage.plain(asdict(self))

    def document(self) -> Document:
        """Every metric of every method with its difference to the baseline, what methods cost, and how to read it."""
        return comparison_document(
            self.protocol, self.methods, self.baseline, self.differences, self.resamples, self.permutations
        )

    def to_frame(self) -> pl.DataFrame:
        """Every metric of every method, and its difference: `metric`, `method`, `seeds`, `mean`, `low`, `high`,
        `seed_std`, `against`, `difference` and `relative` with their intervals, `p`, `p_holm`."""
        return comparison_frame(self.methods, self.differences)

    def _repr_html_(self) -> str:
        return fragment(self.document())

    def __rich__(self) -> Document:
        return self.document()

    def __str__(self) -> str:
        return self.document().text()


def compare(
    evaluations: Mapping[str, Evaluation | Sequence[Evaluation]],
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    across_noise: bool = False,
    all_pairs: bool = False,
    resamples: int = 1000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare methods that were evaluated on the same cases under the same protocol.

    Args:
        evaluations: by method; several of one method are its seeds.
        baseline: what the others are held against; the first method if not given.
        metrics: which to compare, all if not given. Holm's correction counts every metric of every method, so fewer
            metrics make a sharper test.
        across_noise: let methods stand side by side that read clean histories and noisy ones: a run's noisy evaluation
            against its own clean one says what that noise costs it.
        all_pairs: also hold the methods other than the baseline against each other, under one correction.
        resamples, permutations, seed: of the bootstrap and of the test.

    Raises:
        DataError: fewer than two methods, an unknown baseline or metric, different protocols or cases.
    """
    check_all(resamples=(resamples, Resamples), permutations=(permutations, Permutations), seed=(seed, Seed))
    check(across_noise, bool, "across_noise")
    check(all_pairs, bool, "all_pairs")
    runs = _by_method(evaluations)
    baseline = _check(runs, baseline, across_noise)
    first = runs[baseline][0]
    everywhere = [name for name in first.metrics if all(name in e.metrics for seeds in runs.values() for e in seeds)]
    names = _chosen(metrics, everywhere)
    # [seeds, n, M] for each method, all in the order of the first one's cases
    values = {method: np.stack([_aligned(e, first, names) for e in seeds]) for method, seeds in runs.items()}
    table = np.column_stack([value.mean(axis=0) for value in values.values()])
    sums = cluster_sums(table, first.cases["user_id"].rank("dense").to_numpy())
    totals = np.vstack([sums.sum(axis=0), bootstrap_sums(sums, resamples=resamples, seed=seed)])
    means = (totals[:, :-1] / totals[:, -1:]).reshape(-1, len(runs), len(names))
    summaries = {
        method: _summary(runs[method], values[method], _estimates(means[:, row]), names)
        for row, method in enumerate(runs)
    }
    of_users = sums[:, :-1].reshape(-1, len(runs), len(names))
    pairs = _pairs(list(runs), baseline, all_pairs=all_pairs)
    p_values = sign_flip_test(_differing(of_users, runs, pairs), resamples=permutations, seed=seed)
    against = means[:, [list(runs).index(other) for _, other in pairs]].reshape(len(means), -1)
    named = [(method, name, other) for method, other in pairs for name in names]
    differences = _differences(named, _differing(means, runs, pairs), against, p_values)
    protocols = [e.protocol for seeds in runs.values() for e in seeds]
    shared = {key: value for key, value in first.protocol.items() if all(p.get(key) == value for p in protocols)}
    return Comparison(shared, baseline, summaries, differences, resamples, permutations)


def _by_method(evaluations: object) -> dict[str, list[Evaluation]]:
    """Of each method its seeds; one alone counts as one."""
    if not isinstance(evaluations, Mapping):
        raise DataError(f"A comparison needs evaluations by method, as a dict, but got {shown(evaluations)}.")
    runs = {str(name): list(e) if isinstance(e, list | tuple) else [e] for name, e in evaluations.items()}
    for name, seeds in runs.items():
        if others := [seed for seed in seeds if not isinstance(seed, Evaluation)]:
            raise DataError(
                f"{name!r} is {shown(others[0])}, but a comparison needs evaluations: read that of a run with "
                "Evaluation.read(folder)."
            )
    return runs


def _check(runs: dict[str, list[Evaluation]], baseline: str | None, across_noise: bool) -> str:
    """The baseline, once everything is known to be comparable."""
    if len(runs) < 2:
        raise DataError(f"A comparison needs at least two methods, but {len(runs)} was given ({', '.join(runs)}).")
    if empty := [name for name, seeds in runs.items() if not seeds]:
        raise DataError(f"The method {empty[0]!r} has no evaluation: give at least one.")
    baseline = next(iter(runs)) if baseline is None else baseline
    if baseline not in runs:
        raise DataError(f"The baseline {baseline!r} is not among {', '.join(runs)}.{nearest(baseline, runs)}")
    first = runs[baseline][0]
    for method, seeds in runs.items():
        if any(_same(one, other) for one, other in itertools.combinations(seeds, 2)):
            raise DataError(f"One evaluation of {method!r} was given twice and would count as two seeds: give it once.")
        if any(evaluation.halting != seeds[0].halting for evaluation in seeds):
            raise DataError(f"The seeds of {method!r} stopped thinking by different rules: give each rule a name.")
        if across_noise and any(e.protocol.get("noise") != seeds[0].protocol.get("noise") for e in seeds):
            raise DataError(f"The seeds of {method!r} read histories with different noise: give each noise a name.")
        if len({bool(evaluation.protocol.get("unknown_users")) for evaluation in seeds}) > 1:
            raise DataError(f"The seeds of {method!r} knew their users or did not: give each of both a name.")
        for evaluation in seeds:
            across = ("noise",) if across_noise else ()
            if differing := conflicts(first.protocol, evaluation.protocol, across=across):
                # of another split all the rest follows
                told = [differing["split"]] if "split" in differing else [*differing.values()]
                noise = ", or compare across noise (on the command line --across-noise) to see what it costs"
                raise DataError(
                    f"{baseline!r} and {method!r} were measured under different protocols: "
                    f"{', '.join(told)} differ, so evaluate both in the same way"
                    f"{noise if [*differing] == ['noise'] else ''}."
                )
    return baseline


def _same(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations are one, perhaps from a copy of its folder: even what was timed agrees."""
    return one is other or (one.to_json() == other.to_json() and one.cases.equals(other.cases))


def _chosen(metrics: Sequence[str] | None, known: list[str]) -> list[str]:
    for name in metrics or ():
        if name not in known:
            raise DataError(
                f"The metric {name!r} was not measured; there are {', '.join(known)}.{nearest(name, known)}"
            )
    if not known:
        raise DataError("No metric was measured for all of them: evaluate them with the same cut-offs (--cutoffs).")
    return list(metrics or known)


def _aligned(evaluation: Evaluation, first: Evaluation, names: list[str]) -> np.ndarray:
    """Metrics of the evaluation's cases in the order of the first one's, float64 [n, M]."""
    cases, keys = evaluation.cases, [*KEYS, "target_id"]
    if not cases.select(keys).equals(first.cases.select(keys)):
        if cases.select(keys).schema != first.cases.select(keys).schema or cases.select(keys).is_duplicated().any():
            raise DataError("The cases of one evaluation have other ids than those of another: evaluate both anew.")
        cases = first.cases.select(keys).join(cases, on=keys, how="left", maintain_order="left")
        missing = cases["rank"].null_count()
        if missing:
            raise DataError(
                f"{missing} of {cases.height} cases (user and target) of one evaluation are missing from another, "
                "so evaluate both on the same split."
            )
    return cases.select(names).to_numpy()


def _summary(seeds: list[Evaluation], values: np.ndarray, estimates: list[Estimate], names: list[str]) -> MethodSummary:
    by_seed = values.mean(axis=1)  # [seeds, M]
    spread = by_seed.std(axis=0, ddof=1).tolist() if len(seeds) > 1 else [None] * len(names)
    return MethodSummary(
        seeds=len(seeds),
        metrics=dict(zip(names, estimates, strict=True)),
        seed_means=dict(zip(names, by_seed.T.tolist(), strict=True)),
        seed_std=dict(zip(names, spread, strict=True)),
        cost=cost.averaged([e.cost for e in seeds]),
        window=seeds[0].protocol.get("window"),
        halting=seeds[0].halting,
        noise=seeds[0].protocol.get("noise"),
        unknown_users=bool(seeds[0].protocol.get("unknown_users")),
    )


def _pairs(methods: list[str], baseline: str, *, all_pairs: bool) -> list[tuple[str, str]]:
    """What is held against what: every other method against the baseline; then those against each other."""
    others = [method for method in methods if method != baseline]
    between = [(later, earlier) for earlier, later in itertools.combinations(others, 2)] if all_pairs else []
    return [(method, baseline) for method in others] + between


def _differing(table: np.ndarray, methods: Iterable[str], pairs: list[tuple[str, str]]) -> np.ndarray:
    """The first of each pair less the second: [rows, methods, M] becomes [rows, pairs x M]."""
    at = {method: place for place, method in enumerate(methods)}
    first, second = ([at[pair[side]] for pair in pairs] for side in (0, 1))
    return (table[:, first] - table[:, second]).reshape(len(table), -1)


def _differences(
    named: list[tuple[str, str, str]], absolute: np.ndarray, base: np.ndarray, p_values: np.ndarray
) -> list[Difference]:
    """From differences and the means they are shares of, [1 + R, named] each, whose first row is what was observed."""
    relative = np.divide(absolute, base, out=np.full_like(absolute, np.nan), where=base > 0)
    columns = zip(named, _estimates(absolute), _estimates(relative), p_values, holm(p_values), strict=True)
    return [Difference(*names, gain, share, float(p), float(p_holm)) for names, gain, share, p, p_holm in columns]


def _estimates(means: np.ndarray) -> list[Estimate]:
    """Each column's first row, with the interval of the rows below it."""
    low, high = interval(means[1:])
    return [Estimate(float(m), (float(a), float(b))) for m, a, b in zip(means[0], low, high, strict=True)]
