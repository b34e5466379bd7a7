"""Options of what evidence is counted from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PREFIX = "evidence_"


@dataclass(kw_only=True)
class EvidenceTables:
    """What is counted, and how much of a history speaks; what is not given is as the method has it."""

    evidence_neighbours: int | None = None
    """Most neighbours of an item by co-occurrence (20)."""
    evidence_window: int | None = None
    """How many places apart items co-occur (20)."""
    evidence_directed: bool = False
    """What came later speaks for nothing earlier."""
    evidence_likenesses: int | None = None
    """Most neighbours of an item by likeness of vectors, or by EASE (50)."""
    evidence_most_popular: int | None = None
    """How many items speak for themselves by being popular (200)."""
    evidence_weeks: float | None = None
    """Popular is what was met in the last so many weeks (4)."""
    evidence_last: int | None = None
    """How many items of a history speak, the last ones (10)."""
    evidence_recency: float | None = None
    """An item k places back counts this to the power of k (.8)."""

    def given(self) -> dict[str, Any]:
        """By the names of `Evidence`."""
        return {name.removeprefix(PREFIX): value for name, value in asdict(self).items() if value not in (None, False)}
