"""How an evaluation is made: which cases, against which candidates, from which histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forethought.data.noise import Draws, Noise
from forethought.errors import ConfigError
from forethought.evaluation.metrics import CUTS, Metric
from forethought.evaluation.protocol import Part
from forethought.evaluation.sampled import Sample
from forethought.reasoning.halting import Halting
from forethought.settings import Count, Resamples, Seed, Settings
from forethought.settings import Part as BatchSize


@dataclass(frozen=True, kw_only=True)
class RankingConfig(Settings):
    """What every way to rank the cases of a run has to know."""

    part: Part = "test"
    """Which cases are ranked."""
    exclude_history: bool | None = None
    """Leave a user's history out of the candidates; None: as the run was trained."""
    halting: Halting | None = None
    """When to stop reasoning; None: as the run was trained."""
    batch: BatchSize = 1024
    """Cases encoded together; metrics depend on it by rounding alone, unless rows halt at random."""
    resamples: Resamples = 1000
    """Of the bootstrap behind the intervals."""
    seed: Seed = 0
    """Of the bootstrap, and of halting at random."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(RankingConfig):
    """Configuration of one evaluation."""

    lists: bool = True
    """Also make top-20 lists, for coverage, Gini, novelty and popularity bias."""
    sample: Sample | None = None
    """Rank among sampled negatives instead of all items; labelled as biased wherever it is shown."""
    noise: Noise | None = None
    """On the histories that are read; targets and candidates stay those of the clean ones. The protocol names it, and
    `compare` mixes it with no other."""
    cutoffs: tuple[Count, ...] = CUTS
    """Lengths of lists at which metrics are taken."""
    metrics: tuple[Metric, ...] = ()
    """Metrics of one's own beside the others; for those over lists, these are 20 long, or as the longest cut-off."""
    groups_by: tuple[str, ...] = ()
    """Columns of the items, or of a table of users, by whose values cases are shown in groups."""
    noise_seeds: Draws = 5
    """How often noise is drawn (with its seed, the next one, ...); each case's metrics are their mean."""
    unknown_users: bool = False
    """Read each history as that of somebody unknown, as `recommend` does, though its user may have been trained on:
    for methods with vectors of users (SSE-PT). The protocol says so, and `compare` holds both against each other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cutoffs or len({*self.cutoffs}) < len(self.cutoffs):
            raise ConfigError(f"cutoffs are {self.cutoffs}, but must be lengths such as (5, 10, 20), each named once.")
        if len(names := [each.name for each in self.metrics]) > len({*names}):
            raise ConfigError(f"Two metrics have one name ({', '.join(names)}): give each its own.")
        if self.sample is not None and any(each.reads_lists for each in self.metrics):
            raise ConfigError("A metric over lists needs the ranking of all items: leave sample out (--sampled).")
        if self.noise is not None and self.sample is not None:
            raise ConfigError(
                "Noise is measured by ranking all items: leave sample out (on the command line --sampled)."
            )

    def noted(self) -> dict[str, Any]:
        """What it adds to a protocol."""
        strangers = {"unknown_users": True} if self.unknown_users else {}
        return strangers | ({} if self.noise is None else {"noise": self.noise.protocol(self.noise_seeds)})
