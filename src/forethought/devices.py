"""Where tensors are computed: the CPU, or a CUDA device where there is one."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from forethought.errors import ConfigError, RunError, nearest

Device = Literal["auto", "cpu", "cuda"]


def resolve_device(device: str) -> torch.device:
    """The device that a word stands for.

    Raises:
        ConfigError: no such word.
        RunError: CUDA is asked for, and this machine shows none.
    """
    if device not in get_args(Device):
        known = get_args(Device)
        raise ConfigError(f"device is {device!r}, but must be one of {', '.join(known)}.{nearest(device, known)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("device is cuda, but this machine shows no CUDA device: use device=cpu or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
