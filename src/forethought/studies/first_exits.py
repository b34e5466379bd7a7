"""Stopping before the first step: who does, what it costs them, and whether it is more than chance.

An oracle would spare most cases every step. Whether a halting rule that may stop before the first one does so is asked
of each way of halting: how many cases it leaves without a step, what those lose against the best fixed depth, and
what the same depths would come to had they been dealt to the cases by chance:

    dealt_i = sum_d share_d v_i(d)    with the share of the cases that stop at depth d, v_i(d) the NDCG of case i there

Shapes: D depths (0 .. T), n cases, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forethought.studies.halting_points import (
    CHOSEN,
    LOSS,
    best_depth,
    chosen,
    is_known,
    least_learnt,
    relative_words,
    saved_share,
    threshold_words,
)
from forethought.studies.oracle import learnt
from forethought.studies.page import Page

Relative = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]
"""(NDCG by case, that of a base, which cases they are of) -> their paired difference."""
ROWS = (
    *("way", "threshold", "steps", "without a step", "those against best fixed depth", "all against best fixed depth"),
    *("against the same depths by chance", "steps saved", "FLOPs saved", "time saved"),
)


def dealt(steps_n: np.ndarray, values_Dn: np.ndarray) -> np.ndarray:
    """NDCG expected of each case, [n], if the depths at which the cases stop were dealt to them by chance."""
    share_D = (steps_n == np.arange(len(values_Dn))[:, None]).mean(1)
    return share_D @ values_Dn


def at_start(
    steps_n: np.ndarray, ndcg_n: np.ndarray, values_Dn: np.ndarray, best: int, relative: Relative
) -> dict[str, Any]:
    """Of one way of halting: the share that takes no step, what those lose, and all against the same depths by chance.

    Args:
        best: the best fixed depth.
    """
    all_n = np.arange(len(steps_n))
    left_n = all_n[steps_n == 0]
    return {
        "share": len(left_n) / len(steps_n),
        "those": relative(ndcg_n[left_n], values_Dn[best, left_n], left_n) if len(left_n) else None,
        "chance": relative(ndcg_n, dealt(steps_n, values_Dn), all_n),
    }


def learnt_at_start(
    values_Dn: np.ndarray, features_nF: np.ndarray, users_n: np.ndarray, seed: int, best: int, relative: Relative
) -> list[dict[str, Any]]:
    """Depths chosen before the first step, by what other users' cases tell of what is known there; a point a price."""
    all_n = np.arange(len(users_n))
    points = []
    for price, depth_n in learnt(values_Dn, features_nF, users_n, seed):
        quality_n = values_Dn[depth_n, all_n]
        point = {"price": price, "steps": float(depth_n.mean()), "ndcg@10": float(quality_n.mean())}
        point |= {"share": float((depth_n == 0).mean())}
        points.append(point | relative(quality_n, values_Dn[best], all_n))
    return points


def may_stop_at_start(figures: Mapping[str, Any]) -> bool:
    """Whether the run may stop before it takes any step; what is as it always was is left out of the figures."""
    return "at_start" in figures


def write(page: Page, figures: Mapping[str, Any]) -> None:
    """The answer in words, and a row for each way in which not everybody takes the same."""
    page.say(answer(figures))
    page.say(
        "Who is left without a step by each way of halting: what those lose against the best fixed depth, and all "
        "cases against the best fixed depth and against the same depths dealt to them by chance. What is saved is a "
        "share of what the best fixed depth takes."
    )
    best = best_depth(figures)
    points = [p for p in figures["curve"] if "at_start" in p and p["rule"] not in ("fixed", "soft")]
    page.table(list(ROWS), [_row(point, best) for point in points] + _bounds(figures, best))


def _row(point: Mapping[str, Any], best: Mapping[str, Any]) -> list[object]:
    of = point["at_start"]
    return [
        *(point["way"], threshold_words(point), f"{point['steps']:.2f}", f"{of['share']:.1%}"),
        "" if of["those"] is None else relative_words(of["those"]),
        *(relative_words(point), relative_words(of["chance"])),
        *(saved_share(point[key], best[key]) for key in ("steps", "flops", "ms")),
    ]


def _bounds(figures: Mapping[str, Any], best: Mapping[str, Any]) -> list[list[object]]:
    """Rows of who knows more than a rule: what other users' cases tell before the first step, and an oracle."""
    rows: list[list[object]] = []
    if (point := least_learnt(figures["at_start"])) is not None:
        known = [f"{point['steps']:.2f}", f"{point['share']:.1%}", "", relative_words(point), ""]
        rows.append(["learnt before the first step", "", *known, saved_share(point["steps"], best["steps"]), "", ""])
    least = figures["bounds"]["oracle"]["steps_at_no_loss"]
    known = [f"{least:.2f}", f"at least {_without(least):.1%}", "", "no loss", ""]
    return [*rows, ["oracle at no loss", "", *known, saved_share(least, best["steps"]), "", ""]]


def _without(steps: float) -> float:
    """The share that must be without a step if so many are taken on average: who takes any takes one at least."""
    return max(1 - steps, 0.0)


def answer(figures: Mapping[str, Any]) -> str:
    """Does a head that may stop before the first step save what an oracle could? Chosen on validation, told of test."""
    best, point, least = best_depth(figures), chosen(figures), figures["bounds"]["oracle"]["steps_at_no_loss"]
    said = (
        "This run may stop before its first step. Of the indicators only the entropy is known there, so that rules "
        "that read another go on, and the halting net reads the mean of the others. "
    )
    if not best["steps"]:
        none = "The best fixed depth is none, so there is no step that an exit before the first could save."
        return f"{said}{none} {_chance(figures)}"
    said += (
        f"An oracle that knows what comes next saves {saved_share(least, best['steps'])} of the steps of the best "
        f"fixed depth ({best['steps']:.0f}) without a loss, and leaves at least {_without(least):.1%} of the cases "
        "without a step. "
    )
    return f"{said}{_head(point, best, least)} {_learnt(figures, best)} {_chance(figures)}"


def _head(point: Mapping[str, Any] | None, best: Mapping[str, Any], least: float) -> str:
    if point is None:
        return (
            "The halting net does not: on validation it has no threshold that keeps the lower end of its interval "
            f"above -{LOSS:.0%}."
        )
    saved, possible = best["steps"] - point["steps"], best["steps"] - least
    if saved <= 0:
        does = f"does not, and takes {-saved / best['steps']:.1%} more"
    else:  # a rule may lose a little where the oracle must not
        of = f"{saved / possible:.0%} of what the oracle saves" if possible > 0 else "where the oracle saves none"
        does = f"saves {saved / best['steps']:.1%}, {of}"
    return (
        f"The halting net {does}: at the threshold that validation chose ({point['threshold']:.3g}) it leaves "
        f"{point['at_start']['share']:.1%} of the cases without a step and takes {point['steps']:.2f} on average, with "
        f"NDCG@10 {relative_words(point)} against the best fixed depth."
    )


def _learnt(figures: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """What could be hoped for of what is known before the first step."""
    point = least_learnt(figures["at_start"])
    of = "A rule fitted to other users' cases that reads what is known before the first step"
    if point is None:
        return f"{of} has no price of a step that keeps it there."
    return (
        f"{of}, and decides there, saves {saved_share(point['steps'], best['steps'])}: it leaves {point['share']:.1%} "
        f"without a step ({relative_words(point)})."
    )


def _chance(figures: Mapping[str, Any]) -> str:
    """Where the exits are worth more, or less, than the same ones dealt by chance."""
    counts = []
    for rule, name in CHOSEN.items():
        of = [p["at_start"]["chance"] for p in figures["curve"] if p["rule"] == rule and "at_start" in p]
        # where all stop at one depth there is nothing to deal
        known = [each for each in of if is_known(each) and any(each["relative_ci95"])]
        if known:
            ahead = sum(each["relative_ci95"][0] > 0 for each in known)
            behind = sum(each["relative_ci95"][1] < 0 for each in known)
            counts.append(f"{name} is ahead of chance at {ahead} and behind it at {behind} of {len(known)} thresholds")
    return f"Where not all stop at one depth, {'; '.join(counts)}." if counts else ""
