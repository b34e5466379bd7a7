"""Dropout: what is kept, by how much it is scaled, and that the generator alone decides."""

import pytest
import torch

from forethought.nn.dropout import Dropout

UNITS = 200_003  # no multiple of the eight that share a draw


@pytest.mark.parametrize(("share", "really"), [(0.5, 0.5), (0.35, 90 / 256), (0.001, 1 / 256), (0.999, 255 / 256)])
def test_share_and_scale(share: float, really: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(UNITS, requires_grad=True)
    y = Dropout(share)(x)
    kept = y != 0
    deviation = (really * (1 - really) / UNITS) ** 0.5
    assert kept.double().mean().item() == pytest.approx(1 - really, abs=5 * deviation)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - really)))
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())  # what was dropped learns nothing


def test_neighbours_are_independent() -> None:
    torch.manual_seed(2)
    kept = (Dropout(0.5)(torch.ones(UNITS)) != 0).double()
    for lag in (1, 2, 7, 8, 9, 64):
        together = (kept[lag:] * kept[:-lag]).mean().item()
        assert together == pytest.approx(0.25, abs=0.006), lag


def test_seed_decides_and_evaluation_drops_nothing() -> None:
    layer, x = Dropout(0.4), torch.randn(3, 5, 7, dtype=torch.float64)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_any_shape_goes() -> None:
    for shape in ((), (1,), (0, 4), (2, 3)):
        assert Dropout(0.5)(torch.ones(shape)).shape == shape
