"""The machine that trains: what decides whether the same training comes to the same bits there."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def described(device: torch.device) -> dict[str, Any]:
    """Processor, device, threads and build of PyTorch, as a run records them."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A sentence on what is not as it was, None where all is."""
    changed = [
        f"{key} {before.get(key)!r} then, {value!r} now" for key, value in now.items() if before.get(key) != value
    ]
    if not changed:
        return None
    return (
        f"This run was begun on another machine or setting ({'; '.join(changed)}), and will not "
        "come to the same bits as one that never stopped: sums are made in another order."
    )


def _processor() -> str:
    """Its model where the system tells, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return named or platform.machine()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
