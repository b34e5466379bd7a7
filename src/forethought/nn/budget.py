"""A module's memory is known before it is asked for: what is too large for the machine is refused at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from forethought.memory import check_room

Module = TypeVar("Module", bound=nn.Module)

UNASKED = 2**30  # bytes that are taken without a look at the machine
MAKERS = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full)
LOWER = "lower its widths, layers or windows"


def built(build: Callable[[], Module], *, copies: int = 1) -> Module:
    """The module that `build` makes; a large one is first made without memory, which takes a second.

    Args:
        copies: how often its numbers are to be held: 4 in training, with gradients and two moments.

    Raises:
        ShortOfMemoryError: the machine has not that much.
    """
    generator = torch.get_rng_state()
    try:
        with _Allowance(UNASKED // copies):
            return build()
    except _SpentError:
        torch.set_rng_state(generator)
    with torch.device("meta"):
        parts = build().state_dict().values()
    check_room(copies * sum(part.nbytes for part in parts), "This model", LOWER)
    return build()


class _SpentError(Exception):
    """More was asked for than is taken without a look."""


class _Allowance(TorchFunctionMode):
    """Adds up what new tensors take, and stops the one that would take too much."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.left = n_bytes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in MAKERS:
            size = args[0] if args and not isinstance(args[0], int) else args
            self.left -= 4 * math.prod(map(int, size))
            if self.left < 0:
                raise _SpentError
        return func(*args, **(kwargs or {}))
