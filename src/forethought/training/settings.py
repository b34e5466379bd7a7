"""How a method is trained: every number of the loop, and of nothing else.

The defaults were found on Beauty's validation part (docs/results/tuning.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

from forethought.devices import Device
from forethought.errors import ConfigError
from forethought.precision.settings import LADQ
from forethought.settings import (
    Between,
    Epochs,
    Like,
    Scale,
    SearchChoices,
    SearchRange,
    Settings,
    Share,
    ShareBelowOne,
    Weight,
)

if TYPE_CHECKING:  # it brings torch
    from forethought.methods.interface import Stage

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["auto", "32", "bf16"]
METRIC = r"(recall|ndcg|mrr)@[1-9]\d{0,8}|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*"


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    """Configuration of the training loop."""

    epochs: Epochs = 14
    """Passes over all training positions, at most; the schedule ends here."""
    batch_positions: Annotated[int, Between(1, 2**24), SearchChoices((512, 1024, 2048, 4096))] = 1024
    """Positions in a (global) batch, padding included."""
    learning_rate: Annotated[Scale, SearchRange(5e-4, 1e-2, log=True)] = 3e-3
    """Peak of the schedule."""
    schedule: Schedule = "linear"
    """After warm-up: constant, or down to zero over all epochs."""
    warmup_steps: Annotated[int, Between(0, 1_000_000_000)] = 100
    """Steps from zero to the peak."""
    weight_decay: Annotated[float, Between(0, 1_000), SearchChoices((0.0, 0.01, 0.1, 0.3))] = 0.0
    """Decoupled (AdamW)."""
    beta1: ShareBelowOne = 0.9
    """Adam's decay of the gradient's mean."""
    beta2: ShareBelowOne = 0.98
    """Adam's decay of the squared gradient's mean."""
    clip_norm: Weight = 5.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    patience: Epochs = 4
    """Epochs without a better validation NDCG@10 before training stops."""
    choose_by: Annotated[str, Like(METRIC, "ndcg@10")] = "ndcg@10"
    """Metric of the validation part by which the best epoch is chosen: recall, ndcg or mrr with a length, or one of
    your own as my_module:my_metric, from 0 to 1."""
    input_noise: Annotated[ShareBelowOne, SearchRange(0.0, 0.3)] = 0.0
    """Chance that an item of a training history is replaced by one drawn evenly from all, anew in each batch; what
    is to be named stays. It keeps a model from trusting single items (SSE-SE of arXiv 1905.10630, targets aside)."""
    later_targets: Annotated[ShareBelowOne, SearchRange(0.0, 0.5)] = 0.0
    """Share of the item after the next in the target of a position, in units of the next one's; each of the two after
    that has the same share of the one before it (w of REG4Rec's MSRA, arXiv 2508.15308, as targets in the place of
    rewards). What somebody takes soon is nearly as right an answer as what came first."""
    crop: Share = 0.0
    """Share of the training rows of which a random stretch alone is shown (two items at least, and never all), drawn
    anew in each epoch: what came before it is not read, and what comes after it is not named (the crops of CL4SRec,
    arXiv 2010.14395, as data for the loss itself)."""
    all_windows: bool = True
    """Cut a history longer than the window into several rows; otherwise only its last window trains."""
    earlier_windows: Share = 0.0
    """Without `all_windows`: chance that a history longer than the window trains on a random earlier stretch of it in
    place of the last, as long, drawn anew in each epoch (p_s of SSE-PT++, arXiv 1908.05435)."""
    precision: Precision = "auto"
    """bf16: bfloat16 products with float32 sums, everywhere on CUDA, on a CPU in the softmax over all items alone;
    auto: bf16 on a CPU that has AVX-512 BF16 or AMX for 1,000 items or more, else float32; 32: float32."""
    ladq: LADQ = field(default_factory=LADQ)
    """Layer-adaptive precision: the format of each linear layer, chosen as it trains."""
    split_catalogue: bool = False
    """Where several processes train: each holds an even part of the item vectors and biases, with their Adam moments,
    instead of all. The updates are the same; what is sent between processes grows with the batch, not the items."""
    compile: bool = False
    """Pass the backbone through torch.compile."""
    device: Device = "auto"
    """Where to train: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    checkpoint_every_s: Weight = 60.0
    """Seconds between states saved inside an epoch; one is saved after every epoch anyway."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.earlier_windows and self.all_windows:
            raise ConfigError(
                "With all_windows every stretch of a long history is a row of its own, and earlier_windows has none to "
                "show in place of the last: leave it out, or choose all_windows=False (on the command line "
                "--no-all-windows)."
            )

    def of(self, stage: Stage) -> Training:
        """As a stage is trained that sets its batches and its precision by itself.

        Raises:
            ConfigError: it sets them to what they cannot be.
        """
        own = {"batch_positions": stage.batch_positions, "precision": stage.precision}
        return replace(self, **{name: value for name, value in own.items() if value is not None})

    def told(self, stages: Sequence[Stage]) -> Training:
        """With the epochs of a stage that is alone, as an alignment is; of several each is told as it begins."""
        own = stages[0].epochs if len(stages) == 1 else None
        return replace(self, epochs=own or self.epochs)
