from __future__ import annotations

import numpy as np
import torch

from forethought.reasoning.step_sampling import sample_steps


def test_all_are_every_pair_once() -> None:
    of = sample_steps(torch.rand(3, 4), draw=False)
    assert sorted(zip(of.step_R.tolist(), of.row_R.tolist(), strict=True)) == [
        (s, p) for s in range(3) for p in range(4)
    ]
    assert of.scale_R.tolist() == [1.0] * 12


def test_draws_follow_the_weights_and_count_by_their_inverse() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 3.0, 4.0])[:, None].expand(3, 20_000).clone().requires_grad_()
    of = sample_steps(weights, draw=True)
    assert of.row_R.tolist() == list(range(20_000))
    np.testing.assert_allclose(np.bincount(of.step_R.numpy()) / 20_000, [1 / 8, 3 / 8, 4 / 8], atol=0.01)
    torch.testing.assert_close(of.scale_R, torch.tensor([8.0, 8 / 3, 2.0])[of.step_R])
    assert not of.scale_R.requires_grad


def test_no_positions() -> None:
    assert len(sample_steps(torch.rand(3, 0), draw=True).step_R) == 0
    assert len(sample_steps(torch.rand(3, 0), draw=False).step_R) == 0
