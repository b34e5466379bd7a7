"""Where tensors are computed: the CPU, or a CUDA device where there is one."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from forethought.errors import RunError
from forethought.settings import Like, check

Device = Literal["auto", "cpu", "cuda"] | Annotated[str, Like(r"cuda:\d{1,4}", "cuda:1")]


def resolve_device(device: Device) -> torch.device:
    """The device that a word stands for; cuda without a number is the first one.

    Raises:
        ConfigError: no such word.
        RunError: CUDA is asked for, and this machine does not show that device.
    """
    check(device, Device, "device")
    shown = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.startswith("cuda"):
        if shown == 0:
            raise RunError(f"device is {device}, but this machine shows no CUDA device: use device=cpu or auto.")
        at = int(device.partition(":")[2] or 0)
        if at >= shown:
            raise RunError(
                f"device is {device}, but this machine shows {shown} CUDA device{'s' * (shown > 1)}, counted from 0: "
                f"use {', '.join(f'cuda:{n}' for n in range(min(shown, 8)))}, cpu or auto."
            )
        return torch.device("cuda", at)
    return torch.device("cuda", 0) if device == "auto" and shown else torch.device("cpu")
