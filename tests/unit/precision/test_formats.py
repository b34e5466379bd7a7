"""Rounding to 8 and 16 bits, against formats that are decoded bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forethought.precision.formats import E4M3, E5M2, Float8, rounded, to_float8, to_int8

KINDS = [(E4M3, 4, 3), (E5M2, 5, 2)]


def decoded(exponent_bits: int, mantissa_bits: int) -> np.ndarray:
    """The numbers that the 256 codes stand for, as the formats are defined."""
    bias, values = 2 ** (exponent_bits - 1) - 1, []
    for code in range(256):
        sign = -1.0 if code >> 7 else 1.0
        exponent, mantissa = (code & 127) >> mantissa_bits, code & (2**mantissa_bits - 1)
        fraction, top = mantissa / 2**mantissa_bits, exponent == 2**exponent_bits - 1
        if exponent_bits == 4 and top and mantissa == 7:
            value = np.nan
        elif exponent_bits == 5 and top:
            value = np.nan if mantissa else np.inf
        elif exponent:
            value = (1 + fraction) * 2.0 ** (exponent - bias)
        else:
            value = fraction * 2.0 ** (1 - bias)
        values.append(sign * value)
    return np.array(values)


@pytest.mark.parametrize(("kind", "exponent_bits", "mantissa_bits"), KINDS)
def test_all_256_codes_stand_for_their_numbers(kind: Float8, exponent_bits: int, mantissa_bits: int) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(kind.dtype).float().numpy()
    np.testing.assert_array_equal(codes, decoded(exponent_bits, mantissa_bits).astype(np.float32))


@pytest.mark.parametrize(("kind", "exponent_bits", "mantissa_bits"), KINDS)
def test_numbers_round_to_the_nearest_code_and_ties_to_the_even_one(
    kind: Float8, exponent_bits: int, mantissa_bits: int
) -> None:
    values = decoded(exponent_bits, mantissa_bits)[:128]
    values = values[np.isfinite(values)]
    assert values[-1] == kind.most
    between = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    even = np.where(np.arange(len(between)) % 2 == 0, values[:-1], values[1:])
    for sign in (1, -1):
        above, below = (np.nextafter(between, np.float32(end), dtype=np.float32) for end in (1e9, -1e9))
        numbers = np.concatenate([values, between, above, below, [kind.most]]).astype(np.float32)
        nearest = np.concatenate([values, even, values[1:], values[:-1], [kind.most]])
        scaled = to_float8(torch.from_numpy(sign * numbers), kind)
        assert scaled.scale == 1
        np.testing.assert_array_equal(scaled.values.float().numpy(), np.float32(sign * nearest))


@pytest.mark.parametrize(("kind", "exponent_bits", "mantissa_bits"), KINDS)
def test_the_largest_number_becomes_the_largest_code(kind: Float8, exponent_bits: int, mantissa_bits: int) -> None:
    x = torch.randn(100, 7, generator=torch.Generator().manual_seed(3)) * 1e-6
    scaled = to_float8(x, kind)
    assert scaled.values.float().abs().max() == kind.most
    assert torch.isfinite(scaled.dequantised()).all()
    assert scaled.dequantised().abs().max() == pytest.approx(float(x.abs().max()), rel=1e-6)


@pytest.mark.parametrize("kind", [E4M3, E5M2])
def test_zeros_stay_zeros_and_what_is_not_finite_is_seen(kind: Float8) -> None:
    assert (to_float8(torch.zeros(3, 3), kind).dequantised() == 0).all()
    for bad in (torch.inf, torch.nan):
        assert torch.isnan(to_float8(torch.tensor([1.0, bad]), kind).dequantised()).any()
        assert torch.isnan(to_int8(torch.tensor([[1.0, bad]])).dequantised()).all()


def test_the_error_of_bf16_is_less_than_that_of_e4m3_and_that_less_than_that_of_e5m2() -> None:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    errors = [(rounded(x, f, gradient=g) - x).square().mean().sqrt().item() for f, g in ERRORS]
    assert errors == pytest.approx([0.0017, 0.0265, 0.0527], rel=0.15)


ERRORS = (("bf16", False), ("fp8", False), ("fp8", True))


def test_rows_of_int8_have_scales_of_their_own() -> None:
    x = torch.tensor([[1.0, -127.0, 3.4], [0.01, 0.02, -0.0127], [0.0, 0.0, 0.0]])
    scaled = to_int8(x)
    assert scaled.values[0].tolist() == [1, -127, 3]
    np.testing.assert_allclose(scaled.scale[:, 0].numpy(), [1, 0.02 / 127, 1], rtol=1e-6)
    assert ((scaled.dequantised() - x).abs() <= scaled.scale / 2 + 1e-9).all()
