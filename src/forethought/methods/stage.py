"""`Stage`: a part of a training, as a method asks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training, with an optimiser, a schedule and early stopping of its own.

    Attributes:
        name: what `begin_stage` is told; names a file too.
        epochs: at most; None: as many as the training's settings say.
        rate: its learning rate, as a share of the settings'.
        candidate: whether its weights may become the run's; False where a part of the method is still untrained.
        batch_positions: of its batches; None: as the training's settings say.
        precision: "auto", "bf16" or "32"; None: as the training's settings say.
        metric: of the validation part: which epoch of it is the best, and when it stops early. Between stages NDCG@10
            decides.
        batches: in an epoch, drawn anew for each; None: all there are.
        updates: made of each batch, which `Method.begin_batch` is told of before the first.
        patience: epochs without a better one before it stops; None: as the training's settings say.
        watched: more metrics of the validation part, for the log and the method's `diagnostics`.
        guard: another metric, no lower in the best epoch than when the stage began, but for what the last two allow;
            those weights are a candidate too.
        step_price: taken off what selects for each reasoning step, on average; NDCG@10 and the guard may then be lower
            than when the stage began, by a hundredth of themselves.
        may_lose: it learns what validation does not see, so that each epoch is better than those before it, as long as
            NDCG@10 and the guard are lower than when the stage began by this share of themselves at most; None: an
            epoch must be better.
    """

    name: str
    epochs: int | None = None
    rate: float = 1.0
    candidate: bool = True
    batch_positions: int | None = None
    precision: str | None = None
    metric: str = "ndcg@10"
    batches: int | None = None
    updates: int = 1
    patience: int | None = None
    watched: tuple[str, ...] = ()
    guard: str | None = None
    step_price: float = 0.0
    may_lose: float | None = None
