"""Theta of CORP, chosen on the validation part: the one that ranks best, of equal ones the one that prunes least.

Divergences hang on how many categories there are and how sharply a head believes in them, so that no figure of another
data set holds here. Not to prune is always tried too, and where the strictest theta ranks as that does, to the last
digit, the ones between have nothing to change and are spared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

NEVER = math.log(2)  # no divergence is larger
THETAS = (0.02, 0.04, 0.06, 0.08, 0.1)  # to be tried


@dataclass(frozen=True)
class Calibration:
    """The theta that was chosen, and what each that was tried came to."""

    theta: float
    ndcgs: dict[float, float]

    def described(self) -> str:
        """In a sentence."""
        ndcgs = ", ".join(f"{value:.4f} at {theta:.3g}" for theta, value in sorted(self.ndcgs.items()))
        kept = "nothing is pruned" if self.theta == NEVER else f"paths are pruned at theta {self.theta:g}"
        return f"By NDCG@10 of paths alone on the validation part ({ndcgs}) {kept} (CORP)."


def calibrate_theta(ndcg: Callable[[float], float], thetas: Iterable[float] = THETAS) -> Calibration:
    """The theta with the highest NDCG@10 on the validation part.

    Args:
        ndcg: what decoding with a theta comes to; NaN never wins.
        thetas: to be tried, beside not to prune at all.
    """
    *between, least = sorted(set(thetas) - {NEVER}, reverse=True)
    ndcgs = {NEVER: ndcg(NEVER), least: ndcg(least)}
    if ndcgs[least] != ndcgs[NEVER]:
        ndcgs |= {theta: ndcg(theta) for theta in between}
    known = {theta: value for theta, value in ndcgs.items() if not math.isnan(value)}
    return Calibration(max(known, key=lambda theta: (known[theta], theta), default=NEVER), ndcgs)
