"""Downloads, against a server on loopback that can be told to misbehave."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forethought.data.downloads import download, fetch_text
from forethought.errors import DataError

BODY = bytes(range(256)) * 20_000  # about 5 MB, several blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY; the attributes say how."""

    daemon_threads = True
    body = BODY
    ranges = True
    etag: str | None = '"one"'
    cut_after: int | None = None  # of the next answer only
    statuses: list[int]  # of the next answers, before the good one
    asked: list[str | None]  # the Range of each request

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the game."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        same = self.headers.get("If-Range") in (None, server.etag)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges and same else 0
        if start and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.end_headers()
            return
        body = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, server.cut_after = server.cut_after, None
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.statuses, running.asked = [], []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_checked_and_the_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = download(server.url, tmp_path / "new" / "a.zip", sha256=SHA256, report=lambda *said: told.append(said))
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["a.zip"]
    assert told[0] == (f"downloading {server.url}", 0, len(BODY))
    assert told[-1] == (f"downloading {server.url}", len(BODY), len(BODY))


def test_md5_is_checked_too(server: Server, tmp_path: Path) -> None:
    assert download(server.url, tmp_path / "a.zip", md5=MD5.upper()).exists()


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = 3_000_000
    path = download(server.url, tmp_path / "a.zip", sha256=SHA256, backoff_s=0)
    assert path.read_bytes() == BODY
    assert server.asked == [None, "bytes=3000000-"]


def test_the_next_call_resumes_what_this_one_left(server: Server, tmp_path: Path) -> None:
    server.cut_after = 3_000_000
    with pytest.raises(DataError, match="3,000,000 of 5,120,000 bytes arrived"):
        download(server.url, tmp_path / "a.zip", attempts=1)
    assert (tmp_path / "a.zip.part").stat().st_size == 3_000_000
    assert not (tmp_path / "a.zip").exists()
    assert download(server.url, tmp_path / "a.zip").read_bytes() == BODY
    assert server.asked[-1] == "bytes=3000000-"
    assert names(tmp_path) == ["a.zip", "a.zip.sha256"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, 3_000_000
    assert download(server.url, tmp_path / "a.zip", sha256=SHA256, backoff_s=0).read_bytes() == BODY


def test_a_file_that_changed_on_the_server_is_not_mixed_with_its_old_beginning(server: Server, tmp_path: Path) -> None:
    server.cut_after = 3_000_000
    with pytest.raises(DataError):
        download(server.url, tmp_path / "a.zip", attempts=1)
    server.etag, server.body = '"two"', BODY[::-1]
    assert download(server.url, tmp_path / "a.zip").read_bytes() == BODY[::-1]


def test_without_a_checksum_or_a_mark_of_the_version_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.etag, server.cut_after = None, 3_000_000
    assert download(server.url, tmp_path / "a.zip", backoff_s=0).read_bytes() == BODY
    assert server.asked == [None, None]


def test_a_part_that_was_complete_needs_nothing_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(BODY)
    assert download(server.url, tmp_path / "a.zip", sha256=SHA256).read_bytes() == BODY
    assert names(tmp_path) == ["a.zip"]


def test_a_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(BODY + b"!")
    assert download(server.url, tmp_path / "a.zip", sha256=SHA256, backoff_s=0).read_bytes() == BODY


def test_a_wrong_checksum_keeps_nothing_and_says_both(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"expected \\({'0' * 64}\\), but {SHA256}"):
        download(server.url, tmp_path / "a.zip", sha256="0" * 64)
    assert names(tmp_path) == []


def test_what_is_there_is_checked_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(BODY)
    assert download(server.url, path, sha256=SHA256) == path
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"does not have the sha256 that was expected.*Delete it"):
        download(server.url, path, sha256=SHA256)
    assert server.asked == []


def test_an_unpublished_checksum_is_recorded_once_and_held_to(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    path = download(server.url, tmp_path / "a.zip", report=lambda what, *_: told.append(what))
    assert (tmp_path / "a.zip.sha256").read_text() == f"{SHA256}  a.zip\n"
    assert told[-1].startswith("recorded the SHA-256 of a.zip")
    assert download(server.url, path) == path
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="does not have the sha256"):
        download(server.url, path)


def test_404_is_told_at_once_with_what_to_do(server: Server, tmp_path: Path) -> None:
    server.statuses = [404, 404]
    with pytest.raises(DataError) as said:
        download(server.url, tmp_path / "a.zip")
    assert "answered 404" in str(said.value)
    assert str(tmp_path / "a.zip") in str(said.value)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert download(server.url, tmp_path / "a.zip", backoff_s=0).read_bytes() == BODY
    assert len(server.asked) == 3


def test_offline_says_which_file_to_put_where(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.zip"
        with pytest.raises(DataError) as said:
            download(url, tmp_path / "a.zip", attempts=2, backoff_s=0)
    assert url in str(said.value)
    assert str(tmp_path / "a.zip") in str(said.value)
    assert "refused" in str(said.value)
    assert names(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/file.zip"
        with pytest.raises(DataError, match="timed out"):
            download(url, tmp_path / "a.zip", attempts=1, timeout_s=0.1)


def test_a_full_disk_is_not_taken_for_the_network(server: Server, tmp_path: Path, monkeypatch) -> None:
    class FullDisk:
        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_, **__: FullDisk())
    with pytest.raises(DataError, match="No space left on device"):
        download(server.url, tmp_path / "a.zip")
    assert len(server.asked) == 1


def test_only_the_web_is_downloaded_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Only http and https"):
        download("file:///etc/hostname", tmp_path / "a.zip")


def test_short_texts(server: Server) -> None:
    server.body = b"MD5 (a.zip) = abc\n"
    assert fetch_text(server.url) == "MD5 (a.zip) = abc\n"
    server.statuses = [404]
    with pytest.raises(DataError, match="answered 404"):
        fetch_text(server.url)


def test_a_link_where_a_download_waits_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "a.zip.part").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="no ordinary file"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "mine").read_text() == "precious"
