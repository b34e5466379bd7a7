"""Ctrl-C (and a polite kill) let the step in hand finish, save, and stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from forethought.training.observer import EndedEarly

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user; its state is saved."""


class Interrupt:
    """While inside, the first signal only raises a flag; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self.in_main = threading.current_thread() is threading.main_thread()  # others may not install handlers
        if self.in_main:
            self.before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.in_main:
            for number, handler in self.before.items():
                signal.signal(number, handler)
        if self.asked and kind is not None and issubclass(kind, EndedEarly):
            raise Interrupted from None  # who would begin another training was to stop too

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
