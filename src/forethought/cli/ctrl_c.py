"""Ctrl-C and a polite kill, which stop a verb even where a library swallows the first KeyboardInterrupt.

Compiled code that clears an error which is not its own does so now and then (seen in numpy and polars): the work would
go on to its end as if nothing had been pressed. Whether the exception still travels, or is being tidied up after, is
told by its being alive.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 0.2  # until it is looked whether the exception has been lost


class _Pressed(KeyboardInterrupt):
    """Of a class of ours, since a built-in exception has no weak references."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt until it gets through; training has a way of its own."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    raised: weakref.ref[_Pressed] | None = None

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        pressed = _Pressed()
        raised = weakref.ref(pressed)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        try:
            raise pressed
        finally:
            del pressed  # else its traceback would keep it alive for ever

    def look(number: int, frame: FrameType | None) -> None:
        if raised is not None and raised() is None:
            press(number, frame)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)

    handlers = {signal.SIGINT: press, signal.SIGTERM: press, signal.SIGALRM: look}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background, which Ctrl-C is not for
        del handlers[signal.SIGINT]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
