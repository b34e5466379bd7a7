from __future__ import annotations

import numpy as np
import torch

import reference
from forethought.reasoning.contrast import info_nce, info_nce_both, positives


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    a, o = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    ignored = rng.random((5, 5)) < 0.4
    got = info_nce(torch.from_numpy(a), torch.from_numpy(o), 0.3, torch.from_numpy(ignored))
    np.testing.assert_allclose(got.numpy(), reference.info_nce(a, o, 0.3, ignored), rtol=1e-12)


def test_alone_there_is_nothing_to_tell_apart() -> None:
    assert info_nce(torch.ones(1, 2), torch.ones(1, 2), 1.0).tolist() == [0.0]


def test_both_directions() -> None:
    torch.manual_seed(0)
    a, o, ignored = torch.randn(6, 3).double(), torch.randn(6, 3).double(), torch.rand(6, 6) < 0.4
    wanted = (info_nce(a, o, 0.3, ignored) + info_nce(o, a, 0.3, ignored.T)) / 2
    torch.testing.assert_close(info_nce_both(a, o, 0.3, ignored), wanted)
    torch.testing.assert_close(info_nce_both(a, o, 0.3), (info_nce(a, o, 0.3) + info_nce(o, a, 0.3)) / 2)
    assert info_nce_both(a[:0], o[:0], 0.3).shape == (0,)


def test_partners_share_a_label() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([3, 1, 3, 7, 1, 3, 9])
    seen: dict[int, set[int]] = {}
    for _ in range(200):
        partner = positives(labels)
        assert torch.equal(labels[partner], labels)
        assert sorted(partner.tolist()) == list(range(7))
        for row, other in enumerate(partner.tolist()):
            seen.setdefault(row, set()).add(other)
    assert seen == {0: {2, 5}, 2: {0, 5}, 5: {0, 2}, 1: {4}, 4: {1}, 3: {3}, 6: {6}}
    assert positives(labels[:0]).tolist() == []
