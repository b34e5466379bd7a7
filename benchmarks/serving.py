"""The service on loopback, with a load generator beside it on the same machine: latency, throughput, overload, reloads.

    python benchmarks/serving.py RUN... [--workers 2] [--seconds 20] [--overload-s 60] [--reloads 100]

Every answer under overload and under reloads is held against the library's own. The generator is one process of bare
sockets; it takes its share of the machine's cores, which the service would have elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forethought.recommender import Recommender, load

K = 10
POOL = 400  # different requests
CLOSE = 1e-4  # scores nearer than this may change places, as products of another size round otherwise


@dataclass
class Tally:
    """What came back."""

    latencies_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: int = 0
    expired: int = 0
    histories: int = 0
    versions: set[str] = field(default_factory=set)
    unchecked: list[tuple[Request, bytes]] = field(default_factory=list)

    def check(self, pool: Pool) -> None:
        """Hold the answers against the library's, once nobody is timed any more."""
        for request, text in self.unchecked:
            body = json.loads(text)
            self.versions.add(body["version"])
            self.wrong += not pool.agrees(request, body)

    def quantile_ms(self, share: float, refusals: bool = False) -> float:
        values = self.refusals_s if refusals else self.latencies_s
        return 1000 * float(np.quantile(values, share)) if values else float("nan")


@dataclass(frozen=True)
class Request:
    """The bytes of a request, and the rows of histories in it."""

    text: bytes
    rows: range


@dataclass
class Pool:
    """Requests that are sent over and over, and what each version of the model says to them."""

    requests: list[Request]
    histories: list[list[Any]]
    expected: dict[str, list[tuple[list[Any], list[float]]]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Recommender, per_request: int) -> Pool:
        draw = np.random.default_rng(1)
        counts = model.item_table["train_count"].to_numpy().astype(float)
        popular = np.cumsum(counts / counts.sum())  # real histories hold popular items more often
        lengths = np.clip(draw.geometric(1 / 8, POOL * per_request), 1, 50)
        rows = [np.searchsorted(popular, draw.random(n)).clip(0, len(counts) - 1) for n in lengths]
        histories = [model.items.id_list(row) for row in rows]
        requests = []
        for n in range(0, len(histories), per_request):
            body = json.dumps({"histories": histories[n : n + per_request], "k": K}, default=str).encode()
            head = (
                "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            requests.append(Request(head.encode() + body, range(n, n + per_request)))
        pool = cls(requests, histories)
        pool.know(model)
        return pool

    def know(self, model: Recommender) -> None:
        """Work out what a version says."""
        lists = model.recommend(self.histories, K + 5)
        assert model.weights_sum is not None
        self.expected[model.weights_sum[:12]] = [(each.items, each.scores) for each in lists]

    def agrees(self, request: Request, body: dict[str, Any]) -> bool:
        expected = self.expected.get(body["version"])
        if expected is None or len(body["results"]) != len(request.rows):
            return False
        return all(
            _same(
                [each["item"] for each in result["items"]], [each["score"] for each in result["items"]], *expected[row]
            )
            for row, result in zip(request.rows, body["results"], strict=True)
        )


def _columns(items: list[dict[str, Any]]) -> tuple[list[Any], list[float]]:
    return [each["item"] for each in items], [each["score"] for each in items]


def _same(items: list[Any], scores: list[float], wanted: list[Any], wanted_scores: list[float]) -> bool:
    """The same list, but for places that equal scores may change."""
    if items == [str(item) if not isinstance(item, int) else item for item in wanted[: len(items)]]:
        return len(items) == K
    score_of = dict(zip(map(str, wanted), wanted_scores, strict=True))
    close = [abs(score_of.get(str(item), 1e9) - score) < CLOSE for item, score in zip(items, scores, strict=True)]
    return len(items) == K and all(close)


class Connection:
    """A connection that is kept, and asked one thing after the other."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, text: bytes) -> tuple[int, bytes]:
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(text)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        place = lower.index(b"content-length:") + 15
        body = await self.reader.readexactly(int(lower[place : lower.index(b"\r\n", place)]))
        if b"connection: close" in lower:
            self.reader = None
        return int(head[9:12]), body

    def drop(self) -> None:
        if self.reader is not None:
            self.writer.close()
            self.reader = None


async def one(connection: Connection, pool: Pool, place: int, tally: Tally, check: bool, due: float) -> None:
    request = pool.requests[place % len(pool.requests)]
    try:
        status, text = await connection.ask(request.text)
    except (OSError, asyncio.IncompleteReadError):
        connection.drop()
        tally.failed += 1
        return
    took = time.perf_counter() - due
    if status == 200:
        tally.latencies_s.append(took)
        tally.histories += len(request.rows)
        if check:
            tally.unchecked.append((request, text))
    elif status == 503:
        tally.refusals_s.append(took)
    elif status == 504:
        tally.expired += 1
    else:
        tally.failed += 1


async def closed_loop(port: int, pool: Pool, connections: int, seconds: float, check: bool = False) -> Tally:
    """So many clients, each of which asks as soon as it is answered."""
    tally, end = Tally(), time.perf_counter() + seconds
    places = iter(range(10**9))

    async def client() -> None:
        connection = Connection(port)
        while (now := time.perf_counter()) < end:
            await one(connection, pool, next(places), tally, check, now)
        connection.drop()

    await asyncio.gather(*(client() for _ in range(connections)))
    return tally


async def open_loop(
    port: int,
    pool: Pool,
    rate: float,
    seconds: float,
    connections: int,
    *,
    check: bool = False,
    late: bool = False,
    stop: asyncio.Event | None = None,
) -> Tally:
    """So many requests a second, whatever becomes of them; a request that finds no free client waits for one.

    Args:
        late: latency counts from the moment a request was due, and not from when it could be sent.
        stop: ends it before its time.
    """
    tally, free = Tally(), asyncio.Queue[Connection]()
    for _ in range(connections):
        free.put_nowait(Connection(port))
    running: set[asyncio.Task[None]] = set()

    async def send(connection: Connection, place: int, due: float) -> None:
        await one(connection, pool, place, tally, check, due)
        free.put_nowait(connection)

    begin = time.perf_counter()
    for place in range(int(rate * seconds)):
        due = begin + place / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        if time.perf_counter() - begin > seconds or (stop is not None and stop.is_set()):
            break
        connection = await free.get()
        task = asyncio.create_task(send(connection, place, due if late else time.perf_counter()))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return tally


class Service:
    """The service under test, in processes of its own."""

    def __init__(self, run: Path, workers: int, *options: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="bench-serving-"))
        words = [sys.executable, "-m", "forethought", "serve", f"run={run}", "--port", "0", "--state", self.state]
        words += ["--workers", workers, "--quiet", *options]
        self.log = (self.state / "log.txt").open("w")
        self.process = subprocess.Popen(
            list(map(str, words)), stderr=self.log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            time.sleep(0.2)
            if self.process.poll() is not None:
                raise SystemExit((self.state / "log.txt").read_text())
            if (self.state / "log.txt").read_text().count('"ready"') >= workers:
                self.port = json.loads((self.state / "address.json").read_text())["port"]
                return
        raise SystemExit("the service did not start")

    def memory_mb(self) -> float:
        """Private and shared pages, of all processes; pages that several share are counted once among them."""
        total = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.state, ignore_errors=True)


def _children(pid: int) -> Sequence[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def single_requests(service: Service, pool: Pool, seconds: float) -> None:
    asyncio.run(open_loop(service.port, pool, 100, 3, 32))
    halves = [asyncio.run(open_loop(service.port, pool, 100, seconds / 5, 32, late=True)) for _ in range(5)]
    p50 = statistics.median(each.quantile_ms(0.5) for each in halves)
    p99 = statistics.median(each.quantile_ms(0.99) for each in halves)
    print(f"  100 single requests a second: p50 {p50:.2f} ms, p99 {p99:.2f} ms (medians of 5)", flush=True)


def saturation(service: Service, model: Recommender, seconds: float) -> tuple[float, Pool]:
    """Histories a second by histories in a request; the requests a second of single ones, and their pool."""
    single = None
    for per_request, connections in ((1, 32), (8, 16), (32, 8)):
        pool = Pool.of(model, per_request)
        asyncio.run(closed_loop(service.port, pool, connections, 2))
        tallies = [asyncio.run(closed_loop(service.port, pool, connections, seconds / 5)) for _ in range(5)]
        pace = statistics.median(each.histories for each in tallies) / (seconds / 5)
        p99 = statistics.median(each.quantile_ms(0.99) for each in tallies)
        print(f"  saturated, {per_request} a request: {pace:,.0f} histories/s, p99 {p99:.1f} ms", flush=True)
        single = single or (pace, pool)
    assert single is not None
    return single


def overload(service: Service, pool: Pool, rate: float, seconds: float) -> None:
    asyncio.run(open_loop(service.port, pool, rate, 3, 256))
    before, memory = service.memory_mb(), []

    async def both() -> Tally:
        async def watch() -> None:
            while True:
                await asyncio.sleep(max(1.0, seconds / 20))
                memory.append(service.memory_mb())

        watching = asyncio.create_task(watch())
        tally = await open_loop(service.port, pool, rate, seconds, 256, check=True)
        watching.cancel()
        return tally

    tally = asyncio.run(both())
    tally.check(pool)
    n = len(tally.latencies_s) + len(tally.refusals_s) + tally.expired + tally.failed
    print(
        f"  {rate:,.0f} requests/s asked for {seconds:g} s: {n:,} sent, {len(tally.latencies_s):,} answered, "
        f"{tally.wrong} of them wrong; {len(tally.refusals_s):,} told to come again "
        f"(p50 {tally.quantile_ms(0.5, True):.1f} ms, p99 {tally.quantile_ms(0.99, True):.1f} ms); "
        f"{tally.expired} expired, {tally.failed} failed; memory {before:.0f} MB, then {min(memory):.0f} to "
        f"{max(memory):.0f} MB",
        flush=True,
    )


def reloads(folder: Path, model: Recommender, count: int, rate: float) -> None:
    """Another version takes the place of the run again and again, while requests come."""
    work = Path(tempfile.mkdtemp(prefix="bench-reload-"))
    served = Path(shutil.copytree(folder, work / "run"))
    pool, versions = Pool.of(model, 1), []
    for seed in range(2):
        other = load(folder, device="cpu")
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in other.method.parameters():
                parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter) if parameter.numel() > 1 else 0)
        versions.append(other.save(work / f"version-{seed}"))
        pool.know(load(versions[-1], device="cpu"))
    service = Service(served, 1, "--watch-s", "0.1")

    async def both() -> Tally:
        stop = asyncio.Event()
        asking = asyncio.create_task(open_loop(service.port, pool, rate, 10_000, 64, check=True, stop=stop))
        connection, asked = Connection(service.port), b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for done in range(1, count + 1):
            for path in versions[done % 2].iterdir():
                shutil.copyfile(path, served / path.name)
            line = f'forethought_reloads_total{{model="run",outcome="done"}} {done}.0'.encode()
            end = time.monotonic() + 30
            while line not in (await connection.ask(asked))[1]:
                if time.monotonic() > end:
                    raise SystemExit("a reload did not come about")
                await asyncio.sleep(0.05)
        stop.set()
        return await asking

    try:
        tally = asyncio.run(both())
        tally.check(pool)
    finally:
        service.end()
        shutil.rmtree(work, ignore_errors=True)
    print(
        f"  {count} reloads at {rate:g} requests/s: {len(tally.latencies_s):,} answered by {len(tally.versions)} "
        f"versions, {tally.wrong} wrong, {tally.failed} failed, p99 {tally.quantile_ms(0.99):.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--overload-s", type=float, default=0)
    parser.add_argument("--reloads", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for run in args.runs:
        model = load(run, device="cpu")
        print(
            f"{run.name}: {len(model.items):,} items, workers {args.workers}, load {os.getloadavg()[0]:.1f}", flush=True
        )
        service = Service(run, args.workers)
        try:
            single_requests(service, Pool.of(model, 1), args.seconds)
            pace, pool = saturation(service, model, args.seconds)
            if args.overload_s:
                overload(service, pool, 2 * pace, args.overload_s)
        finally:
            service.end()
        if args.reloads:
            reloads(run, model, args.reloads, 100)


if __name__ == "__main__":
    main()
