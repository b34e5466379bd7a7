"""The processes and devices of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from forethought.devices import resolve_device
from forethought.errors import ConfigError
from forethought.settings import from_environment
from forethought.training.settings import Training

if TYPE_CHECKING:  # importing it takes longer than importing torch
    from lightning_fabric import Fabric

LAUNCHED = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("SLURM_PROCID", "JSM_NAMESPACE_RANK"),
)
"""What launchers set, and what Fabric's modules take for whole numbers as soon as they are imported."""


def launch(settings: Training) -> Fabric:
    """The processes and devices to train on: those of `torchrun` where it started us, else one.

    Raises:
        ConfigError: what a launcher sets in the environment is no number.
        RunError: there is no such device.
    """
    for name in LAUNCHED:
        from_environment(name, 0)
    from lightning_fabric import Fabric

    under_torchrun = torch.distributed.is_torchelastic_launched()
    device = resolve_device(settings.device)
    accelerator = device.type
    if under_torchrun and ":" in settings.device:
        raise ConfigError(
            f"device is {settings.device}, but torchrun gives each process a device of its own: use cuda or auto."
        )
    bf16 = accelerator == "cuda" and settings.precision == "bf16"  # on a CPU it is the walk over items that narrows
    alone = [device.index] if accelerator == "cuda" else 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=from_environment("LOCAL_WORLD_SIZE", 1) if under_torchrun else alone,
        num_nodes=from_environment("GROUP_WORLD_SIZE", 1) if under_torchrun else 1,
        strategy="ddp" if under_torchrun else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    return fabric
