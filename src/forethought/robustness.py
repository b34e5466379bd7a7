"""What noise costs a run: every kind at rising shares, against the same run on clean histories.

The drop is 1 - noisy / clean. Both come from the same cases, and users are resampled for both together, so that the
interval is that of the paired drop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from forethought.data.histories import Cases
from forethought.data.noise import KINDS, Kind, Noise
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation import protocol as protocols
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import in_turn, rank_cases
from forethought.evaluation.statistics import Estimate, bootstrap_sums, cluster_sums, interval
from forethought.evaluation.storage import plain
from forethought.recommender import Recommender, load
from forethought.runs import check_asked, check_same_split
from forethought.thinking.halting import Halting

if TYPE_CHECKING:
    from rich.console import RenderableType

SHARES = (0.1, 0.2, 0.3)
METRICS = {"recall@10": partial(recall, k=10), "ndcg@10": partial(ndcg, k=10)}


@dataclass(frozen=True)
class Point:
    """One kind of noise at one share.

    Attributes:
        kind, share: as in `Noise`.
        positions: share of all positions that are really drawn; rounding makes it differ from `share`.
        cases: share of cases with any noise; short histories may have none.
        metrics: `recall@10` and `ndcg@10`, means over cases and noise seeds with 95% intervals over users.
        drops: of each metric, relative to clean: 0.1 is a tenth lost. NaN where the clean metric is zero.
    """

    kind: Kind
    share: float
    positions: float
    cases: float
    metrics: dict[str, Estimate]
    drops: dict[str, Estimate]


@dataclass(frozen=True)
class Robustness:
    """Degradation curves of one run.

    Attributes:
        protocol: of the clean evaluation; the noise stands in the points.
        seeds: the noise seeds that every point is a mean of.
        clean: `recall@10` and `ndcg@10` without noise.
        points: kind by kind, shares as they were asked for.
        halting: how the model stopped thinking; None if it does not reason.
    """

    protocol: dict[str, Any]
    seeds: list[int]
    clean: dict[str, Estimate]
    points: list[Point]
    halting: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything, as values that `json.dumps` takes; what is not a number becomes null."""
        return plain(asdict(self))

    def __rich__(self) -> RenderableType:
        from forethought.reports import robustness as view

        return view.robustness_view(self)

    def __str__(self) -> str:
        from forethought.reports.tables import text

        return text(self)


def robustness(
    run: Recommender | str | Path,
    split: Split,
    *,
    kinds: Sequence[Kind] = KINDS,
    shares: Sequence[float] = SHARES,
    seeds: int = 5,
    seed: int = 0,
    part: protocols.Part = "test",
    exclude_history: bool | None = None,
    halting: Halting | None = None,
    batch: int = 1024,
    resamples: int = 1000,
    report: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Rank all cases clean, and under every kind and share of noise; how far do Recall@10 and NDCG@10 fall?

    Args:
        kinds, shares: of the noise.
        seeds, seed: how often each noise is drawn: with `seed`, the next one, and so on. `seed` is the bootstrap's too,
            and random halting's.
        part, exclude_history, halting, batch, resamples, report: as in `ft.evaluate`.

    Raises:
        ConfigError: as `ft.evaluate`, or a noise that there is not.
        DataError: the split is not the one the run was trained on, or it has no cases.
    """
    check_asked(part, batch, seed)
    draws = [Noise(kind=kind, share=share, seed=seed).seeds(seeds) for kind in kinds for share in shares]
    if not draws:
        raise ConfigError("A curve needs at least one kind of noise and one share of it.")
    model = run if isinstance(run, Recommender) else load(run)
    check_same_split(model, split)
    halting = model.method.obeyed(halting)
    exclude = model.about["exclude_history"] if exclude_history is None else exclude_history
    cases = split.test if part == "test" else split.valid
    if len(cases) == 0:
        raise DataError("There is nothing to evaluate: this part of the split has no cases.")
    ask = partial(_metrics, model, exclude=exclude, halting=halting, batch=batch, seed=seed)
    rounds, n_items = 1 + len(draws) * seeds, split.data.n_items
    tables = [ask(cases, in_turn(report, 0, rounds))]
    for at, noises in enumerate(draws):
        turns = [in_turn(report, 1 + at * seeds + n, rounds) for n in range(seeds)]
        noisy = (noise.on_cases(cases, n_items) for noise in noises)
        tables.append(np.mean([ask(*each) for each in zip(noisy, turns, strict=True)], axis=0))
    estimates, drops = _against_clean(np.stack(tables), cases.history.users, resamples, seed)
    points = [_point(noises[0], cases, *told) for noises, *told in zip(draws, estimates[1:], drops[1:], strict=True)]
    described = protocols.describe(split, part, len(cases), window=model.method.window, history_excluded=exclude)
    return Robustness(
        plain(described),
        [noise.seed for noise in draws[0]],
        estimates[0],
        points,
        None if halting is None else asdict(halting),
    )


def _metrics(
    model: Recommender,
    cases: Cases,
    report: Callable[[int, int], None] | None,
    *,
    exclude: bool,
    halting: Halting | None,
    batch: int,
    seed: int,
) -> np.ndarray:
    """`METRICS` of every case, float64 [n, M]; each round begins from the same random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        ranked = rank_cases(model.method, cases, exclude_history=exclude, halting=halting, batch=batch, report=report)
    return np.column_stack([metric(ranked.ranks) for metric in METRICS.values()])


def _against_clean(
    tables: np.ndarray, users: np.ndarray, resamples: int, seed: int
) -> tuple[list[dict[str, Estimate]], list[dict[str, Estimate]]]:
    """Means, and drops to the first table, of each; from [tables, n, M] and the user of each case."""
    n_tables, n_cases, n_metrics = tables.shape
    sums = cluster_sums(tables.transpose(1, 0, 2).reshape(n_cases, -1), users)
    totals = np.vstack([sums.sum(axis=0), bootstrap_sums(sums, resamples=resamples, seed=seed)])
    means = (totals[:, :-1] / totals[:, -1:]).reshape(-1, n_tables, n_metrics)  # [1 + R, tables, M]
    clean = means[:, :1]
    kept = np.divide(means, clean, out=np.full_like(means, np.nan), where=clean > 0)
    return _estimates(means), _estimates(1 - kept)


def _estimates(draws: np.ndarray) -> list[dict[str, Estimate]]:
    """The first draw with the interval of the others, from [1 + R, tables, M]."""
    low, high = interval(draws[1:])
    return [
        {name: Estimate(float(m), (float(a), float(b))) for name, m, a, b in zip(METRICS, *rows, strict=True)}
        for rows in zip(draws[0], low, high, strict=True)
    ]


def _point(noise: Noise, cases: Cases, metrics: dict[str, Estimate], drops: dict[str, Estimate]) -> Point:
    lengths = cases.history.lengths
    drawn = noise.drawn(lengths)
    return Point(noise.kind, noise.share, float(drawn.sum() / lengths.sum()), float((drawn > 0).mean()), metrics, drops)
