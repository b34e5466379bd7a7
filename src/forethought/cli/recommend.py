"""forethought recommend"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from forethought.cli.histories import history_of, times_of, typed_id
from forethought.cli.shared import CHOICES, Bar, Choice, HaltingOptions, console, parse, print_json
from forethought.cli.steering import SteeringOptions
from forethought.escaping import printable

if TYPE_CHECKING:
    from forethought.recommender import Recommendation

T = TypeVar("T")


@dataclass(kw_only=True)
class Recommend:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    halting_options: Annotated[HaltingOptions, tyro.conf.arg(name="")]
    steering: Annotated[SteeringOptions, tyro.conf.arg(name="")]
    history: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID,ID ...")] = ()
    """Item ids of a user, oldest first, with commas between: i1,i2 (several users: several lists); where an id holds a
    comma, as a JSON list: '["a,b","c"]'."""
    times: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SECOND,SECOND ...")] = ()
    """Unix seconds beside each item of --history, for models that read times."""
    input: str | None = None
    """Table with a list column `history` (and `times`), or with rows of users, items and times whose columns are called
    as in the data that the run was trained on, unless --user, --item, --time and --position say otherwise."""
    user: str | None = None
    """Column of --input with user ids; as the run recorded if not given."""
    item: str | None = None
    """Column of --input with item ids; likewise."""
    time: str | None = None
    """Column of --input with times; likewise, and none goes by the order of the rows."""
    position: str | None = None
    """Column of --input with the order of a user's rows; likewise."""
    out: Path | None = None
    """File for the recommendations of --input: .parquet, .csv (lists as JSON in a cell) or .jsonl."""
    k: int = 10
    """Items a list."""
    exclude_history: Choice = "auto"
    """Leave out what the user has met; auto: as the run was trained."""
    allow: Path | None = None
    """Text file with one item id a line: recommend these only; what the model does not know is left out."""
    deny: Path | None = None
    """Text file with one item id a line: never recommend these."""
    strict_lists: bool = False
    """Refuse ids of --allow and --deny that the model does not know."""
    unknown: Literal["error", "drop"] | None = None
    """What to do with ids that the model does not know; error for --history, drop (and count) for --input if not
    given."""
    approximate: bool = False
    """Search in an index, for several hundred thousand items; built at the first use, which takes a while."""
    seed: int = 0
    """For methods that draw when they recommend; those of today do not."""
    precision: Literal["32", "bf16", "int8"] = "32"
    """Of the linear layers, those that it makes faster on this machine; lists change by rounding."""
    device: str = "auto"
    """Where it computes: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    json: bool = False
    """Print the lists as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Recommend items for histories.\n\n"
        "Examples: forethought recommend runs/first --history i00042,i00007 --k 5\n"
        "          forethought recommend runs/first --input histories.parquet --out recs.parquet\n"
        "          forethought recommend runs/first --input visits.csv --user visitor --item sku --out recs.csv\n"
        "          forethought recommend runs/dtrec --history i00042,i00007 --halt fixed --steps 1"
    )
    args = parse(Recommend, arguments, "recommend", about)
    from forethought.recommender import load

    _check(args)
    steering = args.steering.choices()
    model = load(args.run, device=args.device)
    if args.precision != "32":
        console().print(model.set_precision(args.precision))
    if args.approximate:
        _said(model.build_index)
    allow, deny = (_listed(getattr(args, name), name, model) for name in ("allow", "deny"))
    choices: dict[str, Any] = {
        "exclude_history": CHOICES[args.exclude_history],
        "allow": allow,
        "deny": deny,
        "unknown": args.unknown or ("error" if args.input is None else "drop"),
        "strict_lists": args.strict_lists,
        "halting": args.halting_options.of(model.method),
        **steering,
    }
    if args.input is not None:
        _score_table(model, args, choices)
        return
    histories = [history_of(text, model, choices["unknown"]) for text in args.history]
    times = [times_of(text, model) for text in args.times] or None
    lists = _said(lambda: model.recommend(histories, args.k, times=times, **choices))
    _tell_empty(lists, model)
    _show(lists, model, json=args.json)


def _check(args: Recommend) -> None:
    """Whether the options go together."""
    from forethought.errors import ConfigError

    if bool(args.history) == (args.input is not None):
        raise ConfigError("Give either --history ID,ID or --input FILE.")
    if args.history and args.out is not None:
        raise ConfigError("--out belongs to --input; with --history the lists are printed, with --json for machines.")
    if args.out is not None and args.out.is_dir():
        raise ConfigError(f"{str(args.out)!r} is a folder, but recommendations are one file: name it in --out.")
    if args.strict_lists and args.allow is None and args.deny is None:
        raise ConfigError("--strict-lists would change nothing without --allow or --deny: add a list, or leave it out.")
    if args.input is not None and args.times:
        raise ConfigError("--times stands beside --history, and --input has times of its own: leave it out.")
    if args.history and _columns(args):
        raise ConfigError(f"--{next(iter(_columns(args)))} names a column of --input: leave it out with --history.")


def _show(lists: list[Recommendation], model: Any, *, json: bool) -> None:
    """Print the lists, with titles where there are any."""
    if json:
        print_json(
            [
                {
                    "history": _plain(r.history),
                    "items": _plain(r.items),
                    "scores": r.scores,
                    "dropped": _plain(r.dropped),
                }
                for r in lists
            ]
        )
        return
    titles = dict(model.titles())
    for one in lists:
        left_out = f" (unknown and left out: {', '.join(map(str, one.dropped))})" if one.dropped else ""
        lines = [f"after {', '.join(map(str, one.history))}{left_out}"]
        for rank, (item, score) in enumerate(zip(one.items, one.scores, strict=True), start=1):
            lines.append(f"{rank:>4}  {item!s:<16} {score:8.3f}  {titles.get(item) or ''}")
        sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def _tell_empty(lists: list[Recommendation], model: Any) -> None:
    """Say how many histories have nothing that the model knows, and for how many nothing is left to recommend.

    Raises:
        DataError: all of them.
    """
    from forethought.batch_recommend import nothing_left
    from forethought.errors import DataError, some

    unmet = [one for one in lists if len(one.dropped) == len(one.history)]
    if len(unmet) == len(lists):
        ids = some([item for one in lists for item in one.history], 5)
        raise DataError(
            f"The model knows no item of the history ({ids}), so that there is nothing to go by; ids look like "
            f"{model.items.id_list([0])[0]!r}."
        )
    if unmet:
        console().print(
            f"{len(unmet):,} of {len(lists):,} histories have no item that the model knows: no list for these."
        )
    if note := nothing_left(sum(not one.items for one in lists) - len(unmet)):
        console().print(note)


def _said(ask: Callable[[], T]) -> T:
    """What is asked for; its warnings become remarks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = ask()
    for warning in caught:
        if warning.category is UserWarning:  # ours, and not those of packages
            console().print(str(warning.message))
    return answer


def _columns(args: Recommend) -> dict[str, str | None]:
    """What the columns of --input are called, where that was said."""
    named = {role: getattr(args, role) for role in ("user", "item", "time", "position")}
    return {
        role: None if name == "none" and role in ("time", "position") else name
        for role, name in named.items()
        if name is not None
    }


def _score_table(model: Any, args: Recommend, choices: dict[str, Any]) -> None:
    from forethought.batch_recommend import recommend_table
    from forethought.errors import ConfigError

    if args.input is None or args.out is None:
        raise ConfigError("--input needs --out, a file for the recommendations: .parquet, .csv or .jsonl.")
    with Bar("histories") as bar:
        counts = recommend_table(
            model, args.input, args.out, args.k, report=bar.counted, columns=_columns(args), **choices
        )
    if args.json:
        print_json({"out": str(args.out), **counts})
    else:
        console().print(f"{args.out}: {counts['histories']:,} lists; {_left_out(counts)}.")
        for note in counts["notes"]:
            console().print(note)


def _left_out(counts: dict[str, Any]) -> str:
    """What became of unknown ids, as the end of a sentence."""
    if not counts["unknown_items"] and not counts["empty_lists"]:
        return "all items of the histories were known"
    said = (
        f"unknown and left out: {counts['unknown_items']:,} of the histories' items ({counts['unknown_share']:.2%}; "
        "the column dropped counts them)"
    )
    empty = counts["empty_lists"]
    return f"{said}; without any known item, so with an empty list: {empty:,}" if empty else said


def _listed(path: Path | None, name: str, model: Any) -> list[Any] | None:
    """The ids of --allow or --deny; None where there is no such list.

    Raises:
        DataError: there are none in it.
    """
    from forethought.errors import DataError

    if path is None:
        return None
    if not (ids := ids_in(path, model)):
        raise DataError(f"--{name} {path} holds no id: give one item id a line, or leave --{name} out.")
    return ids


def ids_in(path: Path, model: Any) -> list[Any]:
    """The ids in a text file, one a line, as the kind that the model has."""
    from forethought.errors import DataError
    from forethought.files import check_ordinary, first_line

    try:
        check_ordinary(path)
        return [typed_id(line.strip(), model) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        said = f"{str(path)!r} cannot be read as a list of ids ({first_line(error)})"
        raise DataError(f"{said}: give a text file.") from error


def _plain(ids: list[Any]) -> list[Any]:
    return [i if isinstance(i, int) else str(i) for i in ids]
