"""How much memory there is, and what is said where it does not suffice."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from forethought.errors import ForethoughtError

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


class ShortOfMemoryError(ForethoughtError):
    """More memory is needed than there is."""


def machine_memory() -> int:
    """Bytes that this machine, or the container we run in, has in all; where neither says, more than anybody needs."""
    limits = [2**60]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(CGROUP_LIMIT.read_text(encoding="ascii")))
    return min(each for each in limits if each > 0)


def check_room(n_bytes: float, what: str, mend: str) -> None:
    """Refuse work that cannot fit, before memory is asked for.

    Raises:
        ShortOfMemoryError: the machine has less in all.
    """
    if n_bytes > (there := machine_memory()):
        raise ShortOfMemoryError(
            f"{what} needs about {_gigabytes(n_bytes)} of memory, but this machine has {_gigabytes(there)}: {mend}."
        )


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"
