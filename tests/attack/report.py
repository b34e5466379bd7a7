"""The report: how many of each kind, and every distinct fault with a line that shows it again."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from attack.cases import Case
from attack.verdict import Verdict

AGAIN = "PYTHONPATH=src:tests python -m attack --case"


@dataclass
class Report:
    """What came of all cases so far.

    Attributes:
        total: cases to come and done.
        details: a file for every fault of every case, one JSON object a line.
    """

    total: int
    details: Path | None = None
    cases: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    begin: float = field(default_factory=time.monotonic)
    last: float = 0.0

    def add(self, case: Case, verdict: Verdict, wall_s: float) -> None:
        self.cases[case.kind] += 1
        self.told[case.kind] += verdict.told
        self.failed[case.kind] += bool(verdict.faults)
        self.seconds[case.kind] += wall_s
        for name, n in verdict.counts.items():
            self.counts[name] += n
        for headline in dict.fromkeys(fault.headline for fault in verdict.faults):
            self.found.setdefault((case.kind, headline), []).append(case.label)
        if self.details is not None and verdict.faults:
            faults = [{"headline": fault.headline, "detail": fault.detail} for fault in verdict.faults]
            with self.details.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case": case.label, "faults": faults}) + "\n")
        self._progress()

    def _progress(self) -> None:
        now, done = time.monotonic(), sum(self.cases.values())
        if now - self.last < (1 if sys.stderr.isatty() else 30) and done < self.total:
            return
        self.last = now
        line = f"{done:,} of {self.total:,} cases, {sum(self.failed.values()):,} with faults, {now - self.begin:.0f} s"
        print(f"\r\x1b[K{line}" if sys.stderr.isatty() else line, end="", file=sys.stderr, flush=True)
        if not sys.stderr.isatty() or done == self.total:
            print(file=sys.stderr)

    def page(self, left: int) -> str:
        """The whole report as text."""
        lines = [f"{'attack':<22}{'cases':>8}{'refused':>9}{'with faults':>13}{'distinct':>10}{'seconds':>9}"]
        for kind, n in self.cases.items():
            distinct = sum(of == kind for of, _ in self.found)
            lines.append(
                f"{kind:<22}{n:>8,}{self.told[kind]:>9,}{self.failed[kind]:>13,}{distinct:>10,}{self.seconds[kind]:>9.0f}"
            )
        total = sum(self.cases.values())
        lines.append(
            f"{'all':<22}{total:>8,}{sum(self.told.values()):>9,}{sum(self.failed.values()):>13,}{len(self.found):>10,}"
            f"{sum(self.seconds.values()):>9.0f}"
        )
        lines += (
            ["", "That is " + ", ".join(f"{n:,} {name}" for name, n in self.counts.items()) + "."]
            if self.counts
            else []
        )
        if left:
            lines += ["", f"NOT FINISHED: {left:,} cases were not reached in time."]
        for (kind, headline), labels in sorted(self.found.items()):
            lines += ["", f"{kind}: {headline}", f"  {len(labels):,} cases; {AGAIN} {shlex.quote(labels[0])}"]
        return "\n".join(lines) + "\n"
