"""forethought serve"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from forethought.cli.shared import console, parse

if TYPE_CHECKING:
    from forethought.serving.settings import Limits, ModelPlace

Many = tyro.conf.UseAppendAction


@dataclass(kw_only=True)
class Serve:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME=]RUN ...")]
    """Run folders; a model is called like its folder unless a name stands before it."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in: then set a key."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    workers: int = 1
    """Processes; they share the weights."""
    threads: int = 1
    """Threads that compute in each process."""
    weight: Annotated[tuple[str, ...], Many, tyro.conf.arg(metavar="NAME=SHARE")] = ()
    """Share of the requests that a model answers, relative to the others'; again for another model."""
    shadow: Annotated[tuple[str, ...], Many, tyro.conf.arg(metavar="NAME")] = ()
    """A model that is asked beside the one that answers, for the metrics alone; again for another one."""
    list: Annotated[tuple[str, ...], Many, tyro.conf.arg(metavar="NAME=FILE")] = ()
    """A list to register, a text file with one item id a line; again for another one."""
    events: Path | None = None
    """Folder for the tables of events that clients report; without it they are refused."""
    event_users: Literal["text", "integer"] = "text"
    """How ids of users are written in these tables."""
    state: Path | None = None
    """Folder for lists and copies of the runs, which stays; without it they are forgotten at the end."""
    api_key_file: Path | None = None
    """File with a key that clients must send; the variable FORETHOUGHT_API_KEY does as well."""
    cors: Annotated[tuple[str, ...], Many, tyro.conf.arg(metavar="ORIGIN")] = ()
    """A web site whose pages may ask, such as https://shop.example; again for another one."""
    queue: int = 512
    """Histories that may wait; beyond it clients are told to come again."""
    requests: int = 32
    """Requests that one process works on at once; likewise."""
    batch: int = 64
    """Histories that are ranked together."""
    deadline_ms: float = 2000.0
    """Milliseconds from a request to its answer."""
    most_histories: int = 256
    """Histories that one request may hold."""
    most_items: int = 1000
    """Items that one history may hold."""
    most_k: int = 500
    """Items that a list may have."""
    most_bytes: int = 1_000_000
    """Bytes that a request may have."""
    watch_s: float = 2.0
    """Seconds between two looks at the run folders, whose new versions are taken over."""
    quiet: bool = False
    """Log no single requests."""


def run(arguments: list[str]) -> None:
    about = (
        "Answer over HTTP: recommendations, reasons, search, and a page to look at them.\n\n"
        "Example: forethought serve runs/first\n"
        "         forethought serve a=runs/first b=runs/second --weight a=9 --weight b=1 --workers 2"
    )
    args = parse(Serve, arguments, "serve", about)
    from forethought.serving.http_server import check_installed

    check_installed()
    key = _key(args.api_key_file)
    places, limits = _places(args), _limits(args)
    state = Path(tempfile.mkdtemp(prefix="forethought-serve-")) if args.state is None else args.state
    try:
        _serve(args, places, limits, state, key)
    except KeyboardInterrupt:
        console().print("Stopped.")  # which is how a service ends
    finally:
        if args.state is None:
            shutil.rmtree(state, ignore_errors=True)


def _serve(args: Serve, places: tuple[ModelPlace, ...], limits: Limits, state: Path, key: str | None) -> None:
    from forethought.errors import ConfigError
    from forethought.folders import alone
    from forethought.serving.processes import serve
    from forethought.serving.settings import Serving

    settings = Serving(
        models=places,
        state=str(state),
        events=None if args.events is None else str(args.events),
        host=args.host,
        port=args.port,
        workers=args.workers,
        threads=args.threads,
        watch_s=args.watch_s,
        limits=limits,
        api_key=key,
        cors=args.cors,
        log_requests=not args.quiet,
        event_users=args.event_users,
    )
    if key is None and args.host not in ("127.0.0.1", "localhost", "::1"):
        console().print(f"Whoever reaches {args.host} may ask this service: set FORETHOUGHT_API_KEY to ask for a key.")
    if sys.platform == "win32" and args.workers > 1:
        raise ConfigError("Several processes need a POSIX system: leave --workers out.")
    with alone(state):
        _register(args, settings)
        said = console()
        serve(settings, lambda address: said.print(f"The page and the service: {address} (Ctrl-C stops them)"))


def _places(args: Serve) -> tuple[ModelPlace, ...]:
    from forethought.errors import ConfigError
    from forethought.serving.settings import ModelPlace

    if not args.runs:
        raise ConfigError("serve needs a run folder: forethought serve RUN, such as runs/first.")
    folders: dict[str, str] = {}
    for word in args.runs:
        name, named, folder = word.partition("=")
        if not named:
            name, folder = Path(word).resolve().name, word
        if name in folders:
            raise ConfigError(f"Two models are called {name!r}: name one of them otherwise, NAME=RUN.")
        folders[name] = folder
    weights = {name: _number(share, "--weight") for name, share in _pairs(args.weight, "--weight", "NAME=SHARE")}
    for name in (*weights, *args.shadow):
        if name not in folders:
            raise ConfigError(f"There is no model {name!r}; there are {', '.join(folders)}.")
    return tuple(
        ModelPlace(name=name, folder=folder, weight=weights.get(name, 1.0), shadow=name in args.shadow)
        for name, folder in folders.items()
    )


def _limits(args: Serve) -> Limits:
    from forethought.serving.settings import Limits

    return Limits(
        queue=args.queue,
        requests=args.requests,
        batch=args.batch,
        deadline_ms=args.deadline_ms,
        histories=args.most_histories,
        history=args.most_items,
        k=args.most_k,
        body_bytes=args.most_bytes,
    )


def _register(args: Serve, settings: object) -> None:
    """The lists of the command line; ids are read as those of the first model are."""
    if not args.list:
        return
    from forethought.cli.recommend import ids_in
    from forethought.errors import ConfigError
    from forethought.recommender import load
    from forethought.serving.item_lists import ItemLists
    from forethought.serving.settings import Serving

    assert isinstance(settings, Serving)
    model = load(settings.models[0].folder, device="cpu")
    lists = ItemLists(settings.state_folder / "lists", settings.limits.lists)
    for name, file in _pairs(args.list, "--list", "NAME=FILE"):
        ids = ids_in(Path(file), model)
        known = int((model.items.index_of(ids) >= 0).sum())
        if not known:
            raise ConfigError(
                f"The list {name} in {file} has {len(ids):,} ids, of which the model {settings.models[0].name!r} knows "
                f"none: give one id a line, such as {model.items.id_list([0])[0]}."
            )
        lists.register(name, ids)
        console().print(f"List {name}: {len(ids):,} items, {known:,} of them known to the model.")


def _pairs(words: tuple[str, ...], option: str, form: str) -> list[tuple[str, str]]:
    from forethought.errors import ConfigError, shown

    pairs = [word.partition("=") for word in words]
    for word, (name, named, value) in zip(words, pairs, strict=True):
        if not (name and named and value):
            raise ConfigError(f"{option} is {shown(word)}, but must be {form}.")
    return [(name, value) for name, _, value in pairs]


def _number(word: str, option: str) -> float:
    from forethought.errors import ConfigError, shown

    try:
        return float(word)
    except ValueError:
        raise ConfigError(f"{option} is {shown(word)}, but a share is a number, such as b=0.1.") from None


def _key(file: Path | None) -> str | None:
    from forethought.errors import ConfigError
    from forethought.files import first_line

    if file is None:
        key = os.environ.get("FORETHOUGHT_API_KEY", "")
        source = "FORETHOUGHT_API_KEY"
    else:
        source = str(file)
        try:
            key = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read as a key ({first_line(error)}): give a text file.") from error
    if file is None and not key:
        return None
    if len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"The key in {source} must have at least 8 characters of ASCII, and no spaces.")
    return key
