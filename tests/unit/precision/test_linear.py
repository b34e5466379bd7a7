"""Layers of a chosen precision: products against rounded operands multiplied by hand, real ones against emulated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.errors import ConfigError
from forethought.nn.linear import linear_outputs
from forethought.nn.transformer import Transformer
from forethought.precision.formats import Format, rounded, to_int8
from forethought.precision.linear import PrecisionLinear, is_available, make_plain, make_precise, set_to

CPU = torch.device("cpu")


def layer(precision: Format, backend: str = "emulate", *, bias: bool = True) -> PrecisionLinear:
    torch.manual_seed(0)
    made = PrecisionLinear(32, 48, bias=bias)
    made.precision, made.backend = precision, backend  # type: ignore[assignment]
    return made


def outcome(made: PrecisionLinear, rows: int = 20) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    x, g = torch.randn(4, rows // 4, 32, requires_grad=True), torch.randn(4, rows // 4, 48)
    y = made(x)
    return y.detach(), *torch.autograd.grad(y, (x, *made.parameters()), g), x.detach(), g


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_a_product_is_that_of_rounded_operands_forward_and_backward(precision: Format) -> None:
    made = layer(precision)
    y, gx, gw, gb, x, g = outcome(made)
    rounded_x, rounded_w = rounded(x, precision), rounded(made.weight.detach(), precision)
    rounded_g = rounded(g, precision, gradient=True)
    ends = (lambda t: rounded(t, "bf16")) if precision == "bf16" else (lambda t: t)
    torch.testing.assert_close(y, ends(rounded_x @ rounded_w.T) + made.bias.detach())
    torch.testing.assert_close(gx, ends(rounded_g @ rounded_w))
    torch.testing.assert_close(gw, ends(rounded_g.flatten(0, 1).T @ rounded_x.flatten(0, 1)), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(gb, g.sum((0, 1)))


def test_float32_layers_are_plain_ones_to_the_bit() -> None:
    made, plain = layer("fp32"), nn.Linear(32, 48)
    plain.load_state_dict(made.state_dict())
    x = torch.randn(5, 32)
    assert torch.equal(made(x), plain(x))


@pytest.mark.skipif(not hasattr(torch, "_scaled_mm"), reason="this torch multiplies no float8")
@pytest.mark.parametrize("rows", [20, 64])
def test_emulated_float8_is_scaled_mm_but_for_the_order_of_sums(rows: int) -> None:
    (y, *others), (emulated_y, *emulated) = (outcome(layer("fp8", b), rows) for b in ("scaled_mm", "emulate"))
    torch.testing.assert_close(y, emulated_y, rtol=5e-7, atol=5e-7)  # e4m3 by e4m3, which oneDNN may add as it likes
    assert all(torch.equal(a, b) for a, b in zip(others, emulated, strict=True))


@pytest.mark.skipif(not hasattr(torch, "_scaled_mm"), reason="this torch multiplies no float8")
@pytest.mark.parametrize("rows", [20, 64])
def test_emulated_float8_is_scaled_mm_to_the_bit_where_sums_are_exact(rows: int) -> None:
    """Processors add in orders of their own; of these numbers every sum is one of float32, whatever comes first."""
    told = []
    for backend in ("scaled_mm", "emulate"):
        made = layer("fp8", backend, bias=False)
        with torch.no_grad():
            made.weight.copy_(1.75 * 0.5 ** torch.randint(0, 2, made.weight.shape) * made.weight.sign())
        torch.manual_seed(2)
        x, g = (1.75 * 0.5 ** torch.randint(0, 2, (rows, n)) * torch.randn(rows, n).sign() for n in (32, 48))
        x.requires_grad_()
        y = made(x)
        told.append((y.detach(), *torch.autograd.grad(y, (x, made.weight), g)))
    for a, b in zip(*told, strict=True):
        assert a.any()
        assert torch.equal(a, b)


@pytest.mark.skipif(not is_available("bf16", CPU), reason="this processor multiplies no bfloat16")
def test_real_bfloat16_is_emulated_bfloat16_but_for_the_order_of_sums() -> None:
    for a, b in zip(outcome(layer("bf16", "auto")), outcome(layer("bf16", "emulate")), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("backend", ["auto", "emulate"])
def test_int8_is_whole_numbers_multiplied_and_scaled(backend: str) -> None:
    made, x = layer("int8", backend), torch.randn(6, 32)
    x8, w8 = to_int8(x), to_int8(made.weight.detach())
    sums = (x8.values.long() @ w8.values.long().T).float()
    with torch.no_grad():
        torch.testing.assert_close(made(x), sums * x8.scale * w8.scale.T + made.bias)
        assert torch.equal(made(x[2:3]), made(x)[2:3])  # a row is what it is by itself


def test_int8_weights_are_made_again_when_they_change() -> None:
    made, x = layer("int8", "auto"), torch.randn(3, 32)
    with torch.no_grad():
        before = made(x)
        made.weight.mul_(2)
        torch.testing.assert_close(made(x) - made.bias, 2 * (before - made.bias))


def test_int8_is_not_trained() -> None:
    with pytest.raises(ConfigError, match="inference"):
        layer("int8")(torch.randn(3, 32))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8", "int8"])
def test_some_outputs_are_those_of_all(precision: Format) -> None:
    made, x = layer(precision), torch.randn(5, 32)
    with torch.no_grad():
        part, whole = linear_outputs(made, x, slice(16, 32)), made(x)[:, 16:32]
    if precision == "fp8":  # a scale for the tensor: of a part it may be another
        torch.testing.assert_close(part, whole, rtol=0.2, atol=0.1)
    else:
        torch.testing.assert_close(part, whole)


def test_layers_are_made_precise_in_place_and_plain_again() -> None:
    torch.manual_seed(0)
    sizes = {"width": 8, "layers": 2, "heads": 2, "ffn_width": 16, "dropout": 0.0}
    model = Transformer(**sizes, activation="gelu", norm_first=True, causal=True)
    x, lengths = torch.randn(2, 5, 8), torch.tensor([5, 3])
    before, weights, held = model(x, lengths)[0], model.state_dict(), model.blocks[0].qkv
    layers = make_precise(model)
    assert sorted(layers) == sorted(f"blocks.{n}.{name}" for n in (0, 1) for name in ("qkv", "out", "up", "down"))
    assert isinstance(held, PrecisionLinear)
    assert torch.equal(model(x, lengths)[0], before)
    assert model.state_dict().keys() == weights.keys()
    with set_to(layers, dict.fromkeys(layers, "bf16")):
        assert not torch.equal(model(x, lengths)[0], before)
    assert torch.equal(model(x, lengths)[0], before)
    held.precision = "bf16"
    make_plain(model)
    assert type(held) is nn.Linear
    assert torch.equal(model(x, lengths)[0], before)


def test_the_last_position_alone_is_read_in_the_layers_precision_too() -> None:
    torch.manual_seed(0)
    sizes = {"width": 8, "layers": 1, "heads": 2, "ffn_width": 16, "dropout": 0.0}
    model = Transformer(**sizes, activation="gelu", norm_first=True, causal=True)
    x, lengths = torch.randn(2, 5, 8), torch.tensor([5, 5])
    plain = model(x, lengths, last_only=True)[0]
    model.blocks[0].qkv = layer_of(model.blocks[0].qkv)
    assert not torch.equal(model(x, lengths, last_only=True)[0], plain)
    torch.testing.assert_close(model(x, lengths, last_only=True)[0][:, 0], model(x, lengths)[0][:, -1])


def layer_of(plain: nn.Linear) -> PrecisionLinear:
    layers = make_precise(nn.ModuleList([plain]))
    layers["0"].precision, layers["0"].backend = "bf16", "emulate"
    return layers["0"]


def test_a_layer_keeps_its_precision_under_autocast() -> None:
    made, x = layer("fp32"), torch.randn(5, 32)
    expected = F.linear(x, made.weight, made.bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(x), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_on_cuda_real_products_are_emulated_ones_but_for_the_order_of_sums(precision: Format) -> None:
    device, outcomes = torch.device("cuda"), []
    if not is_available(precision, device):
        pytest.skip(f"this GPU multiplies no {precision}")
    torch.manual_seed(0)
    x, g = torch.randn(300, 512, device=device), torch.randn(300, 256, device=device)
    made = PrecisionLinear(512, 256, device=device)
    made.precision = precision
    for backend in ("auto", "emulate"):
        made.backend, inputs = backend, x.clone().requires_grad_()
        y = made(inputs)
        outcomes.append((y, *torch.autograd.grad(y, (inputs, made.weight), g)))
    for real, emulated in zip(*outcomes, strict=True):
        assert (real - emulated).abs().max() <= (0.01 if precision == "bf16" else 0.001) * emulated.abs().max()
