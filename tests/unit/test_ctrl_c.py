"""Ctrl-C gets through, once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import pytest

from forethought.cli.ctrl_c import AGAIN_S, stopped_by_signals

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def within(work: Callable[[], None]) -> None:
    with stopped_by_signals():
        work()


@SIGNALS
def test_an_interrupt_that_a_library_swallows_comes_again(number: signal.Signals) -> None:
    def deaf() -> None:
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                time.sleep(5)
        time.sleep(20 * AGAIN_S)

    with pytest.raises(KeyboardInterrupt):
        within(deaf)


@SIGNALS
def test_tidying_up_after_an_interrupt_is_left_in_peace(number: signal.Signals) -> None:
    tidied = []

    def tidy() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            time.sleep(3 * AGAIN_S)
            tidied.append(True)

    with pytest.raises(KeyboardInterrupt):
        within(tidy)
    assert tidied


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with stopped_by_signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
