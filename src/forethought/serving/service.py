"""The service without its network: requests of plain values in, answers of plain values out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forethought.data.vocabulary import UNKNOWN
from forethought.errors import ForethoughtError, nearest, shown, some
from forethought.history_rows import history_times
from forethought.row_ranking import RankedList, RankingRequest
from forethought.serving.batching import Batcher, Job
from forethought.serving.candidates import EVERYTHING, Candidates
from forethought.serving.event_store import EventStore, check_kinds
from forethought.serving.failures import ExpiredError, OverloadedError, RequestError
from forethought.serving.item_lists import ItemLists
from forethought.serving.metrics import Metrics
from forethought.serving.models import Models
from forethought.serving.requests import Event, Id, Narrowing, Question
from forethought.serving.served_model import ServedModel
from forethought.serving.service_log import ServiceLog
from forethought.serving.settings import Serving

SHADOW_ROOM = 0.25  # of the queue: shadows are asked when there is little else to do
EVERYTHING_WELCOME = Narrowing()
EXPLAINED_ROOM = 0.5  # explanations take long, and leave room for lists


class Service:
    """Everything that answers, in one process."""

    def __init__(self, settings: Serving) -> None:
        torch.set_num_threads(settings.threads)
        self.settings, self.limits = settings, settings.limits
        self.metrics, self.log = Metrics(), ServiceLog(requests=settings.log_requests)
        self.models = Models(settings, self.metrics, self.log)
        self.lists = ItemLists(settings.state_folder / "lists", settings.limits.lists)
        self.batcher = Batcher(queue=settings.limits.queue, batch=settings.limits.batch)
        self.events: EventStore | None = None
        if settings.events is not None:
            kind = check_kinds([model.run.items.kind for model in self.models.all()])
            self.events = EventStore(Path(settings.events), kind, settings.event_users)
        self.ready = True

    def close(self) -> None:
        """Answer what waits, and end."""
        self.ready = False
        self.batcher.close()
        if self.events is not None:
            self.events.close()

    async def watch(self) -> None:
        """Look at the run folders from time to time, without end."""
        while True:
            await asyncio.sleep(self.settings.watch_s)
            try:
                await asyncio.to_thread(self.models.look)
            except Exception as error:  # it looks again
                self.log.failure("watching failed", error)

    async def recommend(self, question: Question) -> dict[str, Any]:
        """The lists of all histories, and explanations where they are asked for.

        Raises:
            ForethoughtError: the request cannot be answered; what is wrong, in a sentence.
        """
        arrived = time.monotonic()
        model = self.models.chosen(question.model, question.user)
        candidates = await self._candidates(model, question.narrowing)
        rows = _rows(model, question)
        requests = self._requests(model, question, rows, candidates)
        self.metrics.stages["read"].observe(time.monotonic() - arrived)
        ranked: dict[int, RankedList] = {}
        if requests:
            work = partial(model.ranked, constraints=candidates.constraints)
            kind = (model, candidates.constraints)
            job = self._job(kind, work, list(requests.values()), arrived, question)
            lists = await self._done(self.batcher.submit(job), job)
            ranked = dict(zip(requests, lists, strict=True))
            self._shadow(model, question, requests, ranked)
        begin = time.monotonic()
        results = [self._result(model, question, n, row, ranked.get(n), candidates) for n, row in enumerate(rows)]
        if question.explain:
            for n, request in requests.items():
                dropped = results[n]["unknown"]
                ask = partial(model.explained, request, candidates, dropped, question.target)
                results[n]["explanation"] = (await self._alone(ask, arrived, question)).to_json()
        self.metrics.stages["write"].observe(time.monotonic() - begin)
        answer = {"model": model.name, "version": model.version, "results": results}
        return answer | ({"unknown_in_lists": candidates.unknown} if candidates.unknown else {})

    async def explain(self, question: Question) -> dict[str, Any]:
        """How a model comes to its list for one history.

        Raises:
            ForethoughtError: the request cannot be answered; what is wrong, in a sentence.
        """
        arrived = time.monotonic()
        model = self.models.chosen(question.model, question.user)
        candidates = await self._candidates(model, question.narrowing)
        rows = _rows(model, question)
        requests = self._requests(model, question, rows, candidates)
        if not requests:
            raise RequestError("The history has no item that the model knows, so there is nothing to explain.")
        dropped = _unknown(question.histories[0], rows[0])
        ask = partial(model.explained, requests[0], candidates, dropped, question.target)
        explanation = await self._alone(ask, arrived, question)
        answer = {"model": model.name, "version": model.version, "explanation": explanation.to_json()}
        return answer if explanation.answer else answer | {"note": _why_nothing(model, rows[0], candidates)}

    async def similar(self, item: Id, k: int, model_name: str | None, narrowing: Narrowing) -> dict[str, Any]:
        """The items that a model holds for most alike."""
        arrived = time.monotonic()
        model = await asyncio.to_thread(self.models.alike, model_name)
        candidates = await self._candidates(model, narrowing)
        ask = partial(model.similar, item, k, candidates.allowed_N)
        ranked = await self._alone(ask, arrived, None)
        if not len(ranked.items):
            raise RequestError(f"No item is left but {shown(item)} itself: allow others, or leave a condition out.")
        return {"model": model.name, "version": model.version, "item": item, "items": model.listed(ranked)}

    async def search(self, words: str, k: int, model_name: str | None) -> dict[str, Any]:
        """Items by words of their title."""
        model = self.models.chosen(model_name, None)
        rows = await asyncio.to_thread(model.search, words, k)
        titles = model.metadata.titles
        items = [
            {
                "item": model.plain_id(row),
                "title": None if titles is None else titles[row],
                "met": int(model.counts_N[row, 1]),
            }
            for row in rows
        ]
        return {"model": model.name, "items": items}

    async def keep(self, events: Sequence[Event]) -> int:
        """Write events; how many.

        Raises:
            RequestError: this service keeps none, or one is of the wrong kind or names a model that is not served.
        """
        if self.events is None:
            raise RequestError("This service keeps no events: start it with --events FOLDER.")
        served = [model.name for model in self.models.all()]
        for place, event in enumerate(events):
            if event.model is not None and event.model not in served:
                raise RequestError(
                    f"Event {place} names the model {shown(event.model)}, but there are {', '.join(served)}: name one "
                    f"of them, or leave model out.{nearest(event.model, served)}"
                )
        kept = await asyncio.wrap_future(self.events.add(events))
        self.metrics.events.inc(kept)
        return kept

    def state(self) -> dict[str, Any]:
        """What is to be known of the service."""
        weights = {place.name: place for place in self.settings.models}
        models = [
            model.about() | {"weight": weights[model.name].weight, "shadow": weights[model.name].shadow}
            for model in self.models.all()
        ]
        return {"models": models, "lists": self.lists.names(), "events": self.events is not None, "pid": os.getpid()}

    async def _candidates(self, model: ServedModel, narrowing: Narrowing) -> Candidates:
        if narrowing == EVERYTHING_WELCOME:
            return EVERYTHING
        return await asyncio.to_thread(model.candidates.of, narrowing, self.lists)

    def _requests(
        self, model: ServedModel, question: Question, rows: list[np.ndarray], candidates: Candidates
    ) -> dict[int, RankingRequest]:
        """What is ranked, by place; histories without a known item are not."""
        times = question.times
        if model.reads_times:
            if times is None and any(map(len, rows)):
                raise RequestError(
                    'This model reads the time of each interaction: give "times", Unix seconds beside each item.'
                )
            times = history_times(times or [[] for _ in rows], rows)
        exclude = model.excludes_history if question.exclude_history is None else question.exclude_history
        k = min(question.k, len(model.run.items))
        requests = {}
        for n, row in enumerate(rows):
            known = row[row != UNKNOWN]
            if len(known):
                dated = times[n] if model.reads_times and times is not None else None
                excluded = known if exclude else None
                requests[n] = RankingRequest(
                    known, k, np.asarray(dated) if dated is not None else None, excluded, candidates.allowed_N
                )
        return requests

    def _job(
        self, kind: Any, work: Callable[..., Any], inputs: Sequence[Any], arrived: float, question: Question | None
    ) -> Job:
        allowed_ms = (question.deadline_ms if question else None) or self.limits.deadline_ms
        return Job(kind, work, inputs, arrived + allowed_ms / 1000, allowed_ms, arrived)

    async def _alone(self, ask: Callable[[], Any], arrived: float, question: Question | None) -> Any:
        """Something that is computed by itself, in its turn."""
        job = self._job(object(), lambda inputs: [each() for each in inputs], [ask], arrived, question)
        (answer,) = await self._done(self.batcher.submit(job, room=EXPLAINED_ROOM), job)
        return answer

    async def _done(self, submitted: Job, job: Job) -> list[Any]:
        self.metrics.queue.set(self.batcher.waiting)
        left_s = job.deadline - time.monotonic()
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(submitted.answer), max(left_s, 0.001))
        except TimeoutError:
            raise ExpiredError(job.allowed_ms) from None
        self.metrics.stages["queue"].observe(job.queued_s)
        self.metrics.stages["rank"].observe(job.ranked_s)
        self.metrics.batch.observe(job.batch)
        return answer

    def _result(
        self,
        model: ServedModel,
        question: Question,
        place: int,
        row: np.ndarray,
        ranked: RankedList | None,
        candidates: Candidates,
    ) -> dict[str, Any]:
        unknown = _unknown(question.histories[place], row)
        fallback = None
        if ranked is None:
            fallback, ranked = "popular", model.popular(min(question.k, len(model.run.items)), candidates.allowed_N)
            self.metrics.fallbacks.labels(model.name).inc()
        elif model.run.method.reasoning is not None:
            self.metrics.steps.labels(model.name).observe(ranked.steps)
        self.metrics.answers.labels(model.name).inc()
        if unknown:
            self.metrics.unknown.labels(model.name).inc(len(unknown))
        result = {"items": model.listed(ranked), "unknown": unknown, "fallback": fallback}
        return result if result["items"] else result | {"note": _why_nothing(model, row, candidates)}

    def _shadow(
        self,
        model: ServedModel,
        question: Question,
        requests: dict[int, RankingRequest],
        ranked: dict[int, RankedList],
    ) -> None:
        """Ask the shadows the same where there is room; nobody waits for them."""
        if question.narrowing != Narrowing():
            return  # their masks are of their own items, and would be made while others wait
        for name in self.models.shadows:
            shadow = self.models.named(name)
            try:
                rows = _rows(shadow, question)
                asked = self._requests(shadow, question, rows, Candidates())
                if not asked:
                    continue
                job = self._job((shadow, None), shadow.ranked, list(asked.values()), time.monotonic(), question)
                self.batcher.submit(job, room=SHADOW_ROOM)
            except OverloadedError:
                self.metrics.shadows.labels(name, "left out").inc()
            except ForethoughtError:
                self.metrics.shadows.labels(name, "failed").inc()
            else:
                lists = {n: model.run.items.id_list(ranked[n].items) for n in asked if n in ranked}
                job.answer.add_done_callback(partial(self._compare, shadow, asked, lists))

    def _compare(
        self, shadow: ServedModel, asked: dict[int, RankingRequest], lists: dict[int, list[Any]], answer: Future[Any]
    ) -> None:
        if answer.cancelled() or answer.exception() is not None:
            self.metrics.shadows.labels(shadow.name, "failed").inc()
            return
        for n, ranked in zip(asked, answer.result(), strict=True):
            self.metrics.shadows.labels(shadow.name, "answered").inc()
            if lists.get(n):
                both = set(lists[n]) & set(shadow.run.items.id_list(ranked.items))
                self.metrics.overlap.labels(shadow.name).observe(len(both) / len(lists[n]))


def _rows(model: ServedModel, question: Question) -> list[np.ndarray]:
    """The item rows of each history; an empty one is that of somebody of whom nothing is known.

    Raises:
        RequestError: with `unknown: error`, an id is not known.
    """
    rows = [model.run.items.index_of(history) for history in question.histories]
    for place, (history, row) in enumerate(zip(question.histories, rows, strict=True)):
        if question.unknown == "error" and (missing := _unknown(history, row)):
            raise RequestError(
                f"History {place} has items that the model does not know: {some(missing, 5)}; ids look like "
                f'{model.plain_id(0)!r} (and 7 is not "7"): correct them, or ask with "unknown": "drop".'
            )
    return rows


def _unknown(history: Sequence[Id], row: np.ndarray) -> list[Id]:
    return [history[place] for place in np.flatnonzero(row == UNKNOWN).tolist()]


def _why_nothing(model: ServedModel, row: np.ndarray, candidates: Candidates) -> str:
    """Why a list is empty, though some items may be recommended."""
    allowed_N = candidates.allowed_N
    allowed = range(len(model.run.items)) if allowed_N is None else np.flatnonzero(allowed_N.numpy()).tolist()
    if set(allowed) <= set(row.tolist()):
        return 'The history holds all that may be recommended: allow other items, or ask with "exclude_history": false.'
    return "The model came to none of the items that may be recommended: leave a condition out."
