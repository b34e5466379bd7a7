"""What a service counts and times, for Prometheus: over all processes where there are several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from forethought.errors import MissingExtraError

SHARED = "PROMETHEUS_MULTIPROC_DIR"
LATENCIES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEPS = tuple(range(11))


def share_metrics(folder: Path) -> None:
    """Have all processes that are started from here write into one folder; to be called before any counts."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[SHARED] = str(folder)


def forget_process(pid: int) -> None:
    """One that counted has died: what it had waiting counts no more."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "serve", "A service") from error
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            "forethought_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.latency = Histogram(
            "forethought_latency_seconds",
            "Time by stage: read, queue, rank, write; total is all of them.",
            ["stage"],
            buckets=LATENCIES,
            registry=registry,
        )
        self.stages = {stage: self.latency.labels(stage) for stage in ("read", "queue", "rank", "write", "total")}
        self.batch = Histogram(
            "forethought_batch_histories", "Histories that were ranked together.", buckets=SIZES, registry=registry
        )
        self.queue = Gauge(
            "forethought_queue_histories", "Histories that wait.", registry=registry, multiprocess_mode="livesum"
        )
        self.steps = Histogram(
            "forethought_reasoning_steps", "Steps a history took.", ["model"], buckets=STEPS, registry=registry
        )
        self.answers = Counter("forethought_answers", "Lists by model.", ["model"], registry=registry)
        self.fallbacks = Counter(
            "forethought_fallbacks", "Lists of what is popular, for want of known items.", ["model"], registry=registry
        )
        self.unknown = Counter(
            "forethought_unknown_ids", "Ids of histories that are not known.", ["model"], registry=registry
        )
        self.reloads = Counter("forethought_reloads", "New versions of runs.", ["model", "outcome"], registry=registry)
        self.shadows = Counter(
            "forethought_shadow_answers", "Lists of shadows.", ["model", "outcome"], registry=registry
        )
        self.overlap = Histogram(
            "forethought_shadow_overlap",
            "Share of the answer that the shadow lists too.",
            ["model"],
            buckets=tuple(n / 10 for n in range(11)),
            registry=registry,
        )
        self.events = Counter("forethought_events", "Events that were kept.", registry=registry)

    def text(self) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and what kind of text that is."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry: Any = self.registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST
