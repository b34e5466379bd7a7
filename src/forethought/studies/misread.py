"""What a halting rule bears: its steps and its quality where indicators are read with noise, a bias or a wrong scale.

Errors are in standard deviations of each indicator, and every rule begins at the same mean number of steps, which the
validation part sets, so that rules can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import torch

from forethought.evaluation.thresholds import compared, exits
from forethought.reasoning.halting import INDICATORS, Halting, Rule, Trace
from forethought.reasoning.indicator_noise import IndicatorNoise
from forethought.studies.page import Page

AMOUNTS = (0.0, 0.25, 0.5, 1.0, 2.0)  # deviations; of a scale, so many times more
KINDS = {"std": "noise", "bias": "bias", "scale": "scale"}
RULES: tuple[Rule, ...] = tuple(cast("Rule", name) for name in ("arh", *INDICATORS) if name in get_args(Rule))
HELD = 1.0  # deviations that the sentence is about

Ask = Callable[[Halting], dict[str, Any]]
"""A way of halting -> its steps by case (`exits`) and its figures of the test part."""


def probe(trace: Trace, ask: Ask, relative: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]) -> list[dict]:
    """A row for each rule, kind of error and amount; nothing where there is no choice.

    Args:
        trace: of the validation part, which sets the thresholds.
        relative: (figures, those without error) -> their paired difference.
    """
    if trace.halts_PT.shape[1] < 2:
        return []
    first, T = trace.first, trace.states_PSD.shape[1] - 1
    rows = []
    for rule in RULES:
        threshold = at_steps(compared(trace, rule), rule, (first + T) / 2, first)
        if threshold is None:
            continue
        way = Halting(rule=rule, threshold=threshold, min_steps=first)
        still = ask(way)
        for kind in KINDS:
            for amount in AMOUNTS:
                noise = IndicatorNoise(**{kind: amount})
                got = ask(replace(way, noise=noise)) if amount else still
                row = {"rule": rule, "threshold": threshold, "kind": kind, "amount": amount}
                row |= {"steps": float(got["exits"].mean()), "ndcg@10": float(got["ndcg"].mean())}
                rows.append(row | {"same_exit": float((got["exits"] == still["exits"]).mean()), **relative(got, still)})
    return rows


def at_steps(values_PT: torch.Tensor, rule: str, steps: float, first: int = 1) -> float | None:
    """The threshold whose mean steps are nearest to so many, among what the rule compares.

    Args:
        values_PT: of the steps from `first` on, [P, T] or [P, T + 1]; unknown ones (NaN) stop nobody.
        first: the step after which a row may first stop, 0 or 1.

    Returns:
        None where nothing is known at any step that could end early.
    """
    known = values_PT[:, :-1].double().numpy()
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    flat = np.quantile(known, np.linspace(0, 1, 201))
    taken = [float(exits(values_PT.double(), float(each), rule, first).double().mean()) for each in flat]
    return float(flat[int(np.argmin(np.abs(np.array(taken) - steps)))])


def write(page: Page, rows: Sequence[dict[str, Any]]) -> None:
    page.say(
        "Indicators read wrongly, in standard deviations of each: Gaussian noise, a bias, or a scale that is so much "
        "too large. Each rule begins where validation has it take the same mean number of steps. " + conclusion(rows)
    )
    page.table(
        ["rule", "error", "deviations", "steps", "same exit as without", "NDCG@10", "against without"],
        [
            (
                *(row["rule"], KINDS[row["kind"]], f"{row['amount']:g}", f"{row['steps']:.2f}"),
                *(f"{row['same_exit']:.0%}", row["ndcg@10"], _words(row)),
            )
            for row in rows
        ],
    )


def conclusion(rows: Sequence[dict[str, Any]]) -> str:
    """Which rule keeps its exits best at one deviation, and whether any loses quality at any amount."""
    said = []
    for kind, name in KINDS.items():
        kept = {row["rule"]: row["same_exit"] for row in rows if row["kind"] == kind and row["amount"] == HELD}
        best, worst = max(kept, key=lambda rule: kept[rule]), min(kept, key=lambda rule: kept[rule])
        said.append(
            f"under {name} all rules keep {kept[best]:.0%} of their exits"
            if kept[best] == kept[worst]
            else f"under {name} {best} keeps most of its exits ({kept[best]:.0%}), {worst} fewest ({kept[worst]:.0%})"
        )
    known = [row for row in rows if row["amount"] and None not in row["relative_ci95"]]
    lost = [row for row in known if row["relative_ci95"][1] < 0]
    at_one = f"At one deviation, {'; '.join(said)}. "
    if not known:
        return at_one + "What that does to NDCG@10 is not known from so few cases."
    if not lost:
        least = min(row["relative_ci95"][0] for row in known)
        return at_one + (
            f"No rule loses NDCG@10 at any amount: no interval lies below zero, and the widest reaches {least:+.1%}; "
            "who stops when is then not what quality hangs on."
        )
    worst = min(lost, key=lambda row: row["relative"])
    names = ", ".join(dict.fromkeys(row["rule"] for row in lost))
    return at_one + (
        f"NDCG@10 is lost by {names}: most by {worst['rule']} under {KINDS[worst['kind']]} of {worst['amount']:g} "
        f"({_words(worst)})."
    )


def _words(row: dict[str, Any]) -> str:
    if None in row["relative_ci95"] or row["relative"] is None:
        return "unknown"
    low, high = row["relative_ci95"]
    return f"{row['relative']:+.1%} [{low:+.1%}, {high:+.1%}]"
