"""The halting net: how likely a row is to stop, read off its indicators of convergence, and what training makes of it.

It is DTRec's (arXiv 2512.14036, section 3.2): a small net reads entropy, consistency and change of a step.

Shapes: P rows, S steps from one on, T steps at most.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn

INDICATORS = ("entropy", "consistency", "change")
OUTLIER = 5.0  # standard deviations at which an indicator is cut
MEMORY = 0.01  # share of the newest batch in the running means
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}  # of steps, as the log tells them


class HaltingHead(nn.Module):
    """p_halt = sigmoid(MLP([Ent, Cons, Delta])), [..., S, 3] of the steps from `first` on -> [..., S] (eq. 8).

    The indicators of all rows lie close together, far from zero, and a net that reads them as they are halts everybody
    at once. So they are standardised, by running means and variances of the training batches (not by those of the
    batch at hand: a row's fate does not depend on its neighbours). Of several processes the first one's count.

    They also differ more from step to step than from row to row. With a `depth` each step has means and variances of
    its own, so that what the net reads is how a row stands among others at the same step.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, width: int, depth: int | None = None) -> None:
        """
        Args:
            width: hidden units.
            depth: T, where each of the steps 0 .. T is standardised by itself; None: all by the same numbers.
        """
        super().__init__()
        self.up, self.down = nn.Linear(len(INDICATORS), width), nn.Linear(width, 1)
        shape = (len(INDICATORS),) if depth is None else (depth + 1, len(INDICATORS))
        self.per_step = depth is not None
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("batches", torch.tensor(0))

    def at_start(self, features: Tensor) -> Tensor:
        """p_halt before the first step, [..., 3] -> [...]."""
        known = self._known_at_start(features)
        if self.training and self.per_step and known.numel():
            self._watch(known, 0)
        return self.logits(known, 0)[..., 0].sigmoid()

    def logits_at_start(self, features: Tensor) -> Tensor:
        """ln p / (1 - p) before the first step: what is unknown there (NaN) counts as its running mean."""
        return self.logits(self._known_at_start(features), 0)[..., 0]

    def _known_at_start(self, features: Tensor) -> Tensor:
        """[..., 3] -> [..., 1, 3]"""
        mean, _ = self.usual(0)
        return torch.where(features.isnan(), mean.to(features.dtype), features)[..., None, :]

    def forward(self, features: Tensor, first: int = 1) -> Tensor:
        if self.training and features.numel():
            self.batches += 1
            self._watch(features, first)
        return self.logits(features, first).sigmoid()

    def logits(self, features: Tensor, first: int = 1) -> Tensor:
        """ln p / (1 - p), [..., S]; the means stay as they are."""
        mean, deviation = self.usual(first, features.shape[-2] if self.per_step else 1)
        standard = (features - mean) / deviation
        with torch.autocast(features.device.type, enabled=False):  # weights of the steps are to sum to 1
            return self.down(self.up(standard.clamp(-OUTLIER, OUTLIER)).relu())[..., 0]

    @torch.no_grad()
    def rebase(self, before: float, now: float) -> None:
        """Rows that were over one threshold are over the other: ln p / (1 - p) is moved by the difference."""
        old, new = self.down.bias.new_tensor([before, now], dtype=torch.float64).logit()
        self.down.bias.add_(new - old)

    def usual(self, first: int, steps: int = 1) -> tuple[Tensor, Tensor]:
        """Running mean and standard deviation of each indicator, [3], or of so many steps, [S, 3]."""
        return self._of_steps(self.mean, first, steps), self._of_steps(self.deviations(), first, steps)

    def deviations(self) -> Tensor:
        """The running standard deviation of each indicator, [3] or [T + 1, 3]."""
        return (self.variance + 1e-8).sqrt()

    def _of_steps(self, of: Tensor, first: int, steps: int) -> Tensor:
        return of[first : first + steps] if self.per_step else of

    @torch.no_grad()
    def _watch(self, features: Tensor, first: int) -> None:
        """Averages over all batches at first, then over the last hundred or so."""
        steps = features.shape[-2] if self.per_step else 1
        mean, variance = (self._of_steps(of, first, steps) for of in (self.mean, self.variance))
        flat = features.reshape(-1, *mean.shape)
        share = max(1 / max(int(self.batches), 1), MEMORY)
        mean.lerp_(flat.mean(0), share)
        variance.lerp_((flat - mean).square().mean(0), share)


def soft_weights(halts_PT: Tensor) -> Tensor:
    """w_t = p_t prod_{j<t} (1 - p_j), what is left given to the last step, so that each row sums to 1 (eq. 9)."""
    on_PT = 1 - halts_PT
    if torch.compiler.is_exporting():  # ONNX has no running product
        on_PT = torch.stack(list(accumulate(on_PT.unbind(1), torch.mul)), dim=1)
    else:
        on_PT = torch.cumprod(on_PT, dim=1)
    before_PT = torch.cat([torch.ones_like(on_PT[:, :1]), on_PT[:, :-1]], dim=1)
    weights = halts_PT * before_PT
    return torch.cat([weights[:, :-1], before_PT[:, -1:]], dim=1)


def ponder(weights_PS: Tensor, rate: float) -> Tensor:
    """sum_p KL(w_p || geometric), the geometric distribution cut off at the last step (PonderNet, arXiv 2107.05407).

    Args:
        rate: the stopping probability of that distribution, above 0 and below 1.
    """
    steps = torch.arange(weights_PS.shape[1], device=weights_PS.device, dtype=weights_PS.dtype)
    prior = rate * (1 - rate) ** steps
    return (weights_PS * (weights_PS.clamp_min(1e-9) / (prior / prior.sum())).log()).sum()


@torch.no_grad()
def soft_steps(weights_PS: Tensor, first: int, of: int) -> dict[str, Tensor]:
    """Figures of the steps that each row takes on average under its weights, sum_t w_t t: mean and quantiles.

    Args:
        first: what the first column stands for, 0 or 1.
        of: the rows of the whole batch: figures of its parts add up to their weighted mean.
    """
    P, S = weights_PS.shape
    steps_P = (weights_PS * torch.arange(first, first + S, device=weights_PS.device, dtype=weights_PS.dtype)).sum(1)
    shares = steps_P.new_tensor(list(QUANTILES.values()))
    quantiles = torch.quantile(steps_P, shares) * P / of if P else torch.zeros_like(shares)
    named = {f"soft_steps_{name}": value for name, value in zip(QUANTILES, quantiles, strict=True)}
    return {"soft_steps": steps_P.sum() / of, **named}
