"""What a training multiplies in, decided once from what was asked for and what is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forethought.catalogue.narrow import cpu_has_bf16
from forethought.errors import ConfigError
from forethought.methods.interface import Stage
from forethought.training.settings import Training

LEAST_ITEMS = 1000  # of a catalogue for which auto takes bfloat16 on a CPU: with fewer the casts eat what is won
LEAVE = "(--precision 32: nothing but float32)"


@dataclass(frozen=True)
class Precision:
    """The answer.

    Attributes:
        name: "bf16" or "32".
        narrow: the walks over the items are bfloat16 on a CPU, and nothing else is.
        sentence: what the user is told of it; empty for float32.
    """

    name: Literal["32", "bf16"] = "32"
    narrow: bool = False
    sentence: str = ""


def choose(settings: Training, device: str, n_items: int, *, walks: bool) -> Precision:
    """The precision of a training.

    Args:
        device: "cpu" or "cuda".
        walks: whether some loss of the method is a softmax over all items.

    Raises:
        ConfigError: bf16 was asked for, and this processor or this loss would make nothing of it.
    """
    if settings.precision == "32":
        return Precision()
    if device == "cuda" and settings.precision == "auto":  # float32 was no slower where it was measured
        return Precision()
    if device == "cuda":
        return Precision("bf16", sentence=f"Products are made in bfloat16, sums in float32 {LEAVE}.")
    asked = settings.precision == "bf16"
    if asked and not cpu_has_bf16():
        raise ConfigError(
            "precision is bf16, but this processor does not multiply bfloat16 (it has neither AVX-512 BF16 nor AMX): "
            "choose auto or 32."
        )
    if asked and not walks:
        raise ConfigError(
            "precision is bf16, but on a CPU only a softmax over all items (the loss ce) gains from it, and this model "
            "is trained otherwise: choose auto or 32."
        )
    if asked or (walks and n_items >= LEAST_ITEMS and cpu_has_bf16()):
        rest = "everything else" if settings.ladq.assign == "off" else "what is neither that nor a layer of LADQ's"
        sentence = f"The softmax over the items multiplies in bfloat16, {rest} in float32 {LEAVE}."
        return Precision("bf16", narrow=True, sentence=sentence)
    return Precision()


def choose_for_stages(
    settings: Training, stages: Sequence[Stage], device: str, n_items: int, *, walks: bool
) -> dict[str, Precision]:
    """`choose` for each stage, by its name.

    Raises:
        ConfigError: as `choose`, or a stage asks for another precision than the training's where all share one.
    """
    run = choose(settings, device, n_items, walks=walks)
    precisions = {stage.name: choose(settings.of(stage), device, n_items, walks=walks) for stage in stages}
    for name, own in precisions.items():
        if device != "cpu" and own.name != run.name:
            raise ConfigError(
                f"Stage {name!r} is to be trained in {own.name} and the training in {run.name}, but on a GPU all "
                "stages share one precision: choose the same for both, or train on the CPU."
            )
    return precisions
