"""What any halting rule could reach: two bounds on adaptive depth, from the quality of every case at every depth.

    oracle    knows what comes next, and so what each depth would be worth to each case; no rule can do better:
              max sum_i v_i(d_i)  such that  sum_i d_i <= budget, which a linear programme bounds from above
    learnt    reads what rules read, and was fitted on other users' cases with what came next: what could be hoped for

Where the oracle saves little, no rule saves more. Where it saves much and the learnt one nothing, what would save is
not to be seen in the indicators.

Shapes: D depths (0 .. T), n cases, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FOLDS = 5
PRICES = tuple(np.geomspace(1e-4, 0.03, 12).tolist())  # of a step, in NDCG


def hull_steps(values_Dn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's best quality by mean steps: the upper concave hull of all cases' hulls.

    Returns:
        Mean steps and mean quality at the corners, both ascending from all cases at depth 0.
    """
    D, n = values_Dn.shape
    slopes, widths = [], []
    at_n = np.zeros(n, dtype=np.int64)
    cases = np.arange(n)
    while True:
        ahead_Dn = np.arange(D)[:, None] - at_n
        gains_Dn = values_Dn - values_Dn[at_n, cases]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope_Dn = np.where(ahead_Dn > 0, gains_Dn / ahead_Dn, -np.inf)
        best_n = slope_Dn.argmax(0)
        slope_n = slope_Dn[best_n, cases]
        going_n = slope_n > 0
        if not going_n.any():
            break
        slopes.append(slope_n[going_n])
        widths.append((best_n - at_n)[going_n])
        at_n = np.where(going_n, best_n, at_n)
    slope, width = (np.concatenate([*each, np.zeros(0)]) for each in (slopes, widths))
    order = np.argsort(-slope, kind="stable")
    steps = np.concatenate([[0.0], np.cumsum(width[order])]) / n
    quality = values_Dn[0].mean() + np.concatenate([[0.0], np.cumsum((slope * width)[order])]) / n
    return steps, quality


def least_steps(steps: np.ndarray, quality: np.ndarray, wanted: float) -> float | None:
    """The fewest mean steps at which a rising curve reaches a quality; None where it never does."""
    if quality[-1] < wanted - 1e-12:
        return None
    return float(np.interp(wanted, quality, steps)) if quality[0] < wanted else 0.0


def oracle(values_Dn: np.ndarray, best_fixed: int) -> dict[str, Any]:
    """What nobody can do better: its quality at full length, and the fewest steps as good as the best fixed depth."""
    steps, quality = hull_steps(values_Dn)
    return {
        "ndcg@10": float(quality[-1]),
        "steps": float(steps[-1]),
        "steps_at_no_loss": least_steps(steps, quality, float(values_Dn[best_fixed].mean())),
    }


def beside(values_Dn: np.ndarray, first: int, steps: float, quality: float) -> dict[str, float | None]:
    """The oracle beside a rule: its best quality with as many steps, and the fewest steps for as much quality.

    Args:
        first: steps that the rule always takes, 0 or 1; the oracle takes them too.
        steps, quality: means of the rule, on the same cases.
    """
    at, best = hull_steps(values_Dn[first:])
    least = least_steps(at, best, quality)
    return {
        "ndcg@10": float(np.interp(steps - first, at, best)),
        "steps": None if least is None else first + least,
    }


def learnt(
    values_Dn: np.ndarray, features_nF: np.ndarray, users_n: np.ndarray, seed: int
) -> list[tuple[float, np.ndarray]]:
    """Depths chosen case by case by what is expected of them, for each price of a step.

    What each depth adds is predicted by gradient boosting from cases of other users (cross-fitted), so that nothing is
    judged by what it was fitted on. It sees the features of all steps at once, more than a rule that must decide at
    each has.

    Returns:
        Prices, each with the depth of every case, int64 [n].
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import GroupKFold

    D, n = values_Dn.shape
    expected_Dn = np.zeros((D, n))
    folds = min(FOLDS, len(np.unique(users_n)))
    for fitted, held_out in GroupKFold(folds, shuffle=True, random_state=seed).split(features_nF, groups=users_n):
        for depth in range(1, D):
            model = HistGradientBoostingRegressor(max_iter=60, learning_rate=0.05, random_state=seed)
            model.fit(features_nF[fitted], (values_Dn[depth] - values_Dn[0])[fitted])
            expected_Dn[depth, held_out] = model.predict(features_nF[held_out])
    return [(price, (expected_Dn - price * np.arange(D)[:, None]).argmax(0)) for price in PRICES]
