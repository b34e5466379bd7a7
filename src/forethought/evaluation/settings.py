"""How an evaluation is made: which cases, against which candidates, from which histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forethought.data.noise import Draws, Noise
from forethought.errors import ConfigError
from forethought.evaluation.protocol import Part
from forethought.evaluation.sampled import Sample
from forethought.reasoning.halting import Halting
from forethought.settings import Part as BatchSize
from forethought.settings import Resamples, Seed, Settings


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
    noise_seeds: Draws = 5
    """How often noise is drawn (with its seed, the next one, ...); each case's metrics are their mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and self.sample is not None:
            raise ConfigError(
                "Noise is measured by ranking all items: leave sample out (on the command line --sampled)."
            )

    def noted(self) -> dict[str, Any]:
        """What it adds to a protocol."""
        return {} if self.noise is None else {"noise": self.noise.protocol(self.noise_seeds)}
