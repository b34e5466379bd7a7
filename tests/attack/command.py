"""The command: which attacks, how many of each, in how much time."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LANES = 2


@dataclass(frozen=True)
class Size:
    """How much is done: kills before so many operations and at so many moments of each scenario, then numbers of cases."""

    operations: int
    moments: int
    minutes: float


SIZES = {"quick": Size(2, 1, 10), "full": Size(9, 3, 60)}


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
    from attack.cases import Case
    from attack.report import Report

    size = SIZES["quick" if args.quick else "full"]
    cases: list[Case] = []
    for kind, collect in _kinds(args, root).items():
        if not args.only or kind in args.only:
            cases += collect(size)
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


def _kinds(args: argparse.Namespace, root: Path) -> dict[str, Callable]:
    """Kind -> its cases, for a size."""
    from attack import kills
    from attack.ground import Lane

    lane = Lane(root, 0)

    def killed(size: Size) -> list:
        known = {}
        for scenario in kills.scenarios():
            _say(f"undisturbed: {scenario.name}")
            known[scenario.name] = kills.reference(scenario, lane)
        return kills.cases(known, size.operations, size.moments, args.seed)

    return {kills.KIND: killed}


def _one(args: argparse.Namespace, root: Path) -> int:
    """One case, looked for in all of the full size."""
    from attack import crew
    from attack.ground import Lane

    kind = args.case.partition("/")[0]
    for case in _kinds(args, root)[kind](SIZES["full"]):
        if case.label == args.case:
            verdict = crew.carried_out(case, Lane(root, 0))
            for fault in verdict.faults:
                print(f"{fault.headline}\n{fault.detail}\n")
            print(f"{len(verdict.faults)} faults; {verdict.counts}")
            return int(bool(verdict.faults))
    print(f"There is no case {args.case!r}; --list names all.", file=sys.stderr)
    return 2


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
