"""Micro-batches: what waits is worked on together, and one that fails harms nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from forethought.serving.batching import Batcher, Job
from forethought.serving.failures import ExpiredError, OverloadedError


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(queue=10, batch=4)
    yield batcher
    batcher.close()


class Work:
    """Doubles numbers, and remembers how many came together; holds until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go, self.begun = threading.Event(), threading.Event()

    def __call__(self, inputs: Sequence[int]) -> list[int]:
        self.begun.set()
        assert self.go.wait(20)
        self.sizes.append(len(inputs))
        if 13 in inputs:
            raise ValueError("13")
        return [2 * each for each in inputs]


def job(work: Any, *inputs: int, kind: str = "a", within_s: float = 20.0) -> Job:
    return Job(kind, work, inputs, time.monotonic() + within_s, 1000 * within_s)


def test_what_waits_is_worked_on_together(batcher: Batcher) -> None:
    work = Work()
    first = batcher.submit(job(work, 1))
    work.begun.wait(20)
    others = [batcher.submit(job(work, 2)), batcher.submit(job(work, 9, kind="b")), batcher.submit(job(work, 3, 4))]
    work.go.set()
    assert first.answer.result(20) == [2]
    assert [each.answer.result(20) for each in others] == [[4], [18], [6, 8]]
    assert work.sizes == [1, 3, 1]  # the other kind comes in its turn
    assert others[0].batch == 3
    assert batcher.waiting == 0


def test_a_large_request_is_cut_and_put_together_again(batcher: Batcher) -> None:
    work = Work()
    work.go.set()
    assert batcher.submit(job(work, *range(10))).answer.result(20) == [2 * n for n in range(10)]
    assert work.sizes == [4, 4, 2]


def test_one_that_fails_harms_nobody_else(batcher: Batcher) -> None:
    work = Work()
    held = batcher.submit(job(work, 0))
    work.begun.wait(20)
    jobs = [batcher.submit(job(work, number)) for number in (1, 13, 2)]
    work.go.set()
    held.answer.result(20)
    assert jobs[0].answer.result(20) == [2]
    assert jobs[2].answer.result(20) == [4]
    with pytest.raises(ValueError, match="13"):
        jobs[1].answer.result(20)


def test_the_queue_is_bounded_and_shadows_have_less_of_it(batcher: Batcher) -> None:
    work = Work()
    batcher.submit(job(work, 0))
    work.begun.wait(20)
    batcher.submit(job(work, *range(4)))
    with pytest.raises(OverloadedError):
        batcher.submit(job(work, 1, 2), room=0.5)
    batcher.submit(job(work, *range(6)))
    with pytest.raises(OverloadedError) as refusal:
        batcher.submit(job(work, 1))
    assert refusal.value.retry_after_s is not None
    work.go.set()


def test_what_comes_too_late_is_not_worked_on(batcher: Batcher) -> None:
    work = Work()
    batcher.submit(job(work, 0))
    work.begun.wait(20)
    late = batcher.submit(job(work, 5, within_s=0.01))
    cancelled = batcher.submit(job(work, 6))
    assert cancelled.answer.cancel()
    time.sleep(0.05)
    work.go.set()
    with pytest.raises(ExpiredError):
        late.answer.result(20)
    batcher.close()
    assert work.sizes == [1]


def test_closing_answers_what_waits() -> None:
    batcher, work = Batcher(queue=10, batch=4), Work()
    jobs = [batcher.submit(job(work, number)) for number in range(5)]
    threading.Timer(0.05, work.go.set).start()
    batcher.close()
    assert [each.answer.result(0) for each in jobs] == [[0], [2], [4], [6], [8]]
    with pytest.raises(OverloadedError):
        batcher.submit(job(work, 1))
