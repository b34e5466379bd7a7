"""The columns of a table of interactions: which one means what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from forethought.data.sources import describe
from forethought.errors import DataError, nearest, shown, some
from forethought.settings import Settings

AUTO = "auto"
TIME_NAMES = ("timestamp", "time", "datetime", "date")


class MissingColumnError(DataError):
    """A table without a column that is asked for.

    Attributes:
        said: what is wrong, without how to mend it, which is not the same where columns cannot be chosen.
    """

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(f"{said}: {mend}")
        self.said = said


@dataclass(frozen=True, kw_only=True)
class Columns(Settings):
    """Which column of a table means what; `resolve` looks them up.

    Attributes:
        user, item: ids.
        time: "auto" takes the first of timestamp, time, datetime, date that is there; None goes by order.
        position: orders rows of equal time, or all rows where there are no times; "auto" takes an integer column
            `position` where there is one; None goes by the order of the rows.
        rating: only asked for where a minimum rating is.
        split: says of each row whether it is train, valid or test; None: nothing does.
        session: says which session of its user each row belongs to; None: nothing does.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = AUTO
    position: str | None = AUTO
    rating: str = "rating"
    split: str | None = None
    session: str | None = None

    def noted(self) -> dict[str, Any]:
        """What is written down of it."""
        return {n: value for n, value in asdict(self).items() if value is not None or n not in ("split", "session")}

    def resolve(self, frame: pl.LazyFrame, source: Any) -> Columns:
        """The same with every "auto" decided.

        Raises:
            DataError: a column is missing (the text suggests the nearest one), or has two meanings.
        """
        schema = frame.collect_schema()
        time, position = self.time, self.position
        if time == AUTO and AUTO not in schema:
            time = next((name for name in TIME_NAMES if name in schema), None)
        if position == AUTO and AUTO not in schema:
            position = "position" if schema.get("position", pl.Null()).is_integer() else None
        columns = replace(self, time=time, position=position)
        roles = {"user": self.user, "item": self.item, "time": time, "position": position, "split": self.split}
        roles["session"] = self.session
        for role, name in roles.items():
            if name is not None and name not in schema:
                raise missing_column(role, name, schema.names(), source)
        _refuse_twice(roles)
        if position is not None and not schema[position].is_integer():
            raise DataError(
                f"The position column {position!r} has type {schema[position]}, but positions are whole numbers: "
                "cast it, or say position=None (on the command line --position none) to go by the order of the rows."
            )
        return columns


def _refuse_twice(roles: dict[str, str | None]) -> None:
    """Refuse a column with two meanings, one of which it may have by its name alone."""
    held: dict[str, str] = {}
    for role, name in roles.items():
        if name is not None and (first := held.setdefault(name, role)) != role:
            without = f"; with {role}=None ({option(role)} none) there is none" if role in ("time", "position") else ""
            raise DataError(
                f"The column {shown(name)} would be both {first} and {role}, but means one thing: say which is which "
                f"with {first}=... and {role}=... (on the command line {option(first)} and {option(role)}){without}."
            )


def option(role: str) -> str:
    """What the command line calls the option that names the column of a role."""
    return f"--{role}-column" if role in ("split", "session") else f"--{role}"


def missing_column(role: str, name: str, names: list[str], source: Any) -> MissingColumnError:
    """What to say when a column is not there."""
    return MissingColumnError(
        f"There is no {role} column {shown(name)} in {describe(source)}, which has {some(names, 100) or 'none'}",
        f"say which it is with {role}=... (on the command line {option(role)}).{nearest(name, names)}",
    )
