"""What a comparison says of each method: its own numbers, and its differences to the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forethought.evaluation.statistics import Estimate


@dataclass(frozen=True)
class MethodSummary:
    """One method's own numbers.

    Attributes:
        seeds: how many evaluations were averaged.
        metrics: means with 95% intervals over users.
        seed_means: each seed's mean, by metric.
        seed_std: their standard deviation (n - 1), by metric; None with a single seed.
        cost: means over the seeds, where they are known: `parameters`; `steps`; `flops` and `ms` of a history (read and
            thought about), `rank_flops` and `rank_ms`; `states_per_second`; `epochs`, `train_s_per_epoch` and
            `train_flops_per_epoch`.
        window: the longest history it reads, in items.
        halting: how it stopped thinking; None if it does not reason.
        noise: of the histories it read, as the protocol has it; None if they were clean.
        unknown_users: whether it read them as if nobody knew whose they are, though it keeps vectors of users.
    """

    seeds: int
    metrics: dict[str, Estimate]
    seed_means: dict[str, list[float]]
    seed_std: dict[str, float | None]
    cost: dict[str, float]
    window: int | None
    halting: dict[str, Any] | None = None
    noise: dict[str, Any] | None = None
    unknown_users: bool = False


@dataclass(frozen=True)
class Difference:
    """A method less another one, mostly the baseline, in one metric.

    Attributes:
        against: what is subtracted.
        absolute: difference of the means, with a paired 95% interval.
        relative: the same as a share of the other's mean; NaN where that is zero.
        p: of the paired sign-flip permutation test.
        p_holm: the same after Holm's correction over all differences of the comparison.
    """

    method: str
    metric: str
    against: str
    absolute: Estimate
    relative: Estimate
    p: float
    p_holm: float
