"""What is read off the curve of one model: its best fixed depth, the points that validation chose, and their words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIXED, FITTED = "fixed depth", "ARH, fitted on validation"
LOSS = 0.01  # relative; less is no loss
CHOSEN = {"arh": "ARH", "change": "change (REE)", "entropy": "entropy", "doubt": "doubt"}
"""Rules whose thresholds validation chooses, and what they are called."""
CAPPED = {"doubt": "doubt", "arh": "ARH, at most the best fixed depth"}
"""Rules that may only stop before the best fixed depth, and what they are called."""


def best_depth(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The point of the best fixed depth."""
    return next(p for p in figures["curve"] if p["way"] == FIXED and p["steps"] == figures["best_fixed"])


def chosen(figures: Mapping[str, Any], rule: str = "arh") -> dict[str, Any] | None:
    """A rule with the fewest steps at no loss against the best fixed depth, all on validation; None: no point."""
    ways = [p for p in figures["curve"] if p["rule"] == rule and "valid" in p and is_known(p["valid"])]
    sound = [p for p in ways if p["valid"]["relative_ci95"][0] > -LOSS]
    return min(sound, key=lambda p: p["valid"]["steps"], default=None)


def least_learnt(bounds: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The learnt rule with the fewest steps at no loss."""
    sound = [point for point in bounds["learnt"] if is_known(point) and point["relative_ci95"][0] > -LOSS]
    return min(sound, key=lambda point: point["steps"], default=None)


def is_known(figures: Mapping[str, Any]) -> bool:
    """Of a base that finds nothing in some resample there are no shares."""
    return None not in figures["relative_ci95"]


def relative_words(difference: Mapping[str, Any]) -> str:
    if not is_known(difference):
        return "unknown"
    low, high = difference["relative_ci95"]
    return f"{difference['relative']:+.1%} [{low:+.1%}, {high:+.1%}]"


def threshold_words(point: Mapping[str, Any]) -> str:
    return "" if point["rule"] in ("fixed", "soft") else f"{point['threshold']:.3g}"


def saved_share(spent: float | None, of: float) -> str:
    """What is saved of a base, as a share; of nothing nothing can be saved."""
    return "" if spent is None or not of else f"{1 - spent / of:.1%}"
