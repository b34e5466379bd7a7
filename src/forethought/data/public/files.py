"""Raw files as users have them: a file, a folder, an archive; plain or gzipped. Told apart by how they begin."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, cast

from forethought.errors import DataError
from forethought.files import first_line

Source = str | Path | Sequence[str | Path]

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")
DEPTH = 3  # folders within folders that are looked into
PEEK = 1 << 20  # bytes of a first line
DAMAGE = (EOFError, OSError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, order=True)
class RawFile:
    """One file, or one member of an archive; `open` gives its plain bytes."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{str(self.path)!r}" if self.member is None else f"{self.member!r} in {str(self.path)!r}"

    @property
    def name(self) -> str:
        """Base name without `.gz`."""
        return PurePosixPath(self.member or self.path.as_posix()).name.removesuffix(".gz")

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's bytes, decompressed on the way.

        Raises:
            DataError: it is damaged, cut off, encrypted or may not be read.
        """
        try:
            with ExitStack() as stack:
                yield self._stream(stack)
        except DAMAGE as error:
            raise DataError(
                f"{self} cannot be read to its end ({first_line(error)}): it is damaged or not all there; get it again."
            ) from error

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A plain file with these bytes: itself, or a temporary one."""
        if self.member is None and self.path.suffix != ".gz":
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="forethought-") as folder:
            plain = Path(folder) / self.name
            with self.open() as packed, plain.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            yield plain

    def first_line(self) -> str:
        with self.open() as file:
            return file.readline(PEEK).decode("latin-1").rstrip("\r\n")

    def _stream(self, stack: ExitStack) -> IO[bytes]:
        if self.member is None:
            raw = stack.enter_context(self.path.open("rb"))
        elif zipfile.is_zipfile(self.path):
            raw = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.member))
        else:
            archive = stack.enter_context(tarfile.TarFile.open(self.path))
            raw = cast(IO[bytes], archive.extractfile(self.member))  # None only for what is no file
        gzipped = (self.member or self.path.name).endswith(".gz")
        return cast(IO[bytes], stack.enter_context(gzip.open(raw))) if gzipped else raw


@dataclass(frozen=True)
class RawKind:
    """A kind of file.

    Attributes:
        what: its name in messages.
        names: regular expression that its base name (without `.gz`) matches, in any case.
        begins: regular expression found in its first line.
    """

    what: str
    names: str
    begins: str = ""

    def fits(self, file: RawFile) -> bool:
        named = re.fullmatch(self.names, file.name, re.IGNORECASE)
        return named is not None and (not self.begins or re.search(self.begins, file.first_line()) is not None)

    def all_in(self, source: Source) -> list[RawFile]:
        """All files of this kind, in order of name; archives are only looked into where no plain file fits.

        Raises:
            DataError: the source does not exist.
        """
        plain, packed = _candidates(source)
        return [file for file in plain if self.fits(file)] or [file for file in packed if self.fits(file)]

    def maybe_in(self, source: Source) -> RawFile | None:
        """The one file of this kind, or None.

        Raises:
            DataError: there are several.
        """
        files = self.all_in(source)
        if len(files) > 1:
            names = ", ".join(str(file) for file in files[:4])
            raise DataError(
                f"There are {len(files)} files of the kind {self.what}: {names}. Give the path of the one you mean "
                "(and, in a list with it, of the file about its items)."
            )
        return files[0] if files else None

    def only_in(self, source: Source) -> RawFile:
        """The one file of this kind.

        Raises:
            DataError: there is none, or there are several.
        """
        file = self.maybe_in(source)
        if file is None:
            raise DataError(
                f"There is no file of the kind {self.what} in {shown(source)}: give its path or its folder."
            )
        return file


def shown(source: Source) -> str:
    """What messages call this source."""
    return ", ".join(repr(str(path)) for path in _paths(source))


def _paths(source: Source) -> list[Path]:
    return [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]


def _candidates(source: Source) -> tuple[list[RawFile], list[RawFile]]:
    """Plain files and members of archives; hidden ones, such as a Mac's resource forks, are not looked at."""
    plain: list[RawFile] = []
    packed: list[RawFile] = []
    for path in _paths(source):
        if not path.exists():
            raise DataError(f"There is no file or folder {str(path)!r}.")
        files = [path] if not path.is_dir() else [f for d in range(DEPTH) for f in path.glob("*/" * d + "*")]
        for file in files:
            if not file.is_file() or file.name.startswith("."):
                continue
            if file.name.lower().endswith(ARCHIVES):
                packed += _members(file, file.stat().st_mtime_ns)
            else:
                plain.append(RawFile(file))
    return sorted(plain), sorted(packed)


@lru_cache(maxsize=16)
def _members(archive: Path, _changed: int) -> list[RawFile]:
    """The files in an archive; listing a compressed one means reading all of it, so once is enough."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                names = [entry.filename for entry in packed.infolist() if not entry.is_dir()]
        else:
            with tarfile.open(archive) as packed:
                names = [entry.name for entry in packed if entry.isfile()]
    except DAMAGE as error:
        raise DataError(
            f"The archive {str(archive)!r} cannot be read ({first_line(error).rstrip(':')}): it is damaged; "
            "get it again."
        ) from error
    return [RawFile(archive, name) for name in names if not PurePosixPath(name).name.startswith(".")]
