"""The command: which attacks, how many of each, in how much time."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attack.cases import Case
    from attack.ground import Lane

LANES = 2
MANY = 1_000_000


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        scenarios: of kills every so manieth is taken.
        operations, moments: kills of each scenario before so many operations, and at so many changes and times.
        flips: bits in each file of each run.
        tables, options, json: how many are drawn; of good tables so many mutations each.
        races: of each pair.
        others: of each kind that is drawn from a fixed list.
        minutes: after which nothing new is begun.
    """

    scenarios: int
    operations: int
    moments: int
    flips: int
    tables: int
    mutations: int
    options: int
    json: int
    races: int
    others: int
    minutes: float


FULL = Size(1, 7, 2, 20, 1_400, 60, 1_800, 1_100, 5, MANY, 90)
QUICK = Size(3, 1, 1, 1, 60, 2, 80, 60, 1, 30, 15)


def main() -> None:
    args = _arguments()
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # bit for bit only at the same number of threads
    from attack import fixtures
    from attack.ground import Lane, remove

    begin = time.monotonic()
    _say("importing Forethought and all that it uses")
    fixtures.import_all()
    import forethought

    gc.freeze()
    _say(f"attacking {Path(forethought.__file__).parent}")
    root = Path(tempfile.mkdtemp(prefix="forethought-attack-")).resolve()
    root.chmod(0o755)
    try:
        fixtures.build(Lane(root, 0), _say)
        code = _one(args, root) if args.case else _all(args, root, begin)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        code = 130
    finally:
        if args.keep:
            print(f"All of it lies in {root}.")
        else:
            remove(root)
    sys.stdout.flush()
    os._exit(code)  # some packages complain at the end of a process that has imported them for others


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of each kind: about three minutes")
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="these kinds only")
    parser.add_argument("--case", metavar="KIND/NAME", help="one case, with all that it says")
    parser.add_argument("--list", action="store_true", help="the names of all cases, and end")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn: moments, places, which cases")
    parser.add_argument("--details", type=Path, metavar="FILE", help="every fault of every case, as JSON lines")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so many")
    parser.add_argument("--keep", action="store_true", help="leave the folder that was attacked")
    return parser.parse_args()


def _all(args: argparse.Namespace, root: Path, begin: float) -> int:
    from attack import crew
    from attack.ground import Lane, keep
    from attack.report import Report

    size = QUICK if args.quick else FULL
    cases: list[Case] = []
    for kind, collect in kinds(Lane(root, 0), args.seed).items():
        if not args.only or kind in args.only:
            _say(f"collecting: {kind}")
            cases += collect(size)
    keep(root / "master")
    if args.list:
        print(*(ascii(case.label)[1:-1] for case in cases), sep="\n")
        return 0
    _say(f"{len(cases):,} cases")
    report = Report(len(cases), args.details)
    left = len(cases)
    try:
        left = crew.work(cases, root, LANES, report.add, until=begin + 60 * (args.minutes or size.minutes))
    finally:
        print(report.page(left))
    _say(f"{time.monotonic() - begin:.0f} s in all")
    return 1 if report.found or left else 0


def kinds(lane: Lane, seed: int, case: str | None = None) -> dict[str, Callable[[Size], list[Case]]]:
    """Kind of attack -> its cases, for a size; of kills those of one scenario alone where a `case` is sought."""
    from attack import (
        bad_json,
        bad_options,
        bad_python,
        bad_tables,
        circumstances,
        flips,
        hostile_encoders,
        hostile_runs,
        kills,
        marked,
        races,
    )
    from attack.cases import some

    def killed(size: Size) -> list[Case]:
        wanted = [each for each in kills.scenarios()[:: size.scenarios] if case in (None, f"{kills.KIND}/{each.name}")]
        known = {scenario.name: kills.reference(scenario, lane) for scenario in wanted}
        return kills.cases(known, size.operations, size.moments, seed)

    return {
        kills.KIND: killed,
        races.KIND: lambda size: races.cases(size.races),
        flips.KIND: lambda size: flips.cases(flips.bases(lane), size.flips, seed),
        bad_tables.KIND: lambda size: some(bad_tables.cases(lane, size.mutations, seed), size.tables, seed),
        bad_options.KIND: lambda size: bad_options.cases(lane, size.options, seed),
        bad_json.KIND: lambda size: bad_json.cases(lane, size.json, seed),
        hostile_runs.KIND: lambda size: some(hostile_runs.cases(), size.others, seed),
        hostile_encoders.KIND: lambda size: some(hostile_encoders.cases(), size.others, seed),
        marked.KIND: lambda size: some(marked.cases(lane), size.others, seed),
        circumstances.KIND: lambda size: some(circumstances.cases(), size.others, seed),
        bad_python.KIND: lambda size: some(bad_python.cases(), size.others, seed),
    }


def _one(args: argparse.Namespace, root: Path) -> int:
    """One case, looked for in all of the full size."""
    from attack import crew
    from attack.ground import Lane, keep

    kind = args.case.partition("/")[0]
    every = replace(FULL, tables=MANY, options=MANY, json=MANY)
    cases = kinds(Lane(root, 0), args.seed, args.case.rpartition(": ")[0])[kind](every)
    keep(root / "master")
    for case in cases:
        if ascii(case.label)[1:-1] == args.case or case.label == args.case:
            verdict = crew.carried_out(case, Lane(root, 0))
            for fault in verdict.faults:
                print(f"{fault.headline}\n{fault.detail}\n")
            print(f"{len(verdict.faults)} faults; {verdict.counts}")
            return int(bool(verdict.faults))
    print(f"There is no case {args.case!r}; --list names all.", file=sys.stderr)
    return 2


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
