"""A service in a process of its own, for tests to ask."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def until(condition: Callable[[], Any], within_s: float = 60.0) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come about")


class Server:
    """A service that runs, and what it said."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process, self.state = process, state
        address = state / "address.json"
        until(lambda: process.poll() is not None or (address.exists() and self._answers(address)))
        assert process.poll() is None, process.communicate()[1]

    def _answers(self, address: Path) -> bool:
        self.port = json.loads(address.read_text())["port"]
        try:
            return self.ask("/ready") == {"status": "ready"}
        except OSError:
            return False

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def started(command: list[Any], state: Path) -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("FORETHOUGHT_API_KEY", None)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Server(process, state)
    finally:
        process.kill()
        process.communicate()


def verb(runs: Path | list[str], state: Path, *words: Any) -> list[Any]:
    """The command line after `python`; state is the folder that the service writes its address to."""
    runs = runs if isinstance(runs, list) else [str(runs)]
    return ["-m", "forethought", "serve", *runs, "--port", "0", "--state", state, *words]
