"""Theta of CORP, chosen on the validation part: the one that ranks best, of equal ones the one that prunes least.

Divergences hang on how many categories there are and how sharply a head believes in them, so that no figure of another
data set holds here. Thetas to try come from the divergences of true paths; not to prune is always tried too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

NEVER = math.log(2)  # no divergence is larger
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99)  # of true tokens that are let through


@dataclass(frozen=True)
class Calibration:
    """The theta that was chosen, and what each came to, in the order in which they were tried."""

    theta: float
    ndcgs: dict[float, float]


def calibrate_theta(ndcg: Callable[[float], float], thetas: Iterable[float]) -> Calibration:
    """The theta with the highest NDCG@10 on the validation part.

    Args:
        ndcg: what decoding with a theta comes to; NaN never wins.
        thetas: to be tried, beside not to prune at all.
    """
    ndcgs = {theta: ndcg(theta) for theta in sorted({*thetas, NEVER}, reverse=True)}
    known = {theta: value for theta, value in ndcgs.items() if not math.isnan(value)}
    return Calibration(max(known, key=lambda theta: (known[theta], theta), default=NEVER), ndcgs)


def thetas_of(jensen_shannon: Tensor) -> list[float]:
    """Thetas worth trying: quantiles of the divergences of true paths, NaN left out; the least first."""
    real = jensen_shannon[~jensen_shannon.isnan()].double().cpu()
    if not real.numel():
        return []
    real, n = real.sort().values, real.numel()
    return sorted({float(real[min(n - 1, int(share * n))]) for share in SHARES})
