"""Layer-adaptive precision as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from forethought.errors import ConfigError
from forethought.settings import Between, Count, Settings, ShareBelowOne

Assign = Literal["off", "tolerance", "budget", "fp32", "bf16", "fp8"]
EMA_STEPS = 200  # that `ema` tells of: the default period
UNREAD = {"tolerance": ("tolerance",), "budget": ("budget",)}
"""What one way to assign alone reads."""


@dataclass(frozen=True, kw_only=True)
class LADQ(Settings):
    """Which format each linear layer multiplies in, and how that is found out."""

    assign: Assign = "off"
    """off: layers are as the training's precision has them; tolerance: each layer's cheapest format whose damage is
    within the tolerance; budget: the formats of least damage within a share of float32's time; fp32, bf16, fp8: the
    same for all layers. Narrow formats that do not pay on this machine are left out, unless forced."""
    tolerance: Annotated[float, Between(0, 100)] = 1e-4
    """Of each layer: nats of KL divergence between what the model says in float32 and so."""
    budget: Annotated[float, Between(0, 1, above=True)] = 0.7
    """Share of the time that the layers' products take in float32."""
    every: Count = 200
    """Steps from one sampling of sensitivities to the next."""
    samples: Annotated[int, Between(1, 1_000_000)] = 256
    """Histories of a sampling."""
    ema: ShareBelowOne = 0.5
    """Share of the earlier samplings in the running sensitivities 200 steps later; after other periods as much is
    forgotten in as many steps."""
    hysteresis: Annotated[float, Between(1, 1_000)] = 1.5
    """A layer changes to a narrower format only where its damage is so many times below the tolerance; an assignment
    within a budget only where the damage is so many times less."""
    force: bool = False
    """Take formats that cost time on this machine, emulated ones among them, as if time went with bits: for studies of
    what they do to quality."""

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = [name for name in LADQ.__dataclass_fields__ if getattr(self, name) != getattr(LADQ, name)]
        if self.assign == "off":
            unread = [name for name in asked if name != "assign"]
        elif self.adapts:
            unread = [name for way, names in UNREAD.items() if way != self.assign for name in names if name in asked]
        else:
            unread = [name for name in asked if name not in ("assign", "force")]
        if unread:
            raise ConfigError(
                f"With assign={self.assign!r} of ladq, {', '.join(unread)} would change nothing: leave that out, or "
                "choose another way to assign (on the command line --ladq.assign)."
            )

    @property
    def adapts(self) -> bool:
        """Whether formats follow sensitivities."""
        return self.assign in ("tolerance", "budget")

    def kept_after(self, steps: int) -> float:
        """Share of the earlier samplings in the running sensitivities when so many steps have passed since the last.

        It is a function of steps, so that a longer period is no longer memory: what a model was like when it was
        untrained is forgotten at the same step, however often it is sampled.
        """
        return self.ema ** (steps / EMA_STEPS)
