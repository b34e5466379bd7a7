"""Which format each layer gets: by a tolerance, within a budget, or the same for all.

A layer whose damage is not known (nothing that the model says depends on it) stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forethought.precision.formats import TRAINED, Format

Assignment = dict[str, Format]
Costs = Mapping[str, Mapping[Format, float]]
"""Seconds, by layer and format; formats that are not to be had are left out."""
Damages = Mapping[str, Mapping[Format, float]]
Way = tuple[float, float, tuple[Format, ...]]
"""Costs and damages of some layers added up, and their formats."""
MOST_KEPT = 20_000  # partial assignments, of those that none other beats; beyond, those of nearly equal cost are one


def by_tolerance(
    damages: Damages, costs: Costs, tolerance: float, before: Mapping[str, Format], hysteresis: float
) -> Assignment:
    """The cheapest format of each layer whose damage is within the tolerance.

    A layer stays as it was while that is within the tolerance, unless something cheaper is so by the hysteresis.
    """
    assignment: Assignment = {}
    for name, cost in costs.items():
        nats: dict[Format, float] = {"fp32": 0.0, **damages.get(name, {})}
        # what is narrower than now must be so by more than the noise of a sampling
        most = dict.fromkeys(nats, tolerance / hysteresis) | {before.get(name, "fp32"): tolerance}
        assignment[name] = _least([each for each in _known(cost, nats) if nats[each] <= most[each]], cost, nats)
    return assignment


def within_budget(damages: Damages, costs: Costs, budget: float) -> Assignment | None:
    """The assignment of least damage whose costs add up to the budget at most; of equals the cheaper one.

    Exact as long as no more than `MOST_KEPT` partial assignments are worth keeping; beyond that near it, and still
    within the budget. None: even the cheapest assignment is above the budget.
    """
    kept: list[Way] = [(0.0, 0.0, ())]
    for name, cost in costs.items():
        nats: dict[Format, float] = {"fp32": 0.0, **damages.get(name, {})}
        options = _known(cost, nats)
        ways: list[Way] = [(c + cost[e], d + nats[e], (*way, e)) for c, d, way in kept for e in options]
        kept = _unbeaten([way for way in ways if way[0] <= budget], budget)
    if not kept:
        return None
    return dict(zip(costs, min(kept, key=lambda each: (each[1], each[0]))[2], strict=True))


def _unbeaten(ways: Sequence[Way], budget: float) -> list[Way]:
    """Those that no cheaper one beats in damage."""
    best: list[Way] = []
    for way in sorted(ways, key=lambda each: each[:2]):
        if not best or way[1] < best[-1][1]:
            best.append(way)
    if len(best) <= MOST_KEPT:
        return best
    bins = {}
    for cost, nats, way in best:  # damage falls along them: the last of a bin is its best, and its dearest
        bins[int(cost / budget * MOST_KEPT)] = (cost, nats, way)
    return list(bins.values())


def _known(cost: Mapping[Format, float], nats: Mapping[Format, float]) -> list[Format]:
    """The formats whose cost and damage are known."""
    both = cost.keys() & nats.keys()
    return [each for each in TRAINED if {each} <= both]


def _least(formats: Sequence[Format], cost: Mapping[Format, float], nats: Mapping[Format, float]) -> Format:
    return min(formats, key=lambda each: (cost[each], nats[each]))


def cheapest(costs: Costs) -> Assignment:
    return {name: min(cost, key=lambda each: cost[each]) for name, cost in costs.items()}


def total(of: Mapping[str, Mapping[Format, float]], assignment: Mapping[str, Format]) -> float:
    """Costs, or damages, of an assignment, added up; what is not known is 0."""
    return sum(of.get(name, {}).get(each, 0.0) for name, each in assignment.items())
