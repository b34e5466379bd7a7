"""Directions in two dimensions: principal components by a singular value decomposition."""

from __future__ import annotations

import numpy as np


def project(vectors_PD: np.ndarray, first: int, last: int) -> tuple[np.ndarray, float]:
    """Places [P, 2] of vectors in the plane that holds most of their spread, and its share of that spread.

    Length is left out, since nearness is judged by angle. A decomposition leaves signs open: the way from row `first`
    to row `last` goes to the right and up.
    """
    units = vectors_PD / np.maximum(np.linalg.norm(vectors_PD, axis=1, keepdims=True), 1e-12)
    centred = units - units.mean(0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(units), 2))
    kept = min(2, len(spread))
    places[:, :kept] = left[:, :kept] * spread[:kept]
    way = places[last] - places[first]
    total = float((spread**2).sum())
    return places * np.where(way < 0, -1.0, 1.0), float((spread[:kept] ** 2).sum()) / total if total else 1.0
