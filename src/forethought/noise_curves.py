"""What noise costs a run: every kind at rising shares, against the same run on clean histories.

The drop is 1 - noisy / clean. Both come from the same cases, and users are resampled for both together, so that the
interval is that of the paired drop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from forethought.data.histories import Cases
from forethought.data.later import is_later
from forethought.data.noise import KINDS, Draws, Noise, NoiseKind
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation import protocol as protocols
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import in_turn, rank_cases
from forethought.evaluation.settings import RankingConfig
from forethought.evaluation.statistics import Estimate, bootstrap_sums, cluster_sums, interval
from forethought.evaluation.storage import plain
from forethought.evaluation.tables import interval_cell
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender, load
from forethought.runs import to_rank
from forethought.settings import Seed, Share, check_all
from forethought.tables.formats import number
from forethought.tables.table import Document, Table

WHAT = {
    "replace": "positions hold other items",
    "insert": "other items come in between",
    "delete": "positions are gone",
    "swap": "items change places",
}
SHARES = (0.1, 0.2, 0.3)
CURVE_METRICS = {"recall@10": partial(recall, k=10), "ndcg@10": partial(ndcg, k=10)}


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig(RankingConfig):
    """Configuration of degradation curves."""

    kinds: tuple[NoiseKind, ...] = KINDS
    """Kinds of noise, a curve each."""
    shares: tuple[Share, ...] = SHARES
    """Shares of positions that are drawn, a point each."""
    noise_seed: Seed = 0
    """Of the first draw of each noise."""
    noise_seeds: Draws = 5
    """How often each noise is drawn: with `noise_seed`, the next one, and so on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.kinds and self.shares):
            raise ConfigError("A curve needs at least one kind of noise and one share of it.")

    def draws(self) -> list[list[Noise]]:
        """The noise of each point, draw by draw."""
        return [
            Noise(kind=kind, share=share, seed=self.noise_seed).seeds(self.noise_seeds)
            for kind in self.kinds
            for share in self.shares
        ]


@dataclass(frozen=True)
class CurvePoint:
    """One kind of noise at one share.

    Attributes:
        kind, share: as in `Noise`.
        positions: share of all positions that are really drawn; rounding makes it differ from `share`.
        cases: share of cases with any noise; short histories may have none.
        metrics: `recall@10` and `ndcg@10`, means over cases and noise seeds with 95% intervals over users.
        drops: of each metric, relative to clean: 0.1 is a tenth lost. NaN where the clean metric is zero.
    """

    kind: NoiseKind
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
        weights: as in `Evaluation`.
        cases: one row a case: `user`, and `clean recall@10`, `replace 0.2 recall@10` and so on, means of noise seeds.
    """

    protocol: dict[str, Any]
    seeds: list[int]
    clean: dict[str, Estimate]
    points: list[CurvePoint]
    halting: dict[str, Any] | None = None
    weights: str | None = None
    cases: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the cases, as values that `json.dumps` takes; what is not a number becomes null."""
        parts = asdict(self)
        del parts["cases"]
        return plain(parts)

    def document(self) -> Document:
        """The curves as a table, and how to read them."""
        return Document(protocols.in_words(self.protocol), [_table(self)], _remarks(self))

    def __rich__(self) -> Document:
        return self.document()

    def __str__(self) -> str:
        return self.document().text()


def robustness(
    run: Recommender | str | Path,
    split: Split,
    config: RobustnessConfig | None = None,
    *,
    report: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Rank all cases clean, and under every kind and share of noise; how far do Recall@10 and NDCG@10 fall?

    Args:
        run, split, report: as in `ft.evaluate`.
        config: kinds and shares of noise, and all that an evaluation has to know.

    Raises:
        ConfigError: a halting that the model cannot obey.
        DataError: the split is not the one the run was trained on, or it has no cases.
    """
    config = RobustnessConfig() if config is None else config
    check_all(config=(config, RobustnessConfig), split=(split, Split))
    model = run if isinstance(run, Recommender) else load(run)
    if is_later(split) and model.method.inputs.users:
        raise ConfigError(
            "This run keeps vectors of users and reads those of later data as unknown, which a noise curve does not: "
            "evaluate it with one noise at a time (--noise), or leave the curve out."
        )
    cases, exclude, halting = to_rank(model, split, config)
    if len(cases) == 0:
        raise DataError("There is nothing to evaluate: this part of the split has no cases.")
    ask = partial(_metrics, model, exclude=exclude, halting=halting, batch=config.batch, seed=config.seed)
    draws, seeds = config.draws(), config.noise_seeds
    rounds, n_items = 1 + len(draws) * seeds, split.data.n_items
    tables = [ask(cases, in_turn(report, 0, rounds))]
    for at, noises in enumerate(draws):
        turns = [in_turn(report, 1 + at * seeds + n, rounds) for n in range(seeds)]
        noisy = (noise.on_cases(cases, n_items) for noise in noises)
        tables.append(np.mean([ask(*each) for each in zip(noisy, turns, strict=True)], axis=0))
    estimates, drops = _against_clean(np.stack(tables), cases.history.users, config.resamples, config.seed)
    names = ["clean", *(f"{noises[0].kind} {noises[0].share:g}" for noises in draws)]
    points = [
        _point(noises[0], cases, *figures) for noises, *figures in zip(draws, estimates[1:], drops[1:], strict=True)
    ]
    window = model.method.window
    described = protocols.describe(split, config.part, len(cases), window=window, history_excluded=exclude)
    return Robustness(
        plain(described | protocols.searched(model.method.search)),
        [noise.seed for noise in draws[0]],
        estimates[0],
        points,
        None if halting is None else halting.as_told(),
        model.weights_sum,
        pl.DataFrame(
            {"user": cases.history.users}
            | {
                f"{name} {m}": table[:, c]
                for name, table in zip(names, tables, strict=True)
                for c, m in enumerate(CURVE_METRICS)
            }
        ),
    )


def less_lost(
    runs: Mapping[str, Sequence[pl.DataFrame]], baseline: str, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """How much smaller each method's drops are than the baseline's, paired over users.

    Args:
        runs: the `cases` of each method's runs, a run a training seed. Its drop is that of the mean over runs.
        baseline: one of the methods.

    Returns:
        method -> "replace 0.2 recall@10" and so on -> drop of the baseline minus drop of the method: 0.02 says that
        the method loses two points of a hundred less.

    Raises:
        DataError: the runs were not asked about the same users and the same kinds and shares of noise. That part and
            noise seeds agree is the caller's to see to.
    """
    first = runs[baseline][0]
    for frame in (frame for frames in runs.values() for frame in frames):
        if frame.columns != first.columns or not frame["user"].equals(first["user"]):
            raise DataError("Drops can be compared only over the same cases, and under the same noise.")
    columns = first.columns[1:]
    means = [np.mean([frame[columns].to_numpy() for frame in frames], axis=0) for frames in runs.values()]
    sums = cluster_sums(np.hstack(means), first["user"].to_numpy())[:, :-1]
    totals = np.vstack([sums.sum(axis=0), bootstrap_sums(sums, resamples=resamples, seed=seed)])
    tables = totals.reshape(len(totals), len(runs), -1, len(CURVE_METRICS))  # [1 + R, methods, 1 + points, M]
    clean = np.where(tables[:, :, :1] > 0, tables[:, :, :1], np.nan)  # nothing to lose: no number
    kept = tables[:, :, 1:] / clean
    less = (kept - kept[:, [list(runs).index(baseline)]]).reshape(len(totals), len(runs), -1)
    low, high = interval(less[1:])
    return {
        method: {
            name: Estimate(float(less[0, n, c]), (float(low[n, c]), float(high[n, c])))
            for c, name in enumerate(columns[len(CURVE_METRICS) :])
        }
        for n, method in enumerate(runs)
        if method != baseline
    }


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
    return np.column_stack([metric(ranked.ranks) for metric in CURVE_METRICS.values()])


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
        {name: Estimate(float(m), (float(a), float(b))) for name, m, a, b in zip(CURVE_METRICS, *rows, strict=True)}
        for rows in zip(draws[0], low, high, strict=True)
    ]


def _point(noise: Noise, cases: Cases, metrics: dict[str, Estimate], drops: dict[str, Estimate]) -> CurvePoint:
    lengths = cases.history.lengths
    drawn = noise.drawn(lengths)
    return CurvePoint(
        noise.kind, noise.share, float(drawn.sum() / lengths.sum()), float((drawn > 0).mean()), metrics, drops
    )


def _table(curves: Robustness) -> Table:
    """A row for the clean histories and one for each point."""
    names = list(curves.clean)
    columns = ["noise", "share", "positions", "cases"]
    rows = [["none", "", "", "", *(cell for name in names for cell in (interval_cell(curves.clean[name]), ""))]]
    for name in names:
        columns += [name, "drop"]
    for point in curves.points:
        cells = [
            cell
            for name in names
            for cell in (interval_cell(point.metrics[name]), interval_cell(point.drops[name], ".1%"))
        ]
        size = [f"{point.share:.0%}", number(point.positions, ".1%"), number(point.cases, ".0%")]
        rows.append([point.kind, *size, *cells])
    return Table("robustness to noise, mean [95% interval over users]", columns, rows)


def _remarks(curves: Robustness) -> list[str]:
    kinds = dict.fromkeys(point.kind for point in curves.points)
    return [
        f"{'; '.join(f'{kind}: {WHAT[kind]}' for kind in kinds)}. Mean of noise seeds "
        f"{', '.join(map(str, curves.seeds))}. Histories are noisy, targets and candidates are not.",
        "Drop: share of the clean metric that is lost, paired over users. Positions and cases: how many of them the "
        "noise really touches, as a share of a short history may round to nothing.",
    ]
