"""Micro-batches: histories of requests that wait are ranked together, by one thread, within a bounded queue.

Nobody waits for a batch to fill. While one is ranked the next requests gather, and are taken together as soon as the
thread is free: alone at rest, many at once under load.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from forethought.serving.failures import ExpiredError, OverloadedError

LEAST_PACE = 1.0  # histories a second that are counted on before any was measured


@dataclass(eq=False)
class Job:
    """What one request wants computed.

    Attributes:
        kind: jobs of one kind are worked on together.
        work: takes the inputs of several jobs and gives one answer an input.
        inputs: at least one.
        deadline: by the monotonic clock.
        allowed_ms: the same as it was asked for, to be told.
        answer: one value an input, or why there is none.
        queued_s: how long it waited; batch: how many inputs were worked on with it.
    """

    kind: Hashable
    work: Callable[[Sequence[Any]], Sequence[Any]]
    inputs: Sequence[Any]
    deadline: float
    allowed_ms: float
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[list[Any]] = field(default_factory=Future)
    queued_s: float = 0.0
    ranked_s: float = 0.0
    batch: int = 0


class Batcher:
    """The thread that ranks, and the queue before it; any thread may submit."""

    def __init__(self, *, queue: int, batch: int) -> None:
        self.most_waiting, self.most_batch = queue, batch
        self.waiting = 0  # inputs
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._pace = 0.0  # inputs a second
        self._thread = threading.Thread(target=self._run, name="ranking", daemon=True)
        self._thread.start()

    def submit(self, job: Job, *, room: float = 1.0) -> Job:
        """Queue a job.

        Args:
            room: the share of the queue that it may find taken; less for what is not urgent.

        Raises:
            OverloadedError: the queue is full. What is larger than the queue is taken when nothing waits.
        """
        with self._changed:
            if self._closed or (self.waiting and self.waiting + len(job.inputs) > self.most_waiting * room):
                raise OverloadedError(self.retry_after_s())
            self.waiting += len(job.inputs)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def retry_after_s(self) -> int:
        """When the queue will be worked off, at the pace of late."""
        return min(60, max(1, math.ceil(self.waiting / max(self._pace, LEAST_PACE))))

    def close(self) -> None:
        """Work off what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while (jobs := self._taken()) is not None:
            self._answer(jobs)

    def _taken(self) -> list[Job] | None:
        """The jobs of the next batch: the first that waits, and those of its kind; None at the end."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            if not self._jobs:
                return None
            first = self._jobs.popleft()
            jobs, size, others = [first], len(first.inputs), deque[Job]()
            while self._jobs and size < self.most_batch:
                job = self._jobs.popleft()
                if job.kind == first.kind and size + len(job.inputs) <= self.most_batch:
                    jobs.append(job)
                    size += len(job.inputs)
                else:
                    others.append(job)
            self._jobs.extendleft(reversed(others))
            self.waiting -= size
            return jobs

    def _answer(self, jobs: list[Job]) -> None:
        begin = time.monotonic()
        timely = []
        for job in jobs:
            job.queued_s = begin - job.arrived
            if not job.answer.set_running_or_notify_cancel():  # whoever asked has left
                continue
            if begin > job.deadline:
                job.answer.set_exception(ExpiredError(job.allowed_ms))
            else:
                timely.append(job)
        if timely:
            self._work(timely, begin)

    def _work(self, jobs: list[Job], begin: float) -> None:
        inputs = [each for job in jobs for each in job.inputs]
        try:
            parts = [jobs[0].work(inputs[n : n + self.most_batch]) for n in range(0, len(inputs), self.most_batch)]
            answers = [each for part in parts for each in part]
        except BaseException as error:  # whatever it is, somebody waits to be told
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:  # the others are not to suffer from the one
                self._work([job], time.monotonic())
            return
        took, place = time.monotonic() - begin, 0
        self._pace += 0.2 * (len(inputs) / max(took, 1e-6) - self._pace)
        for job in jobs:
            job.ranked_s, job.batch = took, len(inputs)
            job.answer.set_result(answers[place : place + len(job.inputs)])
            place += len(job.inputs)
