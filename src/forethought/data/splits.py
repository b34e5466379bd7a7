"""Splits: which part of each history trains, which item is to be found, and what leaks.

Leave-last-out is what the literature prints; it lets training see what other users did later.
A global temporal split has no such leak, and its report (`leakage`) proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl

from forethought.data.histories import Cases, Spans
from forethought.data.hold_out import check_hold_out, held_protocol, hold_out
from forethought.data.interactions import Interactions
from forethought.data.noise import Noise
from forethought.data.parts import (
    Order,
    SessionTargets,
    by_last_session,
    by_parts,
    interactions_frame,
    last_session_parts,
    part_numbers,
    resolved,
    session_parts,
)
from forethought.data.parts import by_session as by_session_parts
from forethought.data.periods import Targets, bound, by_periods, first_since
from forethought.data.ties import Ties, order_ties
from forethought.data.times import iso
from forethought.errors import ConfigError, DataError, nearest
from forethought.settings import Between, Second, Seed, Settings, ShareBelowOne, check

SplitKind = Literal["leave_last_out", "leave_last_session_out", "temporal", "column", "session"]
Policy = Literal["keep", "drop"]
# of a protocol: who trains on what
DIVIDES = (
    *("split", "ties", "seed", "valid_from", "test_from", "targets", "hold_out_items", "hold_out_seed"),
    *("parts", "order", "valid_share", "test_share"),
)
_HELD, _TIED = {"hold_out_items", "hold_out_seed"}, {"ties", "seed"}
READ: dict[SplitKind, set[str]] = {
    "leave_last_out": _HELD | _TIED,
    "leave_last_session_out": set(),
    "temporal": _HELD | _TIED | {"valid_from", "test_from", "targets", "cold_users", "cold_items"},
    "column": set(),
    "session": {"seed", "valid_share", "test_share", "order", "session_targets"},
}
"""What each kind of split reads of its configuration."""
SessionShare = Annotated[float, Between(0, 1, above=True, below=True)]
Moment = str | Second | Annotated[float, Between(0, 1, above=True, below=True)]


@dataclass(frozen=True, kw_only=True)
class SplitConfig(Settings):
    """How data is to be split, as it is saved with a run; `make_split` obeys it.

    Attributes:
        kind: "leave_last_out", "leave_last_session_out" (of each user), "temporal", "column" (as a column of the table
            says) or "session" (whole histories).
        ties: "file" or "shuffle", the order among equal times.
        seed: of the shuffle, or of the draw of sessions.
        valid_from, test_from: see `temporal`, which alone reads these and the fields below.
        targets, cold_users, cold_items: see `temporal`.
        hold_out_items: share of all items, drawn evenly, whose interactions training never sees, 0 to below 1.
        hold_out_seed: of that draw.
        valid_share, test_share, order, session_targets: see `by_session`, which alone reads these.
    """

    kind: SplitKind = "leave_last_out"
    ties: Ties = "file"
    seed: Seed = 0
    valid_from: Moment | None = None
    test_from: Moment | None = None
    targets: Targets = "first"
    cold_users: Policy = "keep"
    cold_items: Policy = "keep"
    hold_out_items: ShareBelowOne = 0.0
    hold_out_seed: Seed = 0
    valid_share: SessionShare = 0.1
    test_share: SessionShare = 0.1
    order: Order = "auto"
    session_targets: SessionTargets = "last"

    def apply(self, data: Interactions) -> Split:
        """Split the data this way."""
        return make_split(data, self)


@dataclass(frozen=True)
class Split:
    """One data set, divided.

    Attributes:
        data: the interactions as they were read.
        train: what training may see, one row a user.
        valid, test: cases to be ranked.
        protocol: what a reader must know beside any number: kind, ties, seed, notes.
        config: how it was made, moments resolved.
        noise: what the training part was given, where it was (`with_noise`).
        met: int64 [N], how often a training met each item, where `train` is not what it saw; None: it is.
    """

    data: Interactions
    train: Spans
    valid: Cases
    test: Cases
    protocol: dict[str, Any]
    config: SplitConfig = field(default_factory=SplitConfig)
    noise: Noise | None = None
    met: np.ndarray | None = None

    def __repr__(self) -> str:
        parts = f"{len(self.train):,} training rows, {len(self.valid):,} validation and {len(self.test):,} test cases"
        noise = "" if self.noise is None else f", noise {self.noise.kind}"
        return f"<Split {self.config.kind} of {self.data.name}: {parts}{noise}>"

    def with_noise(self, noise: Noise | None) -> Split:
        """The same with noise in its training part; held-out parts and their histories stay.

        Raises:
            ConfigError: the noise would bring in items that are held out of training.
        """
        if noise is None:
            return self
        if self.config.hold_out_items and noise.kind in ("replace", "insert"):
            raise ConfigError(
                f"Noise of kind {noise.kind} would bring items into training that are held out of it: leave "
                "hold_out_items out, or take noise that deletes or swaps."
            )
        return replace(self, train=noise.on_training(self.train, self.data.n_items), noise=noise)


def make_split(data: Interactions, config: SplitConfig | Mapping[str, Any]) -> Split:
    """Split the data as a configuration, or the plain dictionary it was saved as, says.

    Raises:
        ConfigError: a key or a kind is unknown, or a temporal split does not say where its parts begin.
        DataError: the data cannot be split that way.
    """
    if not isinstance(config, SplitConfig):
        known = [field.name for field in fields(SplitConfig)]
        for key in config:
            if key not in known:
                raise ConfigError(f"A split has no setting {key!r}; it has {', '.join(known)}.{nearest(key, known)}")
        config = SplitConfig(**config)
    _refuse_unread(config)
    if config.kind == "column":
        return by_column(data)
    if config.kind == "leave_last_session_out":
        return leave_last_session_out(data)
    if config.kind == "session":
        return by_session(data, **{name: getattr(config, name) for name in READ["session"]})
    if config.kind == "leave_last_out":
        held = {"hold_out_items": config.hold_out_items, "hold_out_seed": config.hold_out_seed}
        return leave_last_out(data, ties=config.ties, seed=config.seed, **held)
    if config.valid_from is None or config.test_from is None:
        raise ConfigError("A temporal split needs valid_from and test_from: dates, Unix seconds or shares like 0.9.")
    return temporal(data, **{name: getattr(config, name) for name in READ["temporal"]})


def _refuse_unread(config: SplitConfig) -> None:
    """Who says more than a split reads meant another one."""
    read = READ[config.kind] | {"kind"}
    unread = [f.name for f in fields(config) if f.name not in read and getattr(config, f.name) != f.default]
    if unread:
        kinds = [kind for kind, names in READ.items() if {*unread} <= names]
        other = f", or split otherwise ({' or '.join(kinds)})" if kinds else ""
        raise ConfigError(
            f"{', '.join(unread)} would change nothing, because the split is {config.kind}: leave that out{other}."
        )


def by_column(data: Interactions) -> Split:
    """What a column of the table says: `ft.by_column(ft.read(table, split="split"))`.

    What is marked train trains; all else is to be found, each from what its user did before it, other parts included.
    Where nothing is marked valid, the last training interaction of each user with three of them is.

    Args:
        data: read with `split`, the name of a column that says train, valid or test of every row.

    Raises:
        DataError: it was read without, or a part is left empty.
    """
    check(data, Interactions, "data")
    if data.parts is None:
        raise DataError(
            "Nothing says which part each interaction belongs to: read the table with split=COLUMN (on the command "
            "line --split column); a split made in Python is kept with ft.keep_split in a folder that --data may name."
        )
    divided = by_parts(data, data.parts)
    return Split(data, divided.train, divided.valid, divided.test, divided.protocol, SplitConfig(kind="column"))


def custom_split(data: Interactions, rule: Callable[[pl.DataFrame], Any] | Any) -> Split:
    """A split by a rule of one's own, which says of every interaction whether it is train, valid or test.

    Args:
        rule: a function of a frame with `user_id`, `item_id`, `timestamp` where known, and `position` in the history,
            in the order of the data; or what such a function would return: a word for each row.

    Raises:
        DataError: other words, another number of them, or a part is left empty.
    """
    check(data, Interactions, "data")
    made: Any = rule(interactions_frame(data)) if callable(rule) else rule
    return by_column(replace(data, parts=part_numbers(made, len(data))))


def by_session(
    data: Interactions,
    *,
    valid_share: float = 0.1,
    test_share: float = 0.1,
    order: Order = "auto",
    seed: int = 0,
    session_targets: SessionTargets = "last",
) -> Split:
    """Whole sessions (users of the table) are held out: the last ones, or where there are no times drawn ones.

    Args:
        data: whose users are sessions.
        valid_share, test_share: of all sessions.
        order: "time" holds out those that begin last, "drawn" draws them evenly; "auto" draws where there are no times.
        seed: of the draw.
        session_targets: of each session held out find the "first" item after the one it begins with, the "last", or
            "all" after that one.

    Raises:
        DataError: no times to order by, or a part is left empty.
        ConfigError: a seed where nothing is drawn.
    """
    check(data, Interactions, "data")
    config = SplitConfig(
        kind="session",
        valid_share=valid_share,
        test_share=test_share,
        order=order,
        seed=seed,
        session_targets=session_targets,
    )
    way = resolved(order, data.histories)
    if seed and way == "time":
        raise ConfigError(
            f'seed={seed} would change nothing, because sessions are held out by time: say order="drawn".'
        )
    shares = {"valid_share": valid_share, "test_share": test_share}
    divided = by_session_parts(data, session_parts(data.histories, **shares, order=order, seed=seed), session_targets)
    protocol = {"split": "session", "ties": "file", "seed": seed if way == "drawn" else None, "order": way, **shares}
    protocol |= {"targets": session_targets, **divided.protocol}
    return Split(data, divided.train, divided.valid, divided.test, protocol, replace(config, order=way))


def leave_last_out(
    data: Interactions,
    *,
    ties: Ties = "file",
    seed: int = 0,
    hold_out_items: float = 0.0,
    hold_out_seed: int = 0,
) -> Split:
    """Last item tests, the last but one validates, the rest trains; a test history includes the validation item.

    Args:
        data: users with fewer than three items only train.
        ties: "file" keeps the source's order among equal times; "shuffle" draws it anew for each user, because
            Amazon's times are days and its files are sorted by item inside a day, which leaks.
        seed: of the shuffle; refused with "file", where it would change nothing.
        hold_out_items: share of the items whose interactions are taken out of training, so that cases which are to find
            one are cold; 0: none.
        hold_out_seed: of the draw of these items.

    Raises:
        DataError: `ties="shuffle"` on data without times, no user with three items, or nothing left to train on.
    """
    check(data, Interactions, "data")
    check_hold_out(hold_out_items, hold_out_seed)
    histories = order_ties(data, ties, seed)
    long_enough = np.flatnonzero(histories.lengths >= 3)
    if len(long_enough) == 0:
        raise DataError("Leave-last-out needs at least one user with three interactions, but no user here has them.")
    ends = histories.ends.copy()
    ends[long_enough] -= 2
    train = Spans(histories, np.arange(len(histories)), histories.starts, ends)
    if hold_out_items:
        train = hold_out(data, train, hold_out_items, hold_out_seed)

    def held_out(back: int) -> Cases:
        at = histories.ends[long_enough] - back
        return Cases(Spans(histories, long_enough, histories.starts[long_enough], at), histories.items[at])

    protocol = {"split": "leave_last_out", "ties": ties, "seed": seed if ties == "shuffle" else None}
    protocol |= held_protocol(hold_out_items, hold_out_seed)
    config = SplitConfig(
        ties=ties,
        seed=seed if ties == "shuffle" else 0,
        hold_out_items=hold_out_items,
        hold_out_seed=hold_out_seed,
    )
    return Split(data, train, held_out(2), held_out(1), protocol, config)


def leave_last_session_out(data: Interactions) -> Split:
    """The last session of each user tests, the one before it validates, the rest trains.

    Each item of such a session is a case, once: to be found from all that its user did in the sessions before.

    Args:
        data: read with `session`, the name of a column that says which session each row belongs to; users with fewer
            than three sessions only train.

    Raises:
        DataError: it was read without, no user has three sessions, or some go on after another one.
    """
    check(data, Interactions, "data")
    if data.sessions is None:
        raise DataError(
            "Nothing says which session each interaction belongs to: read the table with session=COLUMN (on the "
            "command line --session-column)."
        )
    divided = by_last_session(data, last_session_parts(data))
    protocol = {"split": "leave_last_session_out", "ties": "file", "seed": None, **divided.protocol}
    config = SplitConfig(kind="leave_last_session_out")
    return Split(data, divided.train, divided.valid, divided.test, protocol, config)


def temporal(
    data: Interactions,
    *,
    valid_from: str | int | float | date,
    test_from: str | int | float | date,
    targets: Targets = "first",
    ties: Ties = "file",
    seed: int = 0,
    cold_users: Policy = "keep",
    cold_items: Policy = "keep",
    hold_out_items: float = 0.0,
    hold_out_seed: int = 0,
) -> Split:
    """One moment for everybody: what came before `valid_from` trains, what comes later is to be found.

    The history of a case is all that its user did strictly before the target's second, validation period
    included; nothing of the same second, so that equal times cannot leak. Cases without any history are left out.

    Args:
        data: with times.
        valid_from, test_from: where validation and test begin: an ISO date, a date or datetime (UTC where no zone
            is said), Unix seconds, or a share between 0 and 1 of all interactions in order of time.
        targets: of each user in each period, find the "first" item, the "last" or "all".
        ties: the order among equal times, which decides the first and last target; as in `leave_last_out`.
        seed: of the shuffle of ties.
        cold_users: "drop" leaves out users with nothing in training.
        cold_items: "drop" leaves out targets that nobody met in training.
        hold_out_items, hold_out_seed: as in `leave_last_out`; refused where cold items are dropped.

    Returns:
        A split whose protocol counts the cold cases and those left out.

    Raises:
        DataError: no times, moments out of order, or a part that is left empty.
    """
    check(data, Interactions, "data")
    check(targets, Targets, "targets")
    check(cold_users, Policy, "cold_users")
    check(cold_items, Policy, "cold_items")
    check_hold_out(hold_out_items, hold_out_seed)
    if hold_out_items and cold_items == "drop":
        raise ConfigError(
            'Items are held out of training to be found, and cold_items="drop" leaves out those cases: keep them, or '
            "leave hold_out_items out."
        )
    if data.histories.times is None:
        raise DataError("This data has an order but no times, so it cannot be split by time: use leave_last_out.")
    histories = order_ties(data, ties, seed)
    valid_at, test_at = (bound(histories, *each) for each in (("valid_from", valid_from), ("test_from", test_from)))
    if valid_at >= test_at:
        raise DataError(f"valid_from ({iso(valid_at)}) must come before test_from ({iso(test_at)}).")
    train = Spans(histories, np.arange(len(histories)), histories.starts, first_since(histories, valid_at))
    if hold_out_items:
        train = hold_out(data, train, hold_out_items, hold_out_seed)
    protocol = {"split": "temporal", "ties": ties, "seed": seed if ties == "shuffle" else None}
    protocol |= {"valid_from": iso(valid_at), "test_from": iso(test_at), "targets": targets}
    protocol |= {"cold_users": cold_users, "cold_items": cold_items} | held_protocol(hold_out_items, hold_out_seed)
    drop = {"drop_users": cold_users == "drop", "drop_items": cold_items == "drop"}
    divided = by_periods(train, histories, valid_at, test_at, targets, **drop)
    config = SplitConfig(
        kind="temporal",
        ties=ties,
        seed=seed if ties == "shuffle" else 0,
        valid_from=iso(valid_at),
        test_from=iso(test_at),
        targets=targets,
        cold_users=cold_users,
        cold_items=cold_items,
        hold_out_items=hold_out_items,
        hold_out_seed=hold_out_seed,
    )
    return Split(data, divided.train, divided.valid, divided.test, protocol | divided.protocol, config)
