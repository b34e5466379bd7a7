"""What several verbs share: parsing, the console, and where the data comes from."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from forethought.cli.wrong_options import in_a_sentence
from forethought.errors import ConfigError
from forethought.escaping import printable, printable_json

if TYPE_CHECKING:
    from forethought.data.columns import Columns
    from forethought.data.interactions import Interactions
    from forethought.data.noise import Noise
    from forethought.data.splits import Split
    from forethought.methods.interface import Method
    from forethought.reasoning.halting import Halting

T = TypeVar("T")
TOKENIZERS = {"mpq": "MPQ", "rqvae": "RQVAE", "rqkmeans": "RQKMeans", "opq": "OPQ", "random": "RandomTokens"}
"""What the command line calls the tokenizers, and their classes."""

Column = Annotated[
    str | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="COLUMN|none",
        instance_from_str=lambda given: None if given[0] == "none" else given[0],
        is_instance=lambda value: value is None or isinstance(value, str),
        str_from_instance=lambda value: [value or "none"],
    ),
]
Choice = Literal["auto", "yes", "no"]
CHOICES: dict[Choice, bool | None] = {"auto": None, "yes": True, "no": False}


def parse(cls: Callable[..., T], arguments: list[str], verb: str, about: str, *, pairs: bool = False) -> T:
    """The verb's options. `about` holds an example.

    With `pairs` a switch has a negative beside it, for those that are on by default.

    Raises:
        ConfigError: one is unknown (with the nearest known one), missing, or has a value of another kind.
    """
    style = (tyro.conf.DisallowNone, *(() if pairs else (tyro.conf.FlagCreatePairsOff,)))
    ask = partial(tyro.cli, cls, prog=f"forethought {verb}", description=about, config=style)
    for option in ("--out", "--name"):
        if f"{option}=" in arguments or (option, "") in itertools.pairwise(arguments):
            raise ConfigError(f"{option} is empty: give it a value, or leave it out.")
    with in_a_sentence(arguments, lambda: ask(args=["--help"])):
        return ask(args=arguments)


class PlainConsole(Console):
    """A console for sentences that hold names from data: no bracket in them is markup, no character a command."""

    def render_str(self, text: str, **choices: Any) -> Text:
        choices |= {"markup": False, "emoji": False}
        return super().render_str(printable(text), **choices)


def console() -> Console:
    """Progress and remarks go to standard error, results to standard output."""
    return PlainConsole(stderr=True, soft_wrap=True)


def print_json(value: Any) -> None:
    takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not takes_all, allow_nan=False)
    sys.stdout.write(printable_json(text) + "\n")


class Bar:
    """A progress bar fed by `report(what, done, total)` or `report(done, total)`."""

    def __init__(self, what: str = "") -> None:
        self.what = what
        view = console()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=view, transient=True, disable=not view.is_terminal)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def named(self, what: str, done: int, total: int | None) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(printable(what), total=total)
        self.progress.update(self.tasks[what], completed=done, total=total)

    def counted(self, done: int, total: int) -> None:
        self.named(self.what, done, total)


@dataclass(kw_only=True)
class ColumnOptions:
    """Which columns of the table mean what."""

    user: str = "user_id"
    """Column with user ids."""
    item: str = "item_id"
    """Column with item ids."""
    time: Column = "auto"
    """Column with times; auto takes timestamp, time, datetime or date; with none the order of the rows counts."""
    position: Column = "auto"
    """Column with the order of a user's rows; auto takes position where it holds whole numbers."""
    rating: str = "rating"
    """Column with ratings, for prepare --minimum-rating."""
    items: str | None = None
    """Table with one row an item (title, brand, categories); its ids stand in a column called as --item says, or
    item_id."""

    def refuse_rating(self) -> None:
        """Refuse a column of ratings where nothing reads ratings.

        Raises:
            ConfigError: one was named.
        """
        if self.rating != "rating":
            raise ConfigError(
                f"--rating {self.rating} would change nothing, because only prepare --minimum-rating reads ratings: "
                "leave it out, or prepare the table with that."
            )

    def columns(self) -> Columns:
        from forethought.data.columns import Columns

        return Columns(user=self.user, item=self.item, time=self.time, position=self.position, rating=self.rating)


@dataclass(kw_only=True)
class Splitting:
    """How the data is divided; what is not given is as in `SplitConfig`, or as the data was prepared."""

    split: Literal["leave_last_out", "leave_last_session_out", "temporal", "column", "session"] | None = None
    """Last item of each user, last session of each user, everything after a moment, as a column of the table says, or
    whole sessions, where users are sessions; leave_last_out if not given."""
    split_column: str | None = None
    """Column: which one says train, valid or test of each row; split if not given."""
    session_column: str | None = None
    """Leave last session out: which one says to which session of its user each row belongs; session if not given."""
    test_table: str | None = None
    """What is to be found, as a table of its own: then --data is the one that trains, and --split is left out."""
    valid_table: str | None = None
    """Likewise what validates; the last of each user's training where there is none."""
    valid_share: float | None = None
    """Session: share of the sessions that validate; 0.1 if not given."""
    test_share: float | None = None
    """Session: share of the sessions that test; 0.1 if not given."""
    order: Literal["auto", "time", "drawn"] | None = None
    """Session: hold out those that begin last (time) or drawn ones; drawn where there are no times if not given."""
    session_targets: Literal["first", "last", "all"] | None = None
    """Session: find the second item of a session, its last, or all after the first; last if not given."""
    session_seed: int | None = None
    """Session: of the draw; 0 if not given."""
    ties: Literal["file", "shuffle"] | None = None
    """Order among equal times: as in the source, or drawn anew (Amazon's times are days, and its order leaks); file
    if not given."""
    tie_seed: int | None = None
    """Of the shuffle (--ties shuffle); 0 if not given."""
    valid_from: str | None = None
    """Temporal: validation begins here; a date, or a share of all interactions such as 0.8."""
    test_from: str | None = None
    """Temporal: testing begins here; a date or a share."""
    targets: Literal["first", "last", "all"] | None = None
    """Temporal, and evaluate --since: which of a user's interactions in a part are to be found; first if not given."""
    cold_users: Literal["keep", "drop"] | None = None
    """Temporal: cases of users without training history; keep if not given."""
    cold_items: Literal["keep", "drop"] | None = None
    """Temporal: cases whose item never occurs in training; keep if not given."""
    hold_out_items: float | None = None
    """Share of the items whose interactions training never sees, such as 0.05, to measure how new ones fare."""
    hold_out_seed: int | None = None
    """Of the draw of these items; 0 if not given."""

    def config(self) -> Any:
        from forethought.data.splits import SplitConfig

        if self.tie_seed is not None and self.ties != "shuffle":
            raise ConfigError("--tie-seed would change nothing without a shuffle: add --ties shuffle, or leave it out.")
        if self.session_seed is not None and self.split != "session":
            raise ConfigError("--session-seed would change nothing without --split session: leave it out.")
        self.columns()
        names = {"split": "kind", "tie_seed": "seed", "session_seed": "seed"}
        options: dict[str, Any] = {
            names.get(name, name): value
            for name, value in vars(self).items()
            if value is not None and name not in ("split_column", "session_column", "test_table", "valid_table")
        }
        options |= {name: moment(options[name]) for name in ("valid_from", "test_from") if name in options}
        return SplitConfig(**options)

    def of_tables(self) -> bool:
        """Whether the parts are tables of their own.

        Raises:
            ConfigError: another split beside them, or a table that validates without one that tests.
        """
        if self.test_table is None and self.valid_table is None:
            return False
        if self != Splitting(test_table=self.test_table, valid_table=self.valid_table) or self.test_table is None:
            raise ConfigError(
                "Tables of their own are a split by themselves: give --data (what trains) and --test-table, "
                "--valid-table if there is one, and no other way to split."
            )
        return True

    def columns(self) -> dict[str, str]:
        """The column that says what each row is for, or of which session it is, by its role; none where none does."""
        kinds, named = {"split": "column", "session": "leave_last_session_out"}, {}
        for role, kind in kinds.items():
            name = getattr(self, f"{role}_column")
            if self.split == kind:
                named[role] = name or role
            elif name is not None:
                raise ConfigError(
                    f"--{role}-column would change nothing without --split {kind}: add that, or leave it out."
                )
        return named


@dataclass(kw_only=True)
class HaltingOptions:
    """When a model that reasons stops, where it shall not do as it was trained."""

    halt: Literal["arh", "soft", "fixed", "change", "entropy", "doubt", "consistency", "random"] | None = None
    """Rule: the halting net (arh), all steps (fixed), all steps weighted as in training (soft), that indicator is
    small enough (change of the state, entropy of the prediction, or consistency, how far the prediction moved), the
    entropy is too large (doubt), or chance (random); by default as the run was trained."""
    delta: float | None = None
    """Threshold of arh, change, entropy, doubt and consistency, or probability of random."""
    steps: int | None = None
    """Steps at most, 0 or more; by default all that were trained."""
    least_steps: Literal[0, 1] | None = None
    """Steps at least: 1, or 0 where a row may stop before it takes any; by default as the run was trained."""

    def of(self, method: Method) -> Halting | None:
        """The halting that was asked for, None if none was.

        Raises:
            ConfigError: the model does not reason, or the options do not go together.
        """
        from dataclasses import replace

        from forethought.reasoning.halting import Halting

        if self == HaltingOptions():
            return None
        own = None if method.reasoning is None else method.reasoning.halting
        if own is None:
            return method.resolve_halting(Halting())
        rule, delta = self.halt or own.rule, self.delta
        if rule in ("fixed", "soft"):
            if delta is not None:
                raise ConfigError(f"The rule {rule} knows no threshold: leave --delta out, or choose another --halt.")
        elif delta is None and rule != own.rule:
            raise ConfigError(f"The rule {rule} needs a threshold that fits it: give one with --delta.")
        elif delta is not None and rule in ("arh", "random") and not 0 <= delta <= 1:
            raise ConfigError(f"--delta is {delta:g}, but {rule} compares it with a probability: give one from 0 to 1.")
        threshold = own.threshold if delta is None else delta
        most = own.max_steps if self.steps is None else self.steps
        least = own.min_steps if self.least_steps is None else self.least_steps
        halting = replace(own, rule=rule, threshold=threshold, min_steps=least, max_steps=most)
        return method.resolve_halting(halting)


@dataclass(kw_only=True)
class Noising:
    """Noise on the histories."""

    noise: Literal["replace", "insert", "delete", "swap"] | None = None
    """Kind: other items at drawn positions (replace), other items in between (insert), positions gone (delete), or
    their items in another order (swap); none by default."""
    noise_share: float | None = None
    """Positions drawn, as a share of each history; 0.2 if not given."""
    noise_seed: int | None = None
    """Of the draw; 0 if not given."""

    def of(self, *, curve: bool = False) -> Noise | None:
        """The noise that was asked for, None if none was; a curve of all kinds takes a share and a seed without one.

        Raises:
            ConfigError: a share that is none, or one without a kind.
        """
        from forethought.data.noise import Noise
        from forethought.settings import Seed, check

        share, seed = self.noise_share, self.noise_seed
        if self.noise is None:
            if (share, seed) != (None, None) and not curve:
                raise ConfigError("--noise-share and --noise-seed need a kind of noise: give one with --noise.")
            return None
        if share is not None and not 0 < share <= 1:
            raise ConfigError(
                f"--noise-share is {share:g}, but must be above 0 and at most 1; for none, leave --noise out."
            )
        check(seed or 0, Seed, "--noise-seed")
        return Noise(kind=self.noise, share=0.2 if share is None else share, seed=seed or 0)


def moment(text: str) -> str | float | int:
    """A date stays text, a number becomes one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tell_notes(view: Console, data: Interactions) -> None:
    """What was assumed when the data was read, and what is odd about it."""
    for note in data.notes:
        view.print(f"- {note}", highlight=False)


def announced_split(options: Any, view: Console) -> Split:
    """The split that a verb's `data`, `columns` and `splitting` ask for, and what is odd about it unless `quiet`."""
    split = open_split(options.data, options.columns, options.splitting)
    if not options.quiet:
        tell_notes(view, split.data)
    return split


def open_split(source: str, columns: ColumnOptions, splitting: Splitting) -> Split:
    """The split of a prepared folder as it was prepared, or of any table as the options say.

    Raises:
        ConfigError: a prepared folder is asked for another split than its own.
    """
    from forethought.data.prepare import open_prepared, prepared_folder
    from forethought.data.reading import read
    from forethought.data.split_tables import split_of_tables

    columns.refuse_rating()
    if splitting.of_tables():
        asked = {name: value for name, value in vars(columns).items() if name != "rating"}
        return split_of_tables(source, splitting.test_table, splitting.valid_table, **asked)
    if prepared_folder(source) is not None:
        if splitting != Splitting():
            raise ConfigError(f"{source} was prepared with a split of its own: prepare it anew to split it otherwise.")
        return open_prepared(source)
    named: dict[str, Any] = vars(columns) | splitting.columns()
    return splitting.config().apply(read(source, **named))
