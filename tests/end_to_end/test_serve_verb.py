"""The service as a process of its own, over a real port: lists, signals, clients that misbehave, killed workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from service_process import started, until, verb
from shell import Shell

from forethought.recommender import load

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SLOW = """
import sys
from forethought.serving.processes import serve
from forethought.serving.settings import Limits, ModelPlace, Serving
limits = Limits(slow_client_s=0.5, connections=20, body_bytes=2000)
serve(Serving(models=(ModelPlace(name="run", folder=sys.argv[1]),), state=sys.argv[2], port=0, limits=limits))
"""


def test_a_service_from_its_start_to_its_end(run: Path, tmp_path: Path) -> None:
    model = load(run)
    stock = model.items.id_list(range(10, 25))
    (tmp_path / "stock.txt").write_text("\n".join([*stock, "not known"]))
    words = ("--list", f"stock={tmp_path / 'stock.txt'}", "--events", tmp_path / "events")
    with started(verb(run, tmp_path / "state", *words), tmp_path / "state") as server:
        histories = [model.items.id_list([row, 39 - row]) for row in range(30)]

        def ask(history: list[Any]) -> list[Any]:
            answer = server.ask("/recommend", {"history": history, "allow_list": "stock"})
            return [each["item"] for each in answer["results"][0]["items"]]

        with ThreadPoolExecutor(8) as pool:
            lists = list(pool.map(ask, histories))
        assert lists == [each.items for each in model.recommend(histories, allow=stock)]
        event = {"user": "u1", "item": stock[0]}
        assert server.ask("/events", {"events": [event]}) == {"kept": 1}
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as reply:
            assert b'forethought_requests_total{endpoint="/recommend",status="200"} 30.0' in reply.read()
        server.process.send_signal(signal.SIGTERM)
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == 0
    assert pl.read_parquet(tmp_path / "events")["item_id"].to_list() == [stock[0]]
    assert "List stock: 16 items, 15 of them known to the model." in said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    asked = [line for line in lines if line["event"] == "request" and line["path"] == "/recommend"]
    assert len(asked) == 30
    assert all(line["status"] == 200 and line["ms"] > 0 and line["id"] for line in asked)
    assert "Traceback" not in said


def test_killed_workers_come_back_and_share_what_was_told(run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with started(verb(run, state, "--workers", "2", "--quiet"), state) as server:

        def pids() -> set[int]:
            return {server.ask("/models")["pid"] for _ in range(30)}

        before = until(lambda: len(seen := pids()) == 2 and seen)
        item = load(run).items.id_list([7])[0]
        server.ask("/lists/one", {"items": [item]}, "PUT")
        os.kill(min(before), signal.SIGKILL)

        def renewed() -> set[int] | None:
            try:
                seen = pids()
            except (OSError, ValueError):  # what it was answering when it was killed
                return None
            return seen if len(seen) == 2 and seen != before else None

        after = until(renewed)
        assert max(before) in after
        for _ in range(20):  # by both of them
            answer = server.ask("/recommend", {"history": [item], "allow_list": "one", "exclude_history": False})
            assert [each["item"] for each in answer["results"][0]["items"]] == [item]
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as reply:
            assert b'forethought_answers_total{model="run"} 20.0' in reply.read()
        server.process.kill()  # the one above goes without a word
        until(lambda: not any(_alive(pid) for pid in after))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_clients_that_misbehave(run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with started(["-c", SLOW, run, state], state) as server:
        with server.connect() as silent, server.connect() as trickling:
            trickling.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\n")
            begin = time.monotonic()
            assert silent.recv(100) == b""
            assert trickling.recv(100) == b""
            assert time.monotonic() - begin < 10
        head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with server.connect() as slow:
            slow.sendall(head % 100 + b'{"hist')
            assert slow.recv(12) == b"HTTP/1.1 408"
        with server.connect() as huge:
            huge.sendall(head % 10**12)
            assert huge.recv(12) == b"HTTP/1.1 413"
        with server.connect() as endless:
            endless.sendall((head % 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            reply = b""
            try:
                for _ in range(1000):
                    endless.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
                    time.sleep(0.001)
            except OSError:
                pass  # it has been cut off
            else:
                reply = endless.recv(12)
            assert reply in (b"", b"HTTP/1.1 413")
        for nonsense in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /x HTTP/9.9\r\n\r\n", b"\r\n" * 50 + b"?"):
            with server.connect() as odd:
                odd.sendall(nonsense)
                said = odd.recv(1000)
                assert said.startswith(b"HTTP/1.1 400")
                assert b"content-type: application/json" in said
                assert set(json.loads(said.partition(b"\r\n\r\n")[2])) == {"error"}
        many = [server.connect() for _ in range(25)]
        time.sleep(0.2)
        assert any(b"503" in _received(each) for each in many)
        for each in many:
            each.close()
        assert server.ask("/health") == {"status": "alive"}
        server.process.send_signal(signal.SIGINT)
        server.process.wait(60)


def _received(connection: socket.socket) -> bytes:
    connection.settimeout(0.05)
    try:
        return connection.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "There is no run folder 'nowhere'"),
        ([], "serve needs a run folder"),
        (["RUN", "--weight", "other=1"], "There is no model 'other'; there are run."),
        (["RUN", "--weight", "run"], "must be NAME=SHARE"),
        (["RUN", "--weight", "run=much"], "a share is a number"),
        (["RUN", "--weight", "run=0"], "No model is left to answer"),
        (["RUN", "--shadow", "run"], "No model is left to answer"),
        (["RUN", "RUN"], "Two models are called 'run'"),
        (["a/b=RUN"], "name is 'a/b'"),
        (["RUN", "--port", "70000"], "port is 70000"),
        (["RUN", "--list", "stock=nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["RUN", "--api-key-file", "nowhere.txt"], "nowhere.txt cannot be read as a key"),
        (["RUN", "--host", "203.0.113.7"], "Nothing can listen on 203.0.113.7"),
        (["RUN", "--queue", "0"], "queue is 0"),
        (["RUN", "--cors", "https://a.example/path"], "cors is 'https://a.example/path', which no browser sends"),
        (["RUN", "--event-users", "integer"], "give --events FOLDER"),
        (["RUN", "--list", "stock=empty.txt"], "The list stock in empty.txt has 0 ids"),
        (["RUN", "--list", "stock=other.txt"], "has 2 ids, of which the model"),
    ],
)
def test_wrong_words_end_in_one_sentence(
    shell: Shell, run: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORETHOUGHT_API_KEY", raising=False)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "other.txt").write_text("unheard\nof\n")
    sentence = shell.wrong("serve", *[word.replace("RUN", str(run)) for word in words])
    assert said in sentence


def test_a_taken_port_and_a_weak_key_are_refused(shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another --port" in shell.wrong("serve", run, "--port", taken.getsockname()[1])
    monkeypatch.setenv("FORETHOUGHT_API_KEY", "short")
    assert "at least 8 characters" in shell.wrong("serve", run)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_address_is_told_of_a_service_that_does_not_come_to_be(shell: Shell, run: Path, workers: int) -> None:
    said = shell.run("serve", "nowhere", "--port", 0, "--workers", workers)
    assert said.code == 2
    assert "http" not in said.out + said.err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_of_events_with_other_ids_is_refused_at_the_start(
    shell: Shell, run: Path, tmp_path: Path, workers: int
) -> None:
    earlier = pl.DataFrame({"user_id": [7], "item_id": ["i00001"], "timestamp": [1_700_000_000]})
    (tmp_path / "events").mkdir()
    earlier.write_parquet(tmp_path / "events" / "events-1.parquet")
    said = shell.wrong("serve", run, "--port", 0, "--events", tmp_path / "events", "--workers", workers)
    assert "holds user_ids of type Int64, but this service writes String" in said
    (tmp_path / "events" / "events-1.parquet").write_bytes(b"half")
    said = shell.wrong("serve", run, "--port", 0, "--events", tmp_path / "events", "--workers", workers)
    assert "cannot be read" in said
