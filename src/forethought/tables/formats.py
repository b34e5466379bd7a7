"""Numbers as cells of a table, and a dash where there is none."""

from __future__ import annotations

import math

NONE = "–"
PREFIXES = ("", " k", " M", " G", " T", " P", " E")


def number(value: float | None, form: str) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:{form}}"


def count(value: float | None) -> str:
    return number(value, ",.0f")


def si(value: float | None) -> str:
    """Three digits and a prefix: `12.3 M`."""
    if value is None or not math.isfinite(value):
        return NONE
    place = 0
    while abs(float(f"{value:.3g}")) >= 1000 and place < len(PREFIXES) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g}{PREFIXES[place]}"
