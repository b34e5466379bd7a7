"""An observer that stops a training as Ctrl-C does, in the middle of an epoch."""

from __future__ import annotations

from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet


class StopsAt(Quiet):
    """Before the step of this number is reported."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if not self.left:
            raise Interrupted
