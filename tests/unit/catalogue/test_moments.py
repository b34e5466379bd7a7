"""The two moments and their gradients, against numpy, autograd over the whole matrix, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import reference
from forethought.catalogue import blocks, losses, moments
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import Moments, merge, weighted_lse


@pytest.fixture(params=["whole", "rows", "rows and shards"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same walk in one block, in blocks of three rows, and over shards of four items as well."""
    if request.param != "whole":
        monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
        monkeypatch.setattr(blocks, "MIN_ROWS", 3)
    if request.param == "rows and shards":
        monkeypatch.setattr(moments, "item_shards", lambda n_items: blocks.item_shards(n_items, 4))
    return request.param


def draw(n_rows: int = 7, n_items: int = 11, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """States, items and weights in float64."""
    random = torch.Generator().manual_seed(seed)
    shapes = (n_rows, width), (n_items, width), (n_rows,)
    states, items, weights = (torch.randn(s, generator=random, dtype=torch.float64) for s in shapes)
    return states.requires_grad_(), items.requires_grad_(), weights.requires_grad_()


def plain(states: Tensor, items: Tensor) -> Moments:
    """The moments as a student writes them."""
    scores = states @ items.T
    return Moments(scores.logsumexp(-1), scores.softmax(-1) @ items)


def gradients(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True))


def assert_close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("cut")
class TestInAnyCut:
    def test_values_are_numpys(self) -> None:
        states, items, weights = draw()
        lse, mean = reference.moments(states.detach().numpy(), items.detach().numpy())
        of = moments.moments(states, Catalogue(items))
        total, rows = weighted_lse(states, Catalogue(items), weights)
        np.testing.assert_allclose(of.lse_P.detach(), lse, rtol=1e-12)
        np.testing.assert_allclose(of.mean_PD.detach(), mean, rtol=1e-12)
        np.testing.assert_allclose(rows, lse, rtol=1e-12)
        assert total.item() == pytest.approx(weights.detach().numpy() @ lse, rel=1e-12)

    def test_weighted_lse_has_the_gradients_of_the_whole(self) -> None:
        states, items, weights = draw()
        total, _ = weighted_lse(states, Catalogue(items), weights)
        whole = (weights * plain(states, items).lse_P).sum()
        assert_close(gradients(3 * total, states, items, weights), gradients(3 * whole, states, items, weights))

    @pytest.mark.parametrize("used", ["lse", "mean", "both"])
    def test_moments_have_the_gradients_of_the_whole(self, used: str) -> None:
        states, items, weights = draw()

        def value(of: Moments) -> Tensor:
            on_lse = (weights * of.lse_P).sum() if used != "mean" else 0
            return on_lse + ((of.mean_PD**2).sin().sum() if used != "lse" else 0)  # type: ignore[return-value]

        ours, theirs = value(moments.moments(states, Catalogue(items))), value(plain(states, items))
        assert_close(gradients(ours, states, items), gradients(theirs, states, items))

    def test_gradcheck_of_weighted_lse(self) -> None:
        assert gradcheck(lambda r, e, w: weighted_lse(r, Catalogue(e), w)[0], draw(4, 9, 3))

    @pytest.mark.parametrize("frozen", [None, 0, 1])
    def test_gradcheck_of_moments(self, frozen: int | None) -> None:
        inputs = list(draw(4, 9, 3)[:2])
        if frozen is not None:
            inputs[frozen] = inputs[frozen].detach()
        assert gradcheck(lambda r, e: tuple(moments.moments(r, Catalogue(e))), inputs)

    def test_no_rows(self) -> None:
        states, items, weights = draw(n_rows=0)
        total, lse = weighted_lse(states, Catalogue(items), weights)
        of = moments.moments(states, Catalogue(items))
        assert (total.item(), lse.shape, of.lse_P.shape, of.mean_PD.shape) == (0.0, (0,), (0,), (0, 5))
        (total + of.mean_PD.sum() + of.lse_P.sum()).backward()
        assert items.grad is not None
        assert not items.grad.any()

    def test_huge_scores_in_float32(self) -> None:
        states = torch.tensor([[300.0], [-300.0], [1.0]], requires_grad=True)
        items = torch.linspace(-1, 1, 9)[:, None].requires_grad_()
        total, lse = weighted_lse(states, Catalogue(items), torch.ones(3))
        of = moments.moments(states, Catalogue(items))
        exact = plain(states.double(), items.double())
        torch.testing.assert_close(lse.double(), exact.lse_P.detach())
        torch.testing.assert_close(of.lse_P.double(), exact.lse_P)
        torch.testing.assert_close(of.mean_PD.double(), exact.mean_PD)
        ours = gradients(total + of.lse_P.sum() + of.mean_PD.sum(), states, items)
        theirs = gradients(2 * exact.lse_P.sum() + exact.mean_PD.sum(), states, items)
        for one, other in zip(ours, theirs, strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_block_never_exceeds_its_size_but_for_few_rows() -> None:
    sizes = [rows.stop - rows.start for rows in blocks.row_blocks(torch.empty(10_000, 64), 12_101)]
    assert sum(sizes) == 10_000
    assert max(sizes) * 12_101 * 4 <= blocks.CPU_BLOCK_BYTES
    assert next(blocks.row_blocks(torch.empty(500, 64), 10**7)) == slice(0, blocks.MIN_ROWS)
    assert [shard.stop - shard.start for shard in blocks.item_shards(10, 4)] == [4, 4, 2]


def test_merged_shards_equal_the_whole() -> None:
    states, items, _ = draw(6, 20, 4)
    parts = [moments.moments(states, Catalogue(shard)) for shard in items.split((1, 7, 12))]
    merged, whole = merge(parts), plain(states, items)
    assert_close(list(merged), list(whole))
    ours = gradients(merged.lse_P.sum() + (merged.mean_PD**3).sum(), states, items)
    assert_close(ours, gradients(whole.lse_P.sum() + (whole.mean_PD**3).sum(), states, items))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_scaled_scores(temperature: float, cosine: bool, bias: bool) -> None:
    states, items, _ = draw()
    b = torch.linspace(-1, 1, len(items), dtype=torch.float64) if bias else None
    catalogue = Catalogue(items, b, temperature, cosine)
    s, i = states.detach().numpy(), items.detach().numpy()
    if cosine:
        s, i = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, i))
    expected = s @ i.T / temperature + (0 if b is None else b.numpy())
    logits = (catalogue.scaled(states) @ catalogue.scaled_ND.T).detach()
    np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)


def test_a_bias_has_the_gradient_of_the_whole() -> None:
    states, items, weights = draw()
    bias = torch.linspace(-1, 1, len(items), dtype=torch.float64, requires_grad=True)
    catalogue = Catalogue(items, bias, temperature=0.5, cosine=True)
    total, _ = weighted_lse(catalogue.scaled(states), catalogue, weights)
    unit = torch.nn.functional.normalize
    whole = weights @ (unit(states) @ unit(items).T / 0.5 + bias).logsumexp(-1)
    assert_close(gradients(total, states, items, bias), gradients(whole, states, items, bias))


def test_second_derivatives_are_refused_not_wrong() -> None:
    states, items, weights = draw()
    total, _ = weighted_lse(states, Catalogue(items), weights)
    (slope,) = torch.autograd.grad(total**2, states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all products made through `product`."""
    made: list[tuple[int, ...]] = []

    def counted(left: Tensor, right: Tensor, into: Tensor | None = None) -> Tensor:
        made.append((*left.shape, right.shape[1]))
        return blocks.product(left, right, into)

    monkeypatch.setattr(moments, "product", counted)
    return made


def test_one_product_where_no_gradient_is_wanted(products: list[tuple[int, ...]]) -> None:
    states, items, weights = draw()
    with torch.no_grad():
        weighted_lse(states, Catalogue(items), weights)
    losses.per_position(states, Catalogue(items), torch.zeros(7, dtype=torch.int64))
    assert products == [(7, 5, 11)] * 2


class TestNarrowTypes:
    def test_bfloat16_inputs_keep_float32_scores(self) -> None:
        states, items, weights = (x.detach().bfloat16().requires_grad_() for x in draw())
        total, lse = weighted_lse(states, Catalogue(items), weights)
        of = moments.moments(states, Catalogue(items))
        exact = plain(states.float(), items.float())
        assert (total.dtype, lse.dtype, of.mean_PD.dtype) == (torch.float32,) * 3
        torch.testing.assert_close(lse, exact.lse_P.detach())
        torch.testing.assert_close(of.mean_PD, exact.mean_PD)
        ours = gradients(total, states, items, weights)
        theirs = gradients((weights.float() * exact.lse_P).sum(), states, items, weights)
        assert {one.dtype for one in ours} == {torch.bfloat16}
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0.03, atol=0.03)

    def test_autocast_narrows_the_inputs_only(self) -> None:
        states, items, weights = (x.detach().float().requires_grad_() for x in draw())
        with torch.autocast("cpu", torch.bfloat16):
            total, lse = weighted_lse(states, Catalogue(items), weights)
            of = moments.moments(states, Catalogue(items))
        narrow = plain(states.bfloat16().float(), items.bfloat16().float())
        torch.testing.assert_close(lse, narrow.lse_P.detach())
        torch.testing.assert_close(of.lse_P, plain(states, items).lse_P)
        assert {g.dtype for g in gradients(total + of.mean_PD.sum(), states, items)} == {torch.float32}

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_cuda_accumulates_in_float32(self, dtype: torch.dtype) -> None:
        states, items, weights = (x.detach().to("cuda", dtype).requires_grad_() for x in draw(64, 1000, 64))
        ours = blocks.product(states.detach(), items.detach().T)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, states.detach().float() @ items.detach().float().T, rtol=1e-4, atol=1e-3)
        total, lse = weighted_lse(states, Catalogue(items), weights)
        exact = plain(states.float(), items.float())
        torch.testing.assert_close(lse, exact.lse_P.detach(), rtol=1e-4, atol=1e-3)
        ours_g = gradients(total, states, items)
        theirs_g = gradients((weights.float() * exact.lse_P).sum(), states, items)
        for one, other in zip(ours_g, theirs_g, strict=True):
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
