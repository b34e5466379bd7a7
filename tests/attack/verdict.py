"""What is wrong with how a call ended, as short headlines that are the same for the same fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from attack.calls import Outcome

PREFIX = "forethought: "
SAID_INTERRUPTED = 130
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
BOX = re.compile(r"[╭╰│]")
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (.+)')
NOISE = re.compile(r"Warning:|Error:|Exception|WARNING")
SHORT = ("Too many open files", "TooManyOpenFiles", "\nMemoryError: ")
AT_EXIT = re.compile(r"^Exception ignored in atexit callback: .*\nTraceback .*\n(?:  .*\n)+\w+Error: .*\n", re.M)
PANIC = re.compile(r"^\n?thread '[^\n]* panicked at (?:.*\n)+?(?=forethought: |\Z)", re.M)
LONGEST_SENTENCE = 10_000


@dataclass
class Fault:
    """One thing that must not be: a headline without this case's own words, and what was seen."""

    headline: str
    detail: str = ""


@dataclass
class Verdict:
    """Of one case.

    Attributes:
        faults: none where all is well.
        told: the input was refused in a sentence.
        counts: what the case adds to the report, such as kills that fell.
    """

    faults: list[Fault] = field(default_factory=list)
    told: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, headline: str, detail: str = "") -> None:
        self.faults.append(Fault(headline, detail[-3000:]))


def faults_of(outcome: Outcome, *, must_fail: bool = False, verdict_on_output: bool = False) -> Iterator[Fault]:
    """What is wrong in the way a call ended; it may succeed, unless it must fail, or tell in one sentence.

    Args:
        verdict_on_output: exit code 2 may come with a result instead of a sentence (`doctor`).
    """
    told = any(line.startswith(PREFIX) for line in outcome.err.splitlines()) or (
        verdict_on_output and outcome.out.strip()
    )
    outcome = replace(outcome, err=own_words(outcome.err)) if told else outcome
    err = outcome.err
    if outcome.hung and not outcome.heeds:
        yield Fault("hangs", err)
    elif outcome.code < 0 and not outcome.stopped:
        yield Fault(f"dies of signal {-outcome.code}{last_words(err)}", err)
    elif "Traceback (most recent call last)" in err or "panicked at" in err:
        yield Fault(f"traceback: {crash(err)}", err)
    elif outcome.code == 2:
        if (wrong := not_one_sentence(outcome, verdict_on_output)) is not None:
            yield Fault(f"not one sentence: {wrong}", f"stdout: {outcome.out[-500:]}\nstderr: {err}")
    elif outcome.code == 0:
        if must_fail:
            yield Fault("accepted, but must be refused", f"stdout: {outcome.out[-1000:]}\nstderr: {err[-1000:]}")
    elif not outcome.stopped and not outcome.hung:
        yield Fault(f"exit code {outcome.code}", err)
    if CONTROL.search(outcome.err):
        yield Fault("control characters on standard error", ascii(err[-500:]))
    for line in outcome.told:
        yield Fault(re.sub(r"lane\d+", "lane", re.sub(r"/tmp/[^/]+", "ROOT", line))[:160], line)


def own_words(err: str) -> str:
    """Standard error without what other packages write there, past all that could catch it, where no file can be opened
    any more or memory ran out: a panic of polars that has become a sentence of ours, what PyTorch fails to do at exit.
    """

    def without(block: re.Match[str]) -> str:
        theirs = "/forethought/" not in re.sub(r"forethought-attack-\w+", "", block[0])
        return "" if theirs and any(words in block[0] for words in SHORT) else block[0]

    return AT_EXIT.sub(without, PANIC.sub(without, err))


def not_one_sentence(outcome: Outcome, verdict_on_output: bool = False) -> str | None:
    """What is wrong with a refusal; None if it is one whole sentence at the end of standard error."""
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    at = next((n for n, line in enumerate(lines) if line.startswith(PREFIX)), None)
    wrong: list[str] = []
    if BOX.search(outcome.err):
        wrong.append("a box of several lines")
    elif at is None and not (verdict_on_output and outcome.out.strip()):
        wrong.append(f"exit code 2 without one ({plain(lines[-1]) if lines else 'nothing said'})")
    elif at is not None:
        said = lines[at]
        wrong += [f"more lines after it ({plain(line)})" for line in lines[at + 1 : at + 2]]
        wrong += [f"does not end as one ({plain(said)})"] if not said.endswith((".", "?", "!")) else []
        wrong += [f"more than {LONGEST_SENTENCE:,} characters ({plain(said)})"] if len(said) > LONGEST_SENTENCE else []
        wrong += [f"a warning beside it ({plain(line)})" for line in lines[:at] if NOISE.search(line)]
    return wrong[0] if wrong else None


def crash(err: str) -> str:
    """The last frame that is ours, and the kind of error."""
    if "Traceback (most recent call last)" not in err:
        return plain(next(line for line in err.splitlines() if "panicked at" in line))
    frames = FRAME.findall(err)
    own = [(file, line, name) for file, line, name in frames if "/forethought/" in file and "tests/attack/" not in file]
    lines = [line for line in err.splitlines() if line.strip()]
    kinds = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Panic\w*|Warning)\b", line)]
    file, _, name = own[-1] if own else (frames[-1] if frames else ("?", "?", "?"))
    where = next((file.rpartition(mark)[2] for mark in ("/forethought/", "site-packages/") if mark in file), file)
    where = where.rpartition("/python3")[2] or where
    return f"{where}:{name} {plain((kinds or lines)[-1])}"


def last_words(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    return f" ({plain(lines[-1])})" if lines else ""


def plain(line: str) -> str:
    """A line without what differs from case to case."""
    line = re.sub(r"(['\"`]).*?\1", "'…'", line)
    line = re.sub(r"[^\s'(]*/[^\s')]*", "PATH", line)
    line = re.sub(r"-?\d[\d.,e+]*", "N", line)
    return ascii(line)[1:-1][:110]
