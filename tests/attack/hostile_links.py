"""Hostile run folders: links that lead elsewhere under the names that are written to, and pipes, folders, endless
devices where a file is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attack import attempts, fixtures
from attack.cases import Case
from attack.ground import Lane, copy, own

KIND = "hostile folders"
RUN = "bent"
EVALUATE = ("evaluate", RUN, "--resamples", "20")
HISTORY = ("--history", "i00001,i00002", "--k", "24", "--json")
RESUME = (*fixtures.train("sasrec", RUN), "--resume")


def links() -> Iterator[Case]:
    """Links under the names that are written to, or beside them; they lead to what is precious."""
    names = (*("README.md", "config.json", "metrics.json", "per_user.parquet", "items.parquet", "log.jsonl"), ".trial")
    names += (
        "model.safetensors",
        "exactindex.bin",
        ".lock",
        "state/state.json",
        "state",
        "state/state-6-2.safetensors",
    )
    asks = {"evaluate": (*EVALUATE, "--data", "shop"), "approximate": ("recommend", RUN, *HISTORY, "--approximate")}
    asks["resume"] = RESUME
    for name in names:
        for ending in ("", ".part", ".tmp", "~", ".lock"):
            for ask, words in asks.items():

                def prepare(lane: Lane, name: str = name, ending: str = ending, ask: str = ask) -> None:
                    lane.take("shop", (f"{fixtures.STOPPED}/sasrec" if ask == "resume" else "runs/sasrec", RUN))
                    link = lane.case / RUN / f"{name}{ending}"
                    target = "photos" if name == "state" and not ending else "thesis.txt"
                    with contextlib.suppress(FileNotFoundError):
                        link.rename(lane.case / "away") if link.exists() else None
                    if target == "photos":
                        copy(lane.case / "away", lane.precious / "photos" / "state")
                        for path in (lane.precious / "photos" / "state").iterdir():
                            path.rename(lane.precious / "photos" / path.name)
                        (lane.precious / "photos" / "state").rmdir()
                    link.symlink_to(lane.precious / target)
                    own(link)

                yield attempts.case(
                    KIND, f"{name}{ending} of a run is a link elsewhere, {ask}", words, prepare=prepare, outputs=(RUN,)
                )


def in_place_of_files() -> Iterator[Case]:
    """A pipe, a socket, a folder, a link to nowhere or to itself, where a file of a run is read."""
    made: dict[str, Callable[[Path], Any]] = {
        "a pipe": os.mkfifo,
        "a folder": os.mkdir,
        "a link to nowhere": lambda path: path.symlink_to("nowhere"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
        "a link to the terminal": lambda path: path.symlink_to("/dev/tty"),
        "an empty file": lambda path: path.touch(),
        "a file of holes": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 34),
        "an unreadable file": lambda path: (path.touch(), path.chmod(0)),
    }
    asks = {
        "recommend": ("recommend", RUN, *HISTORY),
        "approximate": ("recommend", RUN, *HISTORY, "--approximate"),
        "evaluate": (*EVALUATE, "--data", "shop"),
        "compare": ("compare", f"a={RUN}", "b=seed1"),
        "resume": RESUME,
    }
    readers = {
        "config.json": ("recommend", "resume"),
        "model.safetensors": ("recommend", "resume"),
        "items.parquet": ("recommend", "resume"),
        "exactindex.bin": ("approximate",),
        "metrics.json": ("compare", "evaluate"),
        "per_user.parquet": ("compare", "evaluate"),
        "README.md": ("evaluate",),
        "log.jsonl": ("resume",),
        ".lock": ("resume", "evaluate"),
        "state": ("resume", "evaluate"),
        "state/state.json": ("resume", "evaluate"),
    }
    for file, asked in readers.items():
        for what, make in made.items():
            for ask in asked:

                def prepare(lane: Lane, file: str = file, make: Callable[[Path], Any] = make, ask: str = ask) -> None:
                    source = f"{fixtures.STOPPED}/sasrec" if ask == "resume" else "runs/sasrec"
                    lane.take("shop", (source, RUN), "runs/seed1")
                    at = lane.case / RUN / file
                    if at.is_dir():
                        at.rename(lane.case / "away")
                    at.unlink(missing_ok=True)
                    make(at)
                    own(at)

                yield attempts.case(
                    KIND, f"{file} of a run is {what}, {ask}", asks[ask], prepare=prepare, outputs=(RUN,)
                )
