"""k-means against Lloyd's algorithm written out: iterations, the sphere, the warm start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import reference
from forethought.catalogue.catalogue import Catalogue
from forethought.reasoning.prototypes import ITERATIONS, Prototypes

N, K, D = 80, 6, 3


def points(seed: int) -> torch.Tensor:
    """No clusters to speak of, so that where one ends depends on where one began."""
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def clustered(made: Prototypes) -> np.ndarray:
    return made.clusters_of(0, torch.arange(N)).numpy()


@pytest.mark.parametrize("seed", [3, 11, 31])
@pytest.mark.parametrize("unit", [False, True])
def test_the_next_epoch_goes_on_from_the_last_centres(unit: bool, seed: int) -> None:
    made, cold = (Prototypes([K], N, D, unit=unit) for _ in range(2))
    made.make(Catalogue(points(1000 + seed)), epoch=0)
    start = made.level(0)[0].clone().numpy()
    made.make(Catalogue(points(seed)), epoch=1)
    vectors = reference.unit(points(seed).numpy()) if unit else points(seed).numpy()
    wanted = reference.lloyd(vectors, start, ITERATIONS, sphere=unit)
    np.testing.assert_array_equal(clustered(made), wanted)
    cold.make(Catalogue(points(seed)), epoch=1)
    assert (clustered(cold) != wanted).any()  # from anywhere else it ends elsewhere
    if unit:  # and by distance elsewhere again
        assert (reference.lloyd(vectors, start, ITERATIONS, sphere=False) != wanted).any()


@pytest.mark.parametrize("seed", range(4))
def test_clusters_have_settled(seed: int) -> None:
    """One more round of Lloyd's moves nobody: iterations are as many as it takes."""
    made, vectors = Prototypes([K], N, D, unit=False), points(seed)
    made.make(Catalogue(vectors), epoch=0)
    of = clustered(made)
    means = np.stack([vectors.numpy()[of == c].mean(0) for c in range(K)])
    np.testing.assert_array_equal(reference.lloyd(vectors.numpy(), means, 1, sphere=False), of)
