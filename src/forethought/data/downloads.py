"""Downloads that can be trusted: resumed after a break, checked before they get their name, never half there.

A file whose publisher prints a checksum is held to it. Of any other file the SHA-256 is recorded beside it
(`NAME.sha256`) when it first arrives, and it is held to that from then on.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from forethought.data.progress import Report, silent
from forethought.errors import DataError
from forethought.files import check_path

BLOCK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that another try may change
TROUBLE = (OSError, http.client.HTTPException)  # of the network; trouble with the disk is a DataError by then


class _Broken(Exception):
    """The transfer ended early; what arrived is kept, and another try may bring the rest."""


@dataclass(frozen=True)
class Checksum:
    """What a file must hash to; `algorithm` is "sha256" or "md5"."""

    algorithm: str
    digest: str

    @classmethod
    def given(cls, sha256: str | None, md5: str | None) -> Checksum | None:
        if sha256:
            return cls("sha256", sha256.lower())
        return cls("md5", md5.lower()) if md5 else None

    @classmethod
    def of(cls, path: Path, algorithm: str = "sha256") -> Checksum:
        with path.open("rb") as file:
            hasher = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
        return cls(algorithm, hasher.hexdigest())

    def refuse(self, path: Path, what: str) -> None:
        """Raise unless the file has this checksum."""
        got = Checksum.of(path, self.algorithm)
        if got != self:
            raise DataError(
                f"{what} does not have the {self.algorithm} that was expected ({self.digest}), but {got.digest}: "
                "it is damaged or not the same file. Delete it, or download it again."
            )


def download(
    url: str,
    to: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    report: Report = silent,
    timeout_s: float = 30.0,
    attempts: int = 4,
    backoff_s: float = 1.0,
) -> Path:
    """Download a file, or check the one that is already there.

    What has arrived waits in `NAME.part` and is resumed by the next call, if the server can and the file there
    has not changed; otherwise it starts again.

    Args:
        url: http or https address.
        to: the file to be made; its folder is made too.
        sha256, md5: published checksum, hexadecimal; the first one given counts. Without any, the SHA-256 is
            recorded beside the file when it first arrives, and checked from then on.
        report: told of bytes done.
        timeout_s: longest silence of the server, in seconds.
        attempts: how often to try before giving up; only passing trouble is tried again.
        backoff_s: pause before the second try, in seconds; doubled for each further one.

    Raises:
        DataError: the server cannot be reached or refuses, the disk is full, or the checksum is wrong; the text
            says where to put the file by hand. A file with a wrong checksum is not kept.
    """
    to = Path(to)
    expected = Checksum.given(sha256, md5)
    if not url.startswith(("http://", "https://")):
        raise DataError(f"Only http and https addresses can be downloaded, but {url!r} was given.")
    check_path(to)
    if to.exists():
        _check_or_record(to, expected, report)
        return to
    part = to.with_name(to.name + ".part")
    for waiting in (part, _tag(part)):  # a link there would be followed when it is appended to
        if waiting.is_symlink() or (waiting.exists() and not waiting.is_file()):
            raise DataError(
                f"{str(waiting)!r} is no ordinary file, and what arrives would be appended to it: remove it."
            )
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder {str(to.parent)!r} cannot be made ({error.strerror}).") from error
    for pause_s in [backoff_s * 2**i for i in range(attempts - 1)] + [None]:
        try:
            _transfer(url, part, expected is not None, timeout_s, report)
            break
        except (*TROUBLE, _Broken) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code not in PASSING
            if final or pause_s is None:
                raise _by_hand(url, to, error) from error
            time.sleep(pause_s)
    _name(part, to, expected, url)
    _check_or_record(to, expected, report, fresh=True)
    return to


def fetch_text(url: str, *, timeout_s: float = 30.0) -> str:
    """A short text from the web, such as a published checksum; at most 1 MiB.

    Raises:
        DataError: the server cannot be reached or refuses.
    """
    try:
        with urllib.request.urlopen(_request(url), timeout=timeout_s) as answer:
            return answer.read(BLOCK).decode("utf-8", "replace")
    except TROUBLE as error:
        raise DataError(f"{url} could not be read ({_reason(error)}): check the connection.") from error


def _request(url: str, headers: dict[str, str] | None = None) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "forethought", **(headers or {})})


def _transfer(url: str, part: Path, checked: bool, timeout_s: float, report: Report) -> None:
    """Bring `part` to its full length, from where it stands if that is safe."""
    tag = _tag(part).read_text(encoding="utf-8") if _tag(part).exists() else ""
    have = part.stat().st_size if part.exists() and (tag or checked) else 0
    headers = {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})} if have else {}
    try:
        answer = urllib.request.urlopen(_request(url, headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if _total(error.headers.get("Content-Range")) == have:
            return  # all of it had arrived before the break
        part.unlink()
        raise _Broken(f"the file there is no longer as long as the {have:,} bytes that had arrived") from error
    with answer:
        resumes = answer.status == http.client.PARTIAL_CONTENT
        if resumes and _start(answer.headers.get("Content-Range")) != have:
            raise _Broken("the server resumed at another place than asked")
        length = answer.headers.get("Content-Length")
        done = have if resumes else 0
        total = done + int(length) if length else None
        _write(part, "ab" if resumes else "wb")
        _write(_tag(part), "wb", _validator(answer.headers).encode())
        report(f"downloading {url}", done, total)
        while block := answer.read(BLOCK):
            _write(part, "ab", block)
            done += len(block)
            report(f"downloading {url}", done, total)
    if total is not None and done != total:
        raise _Broken(f"{done:,} of {total:,} bytes arrived")


def _name(part: Path, to: Path, expected: Checksum | None, url: str) -> None:
    """Give the file its final name if it is what it should be; else nothing of it stays."""
    try:
        if expected:
            expected.refuse(part, f"What {url} sent")
    except DataError:
        part.unlink()
        raise
    finally:
        _tag(part).unlink(missing_ok=True)
    os.replace(part, to)


def _write(path: Path, mode: str, block: bytes = b"") -> None:
    """Add a block; trouble with the disk must not pass for trouble with the network."""
    try:
        with path.open(mode) as file:
            file.write(block)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be written ({error.strerror}): free some space there.") from error


def _tag(part: Path) -> Path:
    """Where the server's mark of this version of the file is kept while it is under way."""
    return part.with_name(part.name + ".tag")


def _validator(headers: http.client.HTTPMessage) -> str:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _start(content_range: str | None) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match[1]) if match else None


def _total(content_range: str | None) -> int | None:
    match = re.search(r"/(\d+)$", content_range or "")
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _by_hand(url: str, to: Path, error: Exception) -> DataError:
    return DataError(
        f"{url} could not be downloaded ({_reason(error)}). Download it by other means, for example in a browser or "
        f"on another machine, and put it here: {to.resolve()}"
    )


def _check_or_record(path: Path, expected: Checksum | None, report: Report, *, fresh: bool = False) -> None:
    """Hold the file to its published checksum, else to the recorded one, else record it."""
    record = path.with_name(path.name + ".sha256")
    if expected:
        if not fresh:
            expected.refuse(path, f"{str(path)!r}")
        return
    if record.exists() and not fresh:
        words = record.read_text(encoding="utf-8").split()
        Checksum("sha256", words[0] if words else "nothing").refuse(path, f"{str(path)!r}")
        return
    record.write_text(f"{Checksum.of(path).digest}  {path.name}\n", encoding="utf-8")
    size = path.stat().st_size
    report(f"recorded the SHA-256 of {path.name}, which is held to it from now on", size, size)
