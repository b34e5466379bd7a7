from __future__ import annotations

import math

import numpy as np
import torch

from forethought.thinking.contrast import info_nce


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    a, o = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    ignored = rng.random((5, 5)) < 0.4
    wanted = []
    for p in range(5):
        rest = [q for q in range(5) if q == p or not ignored[p, q]]
        wanted.append(-math.log(math.exp(a[p] @ o[p] / 0.3) / sum(math.exp(a[p] @ o[q] / 0.3) for q in rest)))
    got = info_nce(torch.from_numpy(a), torch.from_numpy(o), 0.3, torch.from_numpy(ignored))
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)


def test_alone_there_is_nothing_to_tell_apart() -> None:
    assert info_nce(torch.ones(1, 2), torch.ones(1, 2), 1.0).tolist() == [0.0]
