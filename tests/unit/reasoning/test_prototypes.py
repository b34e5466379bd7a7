from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from forethought.catalogue.catalogue import Catalogue
from forethought.reasoning.prototypes import Prototypes, cluster_counts


@pytest.mark.parametrize("speed", [0.3, 1.0, 2.0])
def test_counts_rise_towards_the_most(speed: float) -> None:
    counts = cluster_counts(16, 512, speed, 5, 10_000)
    assert counts == [round(512 - 496 * math.exp(-speed * (t - 1))) for t in range(1, 6)]
    assert counts[0] == 16
    assert counts == sorted(counts)


def test_counts_stay_within_the_catalogue() -> None:
    assert cluster_counts(16, 512, 1.0, 3, 20) == [16, 20, 20]
    assert cluster_counts(2, 3, 0.1, 2, 20) == [2, 2]
    assert cluster_counts(16, 512, 1.0, 2, 1) == [1, 1]


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_items(n: int) -> None:
    made = Prototypes(cluster_counts(16, 512, 1.0, 2, n), n, 3, unit=True)
    for epoch in range(2):
        made.make(Catalogue(torch.randn(n, 3)), epoch)
    assert made.sizes_K.tolist() == [1] * 2 * n


def blobs(n: int, k: int, width: int) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    of = np.arange(n) % k
    points = rng.normal(size=(k, width))[of] * 3 + rng.normal(size=(n, width)) * 0.05
    return torch.from_numpy(points).float(), of


@pytest.mark.parametrize("unit", [False, True])
def test_clusters_are_found(unit: bool) -> None:
    points, of = blobs(60, 4, 5)
    made = Prototypes([2, 4], 60, 5, unit=unit)
    made.make(Catalogue(points), epoch=0)
    assert adjusted_rand_score(of, made.clusters_of(1, torch.arange(60)).numpy()) == 1.0
    for t in range(2):
        centres, sizes = made.level(t)
        vectors = torch.nn.functional.normalize(points, dim=-1) if unit else points
        cluster = made.clusters_of(t, torch.arange(60))
        for c in range(len(centres)):
            members = vectors[cluster == c]
            assert len(members) == sizes[c]
            direction = torch.nn.functional.normalize(members.mean(0), dim=-1)
            torch.testing.assert_close(centres[c], direction * members.norm(dim=-1).mean(), rtol=1e-4, atol=1e-4)


def test_once_an_epoch_and_warm_started() -> None:
    """The same numbers stand for the same clusters from epoch to epoch; a second call in an epoch changes nothing."""
    points, _ = blobs(60, 4, 5)
    made = Prototypes([4], 60, 5, unit=False)
    made.make(Catalogue(points), epoch=0)
    before = made.clusters_of(0, torch.arange(60)).clone()
    made.make(Catalogue(points * 100), epoch=0)
    assert made.level(0)[0].norm() < 100
    made.make(Catalogue(points + 0.01), epoch=1)
    assert torch.equal(made.clusters_of(0, torch.arange(60)), before)
    assert int(made.made_in) == 1


def test_saved_with_the_weights() -> None:
    points, _ = blobs(60, 4, 5)
    made, again = (Prototypes([4], 60, 5, unit=False) for _ in range(2))
    made.make(Catalogue(points), epoch=3)
    again.load_state_dict(made.state_dict())
    again.make(Catalogue(points * 2), epoch=3)  # made already
    assert torch.equal(again.level(0)[0], made.level(0)[0])
