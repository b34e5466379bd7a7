"""How a method is trained: every number of the loop, and of nothing else.

The defaults were found on Beauty's validation part (docs/results/tuning.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forethought.errors import ConfigError

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["auto", "32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Configuration of the training loop."""

    epochs: int = 14
    """Passes over all training positions, at most; the schedule ends here."""
    batch_positions: int = 1024
    """Positions in a (global) batch, padding included."""
    learning_rate: float = 3e-3
    """Peak of the schedule."""
    schedule: Schedule = "linear"
    """After warm-up: constant, or down to zero over all epochs."""
    warmup_steps: int = 100
    """Steps from zero to the peak."""
    weight_decay: float = 0.0
    """Decoupled (AdamW)."""
    beta1: float = 0.9
    """Adam's decay of the gradient's mean."""
    beta2: float = 0.98
    """Adam's decay of the squared gradient's mean."""
    clip_norm: float = 5.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    patience: int = 4
    """Epochs without a better validation NDCG@10 before training stops."""
    input_noise: float = 0.0
    """Chance that an item of a training history is replaced by one drawn evenly from all, anew in each batch; what
    is to be named stays. It keeps a model from trusting single items (SSE-SE of arXiv 1905.10630, targets aside)."""
    all_windows: bool = True
    """Cut a history longer than the window into several rows; otherwise only its last window trains."""
    precision: Precision = "auto"
    """bf16: bfloat16 products with float32 sums, everywhere on CUDA, on a CPU in the softmax over all items alone;
    auto: the same on CUDA, and on a CPU that has AVX-512 BF16 or AMX for 1,000 items or more; 32: float32."""
    compile: bool = False
    """Pass the backbone through torch.compile."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    checkpoint_every_s: float = 60.0
    """Seconds between states saved inside an epoch; one is saved after every epoch anyway."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_positions", "learning_rate", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be above 0.")
        for name in ("warmup_steps", "weight_decay", "clip_norm", "checkpoint_every_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must not be negative.")
        for name in ("beta1", "beta2", "input_noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must lie in [0, 1).")
