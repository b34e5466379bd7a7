"""The processes of a service: one, or several beneath one that starts a new one where one has died.

They share the socket, the copies of the runs and the lists. Whoever is beneath holds the end of a pipe, and stops when
the one above is gone, however it went.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from forethought.data.vocabulary import IdKind
from forethought.errors import ConfigError
from forethought.files import first_line, read_json, write_json
from forethought.serving.event_store import check_earlier, check_kinds, schema_of
from forethought.serving.http import app_of
from forethought.serving.http_server import check_installed, run_server
from forethought.serving.metrics import forget_process, share_metrics
from forethought.serving.run_copies import read_version
from forethought.serving.service_log import ServiceLog
from forethought.serving.settings import Serving

SETTINGS_FILE, ADDRESS_FILE, KEY_VARIABLE = "serving.json", "address.json", "FORETHOUGHT_API_KEY"
PAUSE_S, EARLY_S, LONGEST_PAUSE_S = 0.2, 10.0, 30.0  # who dies early is started again ever later
STOPPING_S = 30.0
MODULE = "forethought.serving.worker"


def serve(settings: Serving, announce: Callable[[str], None] = lambda _: None) -> None:
    """Answer until told to stop.

    Args:
        announce: is told the address, once something listens there and the runs are sound.

    Raises:
        MissingExtraError: a package is missing.
        RunError: a run cannot be served.
        DataError: nor can events be kept.
        ConfigError: nothing can listen there.
    """
    check_installed()
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    with _listen(settings.host, settings.port) as listening:
        address = {"host": settings.host, "port": listening.getsockname()[1], "pid": os.getpid()}
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        page = f"http://{host}:{address['port']}/"
        if settings.workers == 1:
            app = app_of(settings)
            announce(page)
            write_json(settings.state_folder / ADDRESS_FILE, address)
            run_server(app, listening, settings.limits)
            return
        # What is wrong is refused here, and not by each process again and again.
        kinds: list[IdKind] = [read_version(place, settings.state_folder).run.items.kind for place in settings.models]
        if settings.events is not None:
            check_earlier(Path(settings.events), schema_of(check_kinds(kinds), settings.event_users))
        announce(page)
        write_json(settings.state_folder / SETTINGS_FILE, settings.to_json())
        write_json(settings.state_folder / ADDRESS_FILE, address)
        share_metrics(settings.state_folder / "metrics")
        Workers(settings, listening).run()


def work(state: Path, listening: int, parent: int) -> None:
    """What a process beneath does.

    Args:
        listening, parent: descriptors of the socket and of the pipe.
    """
    parts = read_json(state / SETTINGS_FILE, "start the service anew")
    settings = Serving.from_json(parts, os.environ.get(KEY_VARIABLE) or None)
    run_server(app_of(settings), socket.socket(fileno=listening), settings.limits, parent=parent)


class Workers:
    """The processes beneath, kept alive."""

    def __init__(self, settings: Serving, listening: socket.socket) -> None:
        self.settings, self.listening, self.log = settings, listening, ServiceLog()
        self.running: list[subprocess.Popen[bytes]] = []
        self.started: dict[int, float] = {}
        self.stopping = False
        self.pause_s = PAUSE_S
        self.theirs, self.ours = os.pipe()

    def run(self) -> None:
        """Until a signal says stop."""
        before = [signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            self.running = [self._start() for _ in range(self.settings.workers)]
            while not self.stopping:
                time.sleep(PAUSE_S)
                self._renew()
        finally:
            self._end()
            for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
                signal.signal(number, handler)

    def _start(self) -> subprocess.Popen[bytes]:
        listening = self.listening.fileno()
        words = [sys.executable, "-m", MODULE, str(self.settings.state_folder), str(listening), str(self.theirs)]
        environment = os.environ | {KEY_VARIABLE: self.settings.api_key or ""}
        process = subprocess.Popen(words, pass_fds=(listening, self.theirs), env=environment)
        self.started[process.pid] = time.monotonic()
        return process

    def _renew(self) -> None:
        for place, process in enumerate(self.running):
            if process.poll() is None:
                continue
            lived_s = time.monotonic() - self.started.pop(process.pid, 0.0)
            self.log.warning("a process died", died=process.pid, code=process.returncode, lived_s=round(lived_s, 1))
            forget_process(process.pid)
            self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S) if lived_s < EARLY_S else PAUSE_S
            time.sleep(self.pause_s)
            if not self.stopping:
                self.running[place] = self._start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _end(self) -> None:
        os.close(self.ours)  # they see it, and answer what waits
        until = time.monotonic() + STOPPING_S
        for process in self.running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        os.close(self.theirs)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"Nothing can listen on {host}:{port} ({first_line(error)}): choose another --port or --host."
        ) from error
    return listening
