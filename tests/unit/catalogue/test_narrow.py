"""The walk in bfloat16 against float64: what is rounded, what is not, and what it falls back to.

Tolerances: a bfloat16 number is off by 2^-9 (0.2%) at most, so a score of up to 1 / 0.085 by 2 * 0.2% of that at most,
0.046 nats, and by a quarter of it as a rule; errors of many items cancel in part. So 0.02 nats for a log-sum-exp, here
with rows that hang on one item, and 1.5% of its length (Frobenius) for a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue import blocks, losses, narrow
from forethought.catalogue.blocks import VECTOR
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments, weighted_lse
from forethought.catalogue.narrow import Scorer, narrow_products, padded, row_sums
from forethought.catalogue.soft_targets import soft_target

P, N, D = 70, 1500, 16
LSE_WITHIN, GRADIENT_WITHIN = 0.02, 0.015


@pytest.fixture(params=["whole", "rows", "rows and shards"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One block, blocks of 32 rows, and shards of 400 items as well."""
    if request.param != "whole":
        monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
        monkeypatch.setattr(blocks, "MIN_ROWS", 32)
    if request.param == "rows and shards":
        monkeypatch.setattr(narrow, "item_shards", lambda n_items: blocks.item_shards(n_items, 400))
    return request.param


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit states near their targets, unit items, targets and weights, as a trained model has them; float64."""
    random = torch.Generator().manual_seed(seed)
    items = F.normalize(torch.randn(N, D, generator=random, dtype=torch.float64), dim=-1)
    targets = torch.randint(N, (P,), generator=random)
    noise = torch.randn(P, D, generator=random, dtype=torch.float64) / D**0.5
    weights = torch.rand(P, generator=random, dtype=torch.float64) / P
    return F.normalize(items[targets] + noise, dim=-1), items, targets, weights


def told(loss: Callable[..., Tensor], dtype: torch.dtype, *inputs: Tensor) -> list[Tensor]:
    """Value and gradients in float64, computed in `dtype`."""
    given = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
    value = loss(*given)
    value.backward()
    return [value.detach().double(), *(x.grad.double() for x in given if x.grad is not None)]


def assert_near(ours: list[Tensor], exact: list[Tensor]) -> None:
    assert abs(ours[0] - exact[0]) <= LSE_WITHIN
    assert len(ours) == len(exact)
    for one, other in zip(ours[1:], exact[1:], strict=True):
        assert (one - other).norm() <= GRADIENT_WITHIN * other.norm()


@pytest.mark.usefixtures("cut")
class TestAgainstFloat64:
    def test_weighted_lse(self) -> None:
        states, items, _, weights = draw()
        r, e = states / 0.085, items
        _, exact_P = weighted_lse(r, Catalogue(e), weights)
        with narrow_products():
            _, lse_P = weighted_lse(r.float(), Catalogue(e.float()), weights.float())
            ours, exact = (
                told(lambda r, e, w: weighted_lse(r, Catalogue(e), w)[0], dtype, r, e, weights)
                for dtype in (torch.float32, torch.float64)
            )
        assert (lse_P - exact_P).abs().max() <= LSE_WITHIN
        assert_near(ours, exact)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("bias", [False, True])
    def test_cross_entropy(self, bias: bool, smoothing: float) -> None:
        states, items, targets, weights = draw()

        def loss(s: Tensor, i: Tensor, b: Tensor) -> Tensor:
            catalogue = Catalogue(i, b if bias else None, temperature=0.085, cosine=True)
            return losses.cross_entropy(
                catalogue.scaled(s), catalogue, targets, weights.to(s.dtype), smoothing=smoothing
            )

        inputs = states, items, torch.linspace(-1, 1, N, dtype=torch.float64)
        with narrow_products():
            assert_near(*(told(loss, dtype, *inputs) for dtype in (torch.float32, torch.float64)))

    def test_soft_cross_entropy_with_soft_targets(self) -> None:
        states, items, targets, weights = draw()
        centres = F.normalize(items[:40] + items[40:80], dim=-1) / 0.085

        def loss(s: Tensor, i: Tensor) -> Tensor:
            catalogue = Catalogue(i, temperature=0.085)
            m = soft_target(centres.to(s.dtype), catalogue)[targets % 40]
            return losses.soft_cross_entropy(catalogue.scaled(s), catalogue, m, weights.to(s.dtype))

        with narrow_products():
            assert_near(*(told(loss, dtype, states, items) for dtype in (torch.float32, torch.float64)))

    def test_one_gradient_alone(self) -> None:
        states, items, _, weights = draw()
        r, e, w = (states / 0.085).float(), items.float(), weights.float()
        both = told(lambda r, e: weighted_lse(r, Catalogue(e), w)[0], torch.float64, r, e)
        with narrow_products():
            to_states = told(lambda r: weighted_lse(r, Catalogue(e), w)[0], torch.float32, r)
            to_items = told(lambda e: weighted_lse(r, Catalogue(e), w)[0], torch.float32, e)
        assert_near(to_states, both[:2])
        assert_near(to_items, [both[0], both[2]])

    def test_per_position(self) -> None:
        states, items, targets, _ = draw()
        exact_P = losses.per_position(states / 0.085, Catalogue(items), targets)
        with narrow_products():
            ours_P = losses.per_position((states / 0.085).float(), Catalogue(items.float()), targets)
        assert (ours_P - exact_P).abs().max() <= LSE_WITHIN


def test_large_scores_are_rounded_least() -> None:
    """Those that matter, held against scores that are rounded as they come."""
    states, items, _, _ = draw()
    scorer = Scorer((states / 0.085).float(), items.float())
    exact_PN = scorer.left_PK[:, :-1].double() @ scorer.items_ND.double().T * math.log(2)
    stored_PN = scorer.exponentials(slice(0, P), slice(0, N)).double().log() + scorer.near_P[:, None]
    p_PN = exact_PN.softmax(-1)
    ours, plain = ((p_PN * (x - exact_PN).abs()).sum(-1).mean() for x in (stored_PN, exact_PN.bfloat16().double()))
    assert ours < 0.6 * plain


def test_sums_of_many_small_numbers_stay_float32() -> None:
    """A bfloat16 sum of so many would stand still."""
    x = torch.full((3, 20_011), 0.0107).bfloat16()
    torch.testing.assert_close(row_sums(x).double(), x.double().sum(-1), rtol=2e-3, atol=0)
    assert row_sums(x[:, :5]).tolist() == pytest.approx([5 * x[0, 0].item()] * 3)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_scores_beyond_bfloat16_are_walked_in_float32(scale: float) -> None:
    random = torch.Generator().manual_seed(0)
    states, items = (torch.randn(n, D, generator=random) for n in (9, 200))
    states, weights, targets = states * scale, torch.ones(9), torch.arange(9)
    wide = told(lambda r, e: losses.cross_entropy(r, Catalogue(e), targets, weights), torch.float32, states, items)
    with narrow_products():
        ours = told(lambda r, e: losses.cross_entropy(r, Catalogue(e), targets, weights), torch.float32, states, items)
        centres = soft_target(states, Catalogue(items))
    assert all(torch.equal(one, other) for one, other in zip(ours, wide, strict=True))
    assert torch.equal(centres, soft_target(states, Catalogue(items)))


def test_no_rows() -> None:
    with narrow_products():
        states, items = torch.zeros(0, D, requires_grad=True), torch.randn(N, D, requires_grad=True)
        total, lse = weighted_lse(states, Catalogue(items), torch.zeros(0))
        (total + soft_target(states, Catalogue(items)).sum()).backward()
    assert (total.item(), lse.shape) == (0.0, (0,))
    assert items.grad is not None
    assert not items.grad.any()


def test_float64_and_moments_are_never_narrowed() -> None:
    states, items, _, weights = draw()
    r, whole, single = states / 0.085, Catalogue(items), Catalogue(items.float())
    wide = weighted_lse(r, whole, weights)[1], *moments(r.float(), single), soft_target(r[:5], whole)
    with narrow_products():
        inside = weighted_lse(r, whole, weights)[1], *moments(r.float(), single), soft_target(r[:5], whole)
    assert all(torch.equal(one, other) for one, other in zip(inside, wide, strict=True))


def test_nothing_is_narrowed_outside_or_where_it_is_not_wanted() -> None:
    states, items, _, weights = draw()
    inputs = (states / 0.085).float(), Catalogue(items.float()), weights.float()
    wide = weighted_lse(*inputs)[1]
    with narrow_products(wanted=False):
        assert torch.equal(weighted_lse(*inputs)[1], wide)
    with narrow_products():
        assert not torch.equal(weighted_lse(*inputs)[1], wide)
    assert torch.equal(weighted_lse(*inputs)[1], wide)


def test_three_products_with_gradients_and_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the block: more walks than one would be the price of a mistake."""
    made: list[int] = []
    exponentials = Scorer.exponentials

    def counted(self: Scorer, rows: slice, shard: slice) -> Tensor:
        made.append(rows.stop - rows.start)
        return exponentials(self, rows, shard)

    monkeypatch.setattr(Scorer, "exponentials", counted)
    states, items, targets, weights = draw()
    with narrow_products():
        told(lambda r, e: losses.cross_entropy(r, Catalogue(e), targets, weights.float()), torch.float32, states, items)
        told(lambda e: soft_target(states.float(), Catalogue(e)).sum(), torch.float32, items)
    assert made == [len(padded(states))] * 2


def test_batches_of_any_size_are_multiplied_in_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shape is compiled anew: a training whose batches are of a thousand sizes kept a gigabyte of such code."""
    shapes: set[int] = set()
    exponentials = Scorer.exponentials

    def noted(self: Scorer, rows: slice, shard: slice) -> Tensor:
        shapes.add(rows.stop - rows.start)
        return exponentials(self, rows, shard)

    monkeypatch.setattr(Scorer, "exponentials", noted)
    states, items, targets, weights = draw()
    with narrow_products():
        for n in range(1, P):
            losses.cross_entropy(states[:n].float(), Catalogue(items.float()), targets[:n], weights[:n].float())
            soft_target(states[:n].float(), Catalogue(items.float()))
    assert shapes == set(range(VECTOR, P + VECTOR, VECTOR))
