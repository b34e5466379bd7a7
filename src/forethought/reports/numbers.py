"""Numbers as cells of a table, a dash where there is none; and noise in a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PREFIXES = ("", " k", " M", " G", " T", " P", " E")


def number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:{form}}"


def count(value: float | None) -> str:
    return number(value, ",.0f")


def si(value: float | None) -> str:
    """Three digits and a prefix: `12.3 M`."""
    if value is None or not math.isfinite(value):
        return "–"
    place = 0
    while abs(float(f"{value:.3g}")) >= 1000 and place < len(PREFIXES) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g}{PREFIXES[place]}"


def noisy(noise: Mapping[str, Any]) -> str:
    """Noise as a protocol or a configuration has it: `replace 20%, seeds 0 to 4`."""
    last = noise["seed"] + noise.get("seeds", 1) - 1
    seeds = f"seed {last}" if last == noise["seed"] else f"seeds {noise['seed']} to {last}"
    return f"{noise['kind']} {100 * noise['share']:g}%, {seeds}"
