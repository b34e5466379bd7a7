"""The draws of LARES against the distributions they name, and one step against numpy (arXiv 2505.16865)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from forethought.nn.transformer import Transformer, initialise
from forethought.reasoning.recurrence import Combine, Recurrence, draw_depth, draw_start
from reference import layer_norm

DRAWS = 20_000


def depth_shares(mean: int) -> np.ndarray:
    """P(k = 1 .. 3 m) by quadrature: a Poisson whose rate is log-normal, cut at 3 m."""
    rate = stats.lognorm(s=0.5, scale=math.exp(math.log(mean) - 0.125))

    def share(count: int) -> float:
        return integrate.quad(lambda x: stats.poisson.pmf(count, x) * rate.pdf(x), 0, 60 * mean, limit=500)[0]

    below = [share(count) for count in range(3 * mean - 1)]
    return np.array([*below, 1 - sum(below)])


@pytest.mark.parametrize("mean", [1, 3])
def test_depths(mean: int) -> None:
    torch.manual_seed(0)
    drawn = np.array([draw_depth(mean) for _ in range(DRAWS)])
    wanted = depth_shares(mean)
    assert drawn.min() == 1
    assert drawn.max() == 3 * mean
    assert stats.chisquare(np.bincount(drawn, minlength=3 * mean + 1)[1:], wanted * DRAWS).pvalue > 1e-3


def test_mean_depth_is_one_more_than_m(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cut: E[1 + Poisson(lambda)] = 1 + E[lambda] = 1 + m."""
    monkeypatch.setattr("forethought.reasoning.recurrence.CUT", 1000.0)
    torch.manual_seed(1)
    drawn = np.array([draw_depth(4) for _ in range(DRAWS)])
    variance = 4 + 16 * (math.exp(0.25) - 1)  # E[lambda] + Var[lambda]
    assert drawn.mean() == pytest.approx(5, abs=4 * math.sqrt(variance / DRAWS))
    assert drawn.var() == pytest.approx(variance, rel=0.1)


def test_the_beginning_is_a_cut_normal() -> None:
    torch.manual_seed(0)
    drawn = draw_start(torch.zeros(100, 20, 10, dtype=torch.float64), scale=3.0, sigma=0.5)
    assert drawn.dtype == torch.float64
    assert drawn.abs().max() <= 3.0 * 3 * 0.5
    assert stats.kstest(drawn.flatten().numpy() / 1.5, stats.truncnorm(-3, 3).cdf).pvalue > 1e-3


def test_draws_follow_the_generator() -> None:
    def draw() -> tuple[list[int], torch.Tensor]:
        torch.manual_seed(5)
        return [draw_depth(3) for _ in range(20)], draw_start(torch.zeros(4, 3), 3.0, 1.0)

    (depths, start), (again, same) = draw(), draw()
    assert depths == again
    assert torch.equal(start, same)


class Double(nn.Module):
    """A core that one can compute in the head."""

    def forward(
        self, x_BLD: torch.Tensor, lengths_B: torch.Tensor, *, last_only: bool = False
    ) -> tuple[torch.Tensor, None]:
        return 2 * x_BLD + 1, None


@pytest.mark.parametrize("combine", ["add", "concat", "linear"])
def test_a_trajectory(combine: Combine) -> None:
    """T_i = C(LN(f(T_{i-1}, H))) with the same f and C at every step."""
    torch.manual_seed(0)
    step = Recurrence(Double(), 5, combine).double()  # type: ignore[arg-type]
    for parameter in step.parameters():
        parameter.data += torch.randn_like(parameter)
    T, H = (torch.randn(2, 3, 5, dtype=torch.float64) for _ in range(2))
    got = step.trajectory(T, H, torch.tensor([3, 2]), 3)
    values = {name: p.detach().numpy() for name, p in step.named_parameters()}
    now, held = T.numpy(), H.numpy()
    assert torch.equal(got[0], T)
    assert len(got) == 4
    for state in got[1:]:
        if combine == "add":
            mixed = (now + held) / 2
        elif combine == "concat":
            mixed = np.concatenate([now, held], -1) @ values["join.weight"].T + values["join.bias"]
        else:
            g = 1 / (1 + math.exp(-values["gate"]))
            mixed = g * now + (1 - g) * held
        now = 2 * layer_norm(mixed, values["norm.weight"], values["norm.bias"]) + 1
        np.testing.assert_allclose(state.detach().numpy(), now, rtol=1e-10)


def test_the_future_changes_nothing() -> None:
    torch.manual_seed(0)
    core = Transformer(
        width=8, layers=2, heads=2, ffn_width=16, dropout=0.0, activation="gelu", norm_first=True, causal=True
    )
    initialise(core, std=0.3)
    step = Recurrence(core, 8, "add").double()
    T, H = (torch.randn(1, 6, 8, dtype=torch.float64) for _ in range(2))
    whole = step.trajectory(T, H, torch.tensor([6]), 3)[-1]
    for length in range(1, 7):
        short = step.trajectory(T[:, :length], H[:, :length], torch.tensor([length]), 3)[-1]
        torch.testing.assert_close(short, whole[:, :length], rtol=1e-10, atol=1e-10)
