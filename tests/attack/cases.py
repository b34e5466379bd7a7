"""What an attack consists of: cases, each with a name by which it alone can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from attack.ground import Lane
from attack.verdict import Verdict


@dataclass(frozen=True)
class Case:
    """One thing that is done to Forethought.

    Attributes:
        kind: of attack: a line of the report.
        name: tells it from all others of its kind, the same in every run.
        do: carries it out in a lane.
        always: never left out where only some cases are drawn.
    """

    kind: str
    name: str
    do: Callable[[Lane], Verdict]
    always: bool = False

    @property
    def label(self) -> str:
        return f"{self.kind}/{self.name}"


def some(cases: Iterable[Case], n: int, seed: int) -> list[Case]:
    """n of the cases, drawn evenly, in the order given; those that are never left out are all among them, unless they
    alone are more than twice as many."""
    cases = list(cases)
    kept = {at for at, case in enumerate(cases) if case.always}
    if len(kept) > 2 * n:
        kept = set(random.Random(f"always {seed}").sample(sorted(kept), n))
    drawn = [at for at, case in enumerate(cases) if not case.always]
    more = max(0, min(n - len(kept), len(drawn)))
    kept |= set(random.Random(seed).sample(drawn, more))
    return [cases[at] for at in sorted(kept)]


def spread(values: Sequence[Any], n: int) -> list[Any]:
    """n of the values at even distances, the first and the last among them."""
    if n >= len(values):
        return list(values)
    return [values[round(at * (len(values) - 1) / max(n - 1, 1))] for at in range(n)]
