"""The folder that is attacked: made for it, removed after it; one lane a worker, and what lies there before and after.

root/master/    what all cases start from, made once, read by all, changed by none
root/lane0/     one worker's
    case/       the case in hand: the working folder of every call
    precious/   somebody else's files: nothing may ever change here
    tmp/ home/  what the process takes for the system's temporary folder and the user's own
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
CACHES = ("home/.cache", "home/.config", "home/.triton")  # what libraries keep for themselves
WORKING = ("matplotlib", "lane")  # at the top, theirs whose lane it is
Tree = dict[str, tuple[object, ...]]


@dataclass(frozen=True)
class Lane:
    """Where one worker's calls run."""

    root: Path
    number: int

    @property
    def folder(self) -> Path:
        return self.root / f"lane{self.number}"

    @property
    def master(self) -> Path:
        return self.root / "master"

    @property
    def case(self) -> Path:
        return self.folder / "case"

    @property
    def precious(self) -> Path:
        return self.folder / "precious"

    def environment(self) -> dict[str, str]:
        """Of every call: nothing of the user's own is found by it."""
        home = str(self.folder / "home")
        return {
            "HOME": home,
            "XDG_CACHE_HOME": f"{home}/.cache",
            "TMPDIR": str(self.folder / "tmp"),
            "MPLCONFIGDIR": str(self.root / "matplotlib"),
            "TOKENIZERS_PARALLELISM": "false",
            "KINETO_LOG_LEVEL": "99",
        }

    def clear(self) -> None:
        """An empty case folder, and everything else as it was at first."""
        remove(self.folder)
        for name in ("case", "precious/photos", "tmp", "home"):
            (self.folder / name).mkdir(parents=True)
        for name in ("photos/a.jpg", "thesis.txt", "model.safetensors"):
            (self.precious / name).write_bytes(b"mine: " + name.encode())
        for path in (self.folder, *self.folder.rglob("*")):
            own(path)

    def take(self, *given: str | tuple[str, str]) -> None:
        """Copies of what lies in `master/`, under the same or another name."""
        for each in given:
            source, name = each if isinstance(each, tuple) else (each, Path(each).name)
            copy(self.master / source, self.case / name)


def copy(source: Path, target: Path) -> None:
    """A copy, with the times of its files and links as they are, that the calls may change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)
    for path in (target, *(target.rglob("*") if target.is_dir() else ())):
        own(path)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def own(path: Path) -> None:
    """Give a path to whoever the calls run as."""
    if os.geteuid() == 0:
        os.lchown(path, NOBODY, NOBODY)


def own_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        own(path)


def keep(folder: Path) -> None:
    """Nobody but root may change what lies there from now on, and root only on purpose."""
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.lchown(path, 0, 0)
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)


def remove(path: Path) -> None:
    """Whatever it is, and though somebody took the right to."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    path.chmod(0o700)
    for folder, inner, _ in os.walk(path):  # from the top, each before it is looked into
        for name in inner:
            if not os.path.islink(f"{folder}/{name}"):
                os.chmod(f"{folder}/{name}", 0o700)
    shutil.rmtree(path)


def names(folder: Path) -> dict[str, int]:
    """Path below the folder -> size, for all files; what comes and goes meanwhile may be missed."""
    found: dict[str, int] = {}
    todo = [str(folder)]
    while todo:
        at = todo.pop()
        try:
            with os.scandir(at) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                        found[entry.path] = -1
                    else:
                        found[entry.path] = entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return found


def snapshot(folder: Path, *, but: Iterable[Path] = ()) -> Tree:
    """Path -> what tells whether it was touched, for everything below a folder but some paths and what lies in them."""
    left_out, found = {str(path) for path in but}, {}
    todo = [str(folder)]
    while todo:
        at = todo.pop()
        try:
            entries = sorted(os.listdir(at))
        except OSError:
            found[at] = ("unreadable",)
            continue
        for name in entries:
            path = f"{at}/{name}"
            if path in left_out:
                continue
            info = os.lstat(path)
            kind = stat.S_IFMT(info.st_mode)
            if kind == stat.S_IFDIR:
                todo.append(path)
                found[path] = (kind, info.st_ino)
            else:
                link = os.readlink(path) if kind == stat.S_IFLNK else ""
                found[path] = (kind, info.st_ino, info.st_size, info.st_mtime_ns, link)
    return found


def changed(before: Tree, after: Tree, root: Path) -> list[str]:
    """In words what is new, gone or touched; of what came or went as a whole only the top."""
    told, whole = [], set()
    for path in sorted({*before, *after}):
        short, new, gone = os.path.relpath(path, root), path not in before, path not in after
        if new or gone:
            whole.add(path)
            if os.path.dirname(path) not in whole:
                told.append(f"{'new' if new else 'gone'} {short!a}")
        elif before[path] != after[path]:
            told.append(f"touched {short!a}")
    return told


def summed(changes: list[str]) -> list[str]:
    """The same in a few words: what happened in which folder, three names deep at most."""
    told = {}
    for change in changes:
        kind, path = change.split(" ", 1)
        names_ = path.strip("'\"").split("/")
        told[f"{kind} '{'/'.join(names_[:3])}{'/*' if len(names_) > 3 else ''}'"] = True
    return list(told)


def within(lane: Lane, name: str) -> Path:
    """Where a name leads from the case's folder, links not followed."""
    return Path(os.path.normpath(lane.case / name))


def own_files(lane: Lane) -> list[Path]:
    """What the attack itself writes in a lane: the outputs of its calls."""
    return [lane.folder / f"{told}{number}" for told in ("out", "err", "tell") for number in (0, 1)]


def outside(lane: Lane, outputs: Sequence[str]) -> Tree:
    """All that a call with these outputs has no business with: the rest of its folder, and the rest of the ground."""
    mine = [within(lane, name) for name in outputs]
    tree = snapshot(lane.folder, but=[*mine, *own_files(lane), *(lane.folder / name for name in CACHES)])
    tree |= {str(path): ("there",) for path in lane.root.iterdir() if not path.name.startswith(WORKING)}
    return tree | snapshot(lane.master, but=[lane.master / "tables"])
