"""A low-pass that looks back alone is, at the end of a window, the Fourier transform of the whole window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forethought.backbones.bsarec import BSARec
from forethought.errors import ConfigError
from forethought.nn.frequency import FilteredBlock, LowPass

WINDOW = 9


def whole_window(x_LD: np.ndarray, kept: int, window: int = WINDOW) -> np.ndarray:
    """What the paper's code does: pad on the left, transform, drop the high bins, transform back; all places of it."""
    padded = np.concatenate([np.zeros((window - len(x_LD), x_LD.shape[1])), x_LD])
    bins = np.fft.rfft(padded, axis=0)
    bins[kept:] = 0
    return np.fft.irfft(bins, n=window, axis=0)[window - len(x_LD) :]


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_the_end_of_every_prefix_is_the_papers(kept: int) -> None:
    x_BLD = torch.randn(2, WINDOW, 4, dtype=torch.float64)
    got = LowPass(WINDOW, kept).double()(x_BLD).numpy()
    for row, low in zip(x_BLD.numpy(), got, strict=True):
        wanted = [whole_window(row[: end + 1], kept)[-1] for end in range(WINDOW)]
        np.testing.assert_allclose(low, wanted, atol=1e-12)


def test_inside_the_window_the_papers_filter_sees_what_comes() -> None:
    """Why it is not taken as it is: trained at every position, it would be shown the targets."""
    x_LD = np.random.default_rng(0).normal(size=(WINDOW, 4))
    changed = x_LD.copy()
    changed[-1] += 1
    assert np.abs(whole_window(changed, 3) - whole_window(x_LD, 3))[0].max() > 0.1
    low = LowPass(WINDOW, 3).double()
    first, second = (low(torch.from_numpy(x)[None])[0] for x in (x_LD, changed))
    assert torch.equal(first[:-1], second[:-1])


def test_all_frequencies_are_the_sequence_itself() -> None:
    x_BLD = torch.randn(2, WINDOW, 4)
    torch.testing.assert_close(LowPass(WINDOW, WINDOW // 2 + 1)(x_BLD), x_BLD, rtol=1e-5, atol=1e-6)


def test_what_lies_before_the_window_is_not_heard() -> None:
    x_BLD = torch.randn(1, WINDOW + 4, 4, dtype=torch.float64)
    low = LowPass(WINDOW, 2).double()
    torch.testing.assert_close(low(x_BLD)[:, -1], low(x_BLD[:, -WINDOW:])[:, -1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_all(share: float) -> None:
    torch.manual_seed(0)
    config = {"width": 8, "heads": 2, "ffn_width": 8, "dropout": 0.0, "activation": "gelu", "norm_first": True}
    block = FilteredBlock(**config, window=WINDOW, kept=2, share=share)
    x_BLD = torch.randn(2, 5, 8, requires_grad=True)
    block(x_BLD, None, True)[0].sum().backward()
    assert (block.out.weight.grad is None or not block.out.weight.grad.any()) == (share == 1)
    assert (block.sqrt_beta_D.grad is None or not block.sqrt_beta_D.grad.any()) == (share == 0)


def test_more_frequencies_than_there_are() -> None:
    with pytest.raises(ConfigError, match="frequencies is 6, but a window of 9 has 5"):
        BSARec(window=9, frequencies=6)
    BSARec(window=9, frequencies=5)
