"""One call with something malformed: what must hold whatever it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from attack import calls
from attack.calls import Call, Outcome
from attack.cases import Case
from attack.contents import nameless
from attack.ground import Lane, changed, outside, own_files, snapshot, summed, within
from attack.verdict import Verdict, faults_of

Prepare = Callable[[Lane], None]
Check = Callable[[Lane, Outcome, Verdict], None]
Kept = Callable[[Lane, Outcome], bool]


def nothing(lane: Lane) -> None:
    """Nothing is needed beforehand."""


def case(
    kind: str,
    name: str,
    words: Sequence[str] | Callable[[Lane], Sequence[str]],
    *,
    prepare: Prepare = nothing,
    outputs: Sequence[str] = ("out",),
    must_fail: bool = False,
    kept: Kept | None = None,
    check: Check | None = None,
    always: bool = False,
    **how: object,
) -> Case:
    """A call of the command line in an empty folder, after `prepare`.

    Args:
        words: of the call, or what makes them where they need to know the lane.
        outputs: what it may write, if it succeeds.
        must_fail: success is a fault.
        kept: whether what it has written may stay though it ends in a refusal: an outcome that nobody was shown, a
            training that can be gone on with.
        check: looks further at how it ended.
        how: of the `Call`.
    """

    def do(lane: Lane) -> Verdict:
        lane.clear()
        prepare(lane)
        given = words(lane) if callable(words) else words
        return attempt(lane, Call(tuple(given), **how), outputs, must_fail=must_fail, kept=kept, check=check)  # type: ignore[arg-type]

    return Case(kind, name, do, always)


def attempt(
    lane: Lane,
    call: Call,
    outputs: Sequence[str] = (),
    *,
    must_fail: bool = False,
    kept: Kept | None = None,
    check: Check | None = None,
) -> Verdict:
    """Carry a call out; it may succeed, or tell in a sentence and leave everything as it was."""
    verdict, outputs = Verdict(counts={"malformed inputs": 1}), [_made(lane, name) for name in outputs]
    before, written = outside(lane, outputs), _outputs(lane, outputs)
    outcome = calls.run(call, lane)
    verdict.told = outcome.code == 2
    doctor = tuple(call.words[:1]) == ("doctor",)
    verb = call.words[0] if call.words else "Python"
    for fault in faults_of(outcome, must_fail=must_fail, verdict_on_output=doctor):
        verdict.add(f"{verb}: {fault.headline}", f"{_command(call)}\n{fault.detail}")
    for said in summed(changed(before, outside(lane, outputs), lane.root)):
        verdict.add(f"{verb}: beside what it was told to write: {nameless(said)}", _command(call))
    if outcome.code == 2 and not (kept is not None and kept(lane, outcome)):
        for said in summed(changed(written, _outputs(lane, outputs), lane.root)):
            verdict.add(f"{verb}: refused, but {nameless(said)}", f"{_command(call)}\n{outcome.err}")
    if check is not None:
        check(lane, outcome, verdict)
    return verdict


def _made(lane: Lane, name: str) -> str:
    """An output, or the first of the folders above it that is not there and must be made for it."""
    path = within(lane, name)
    above = [folder for folder in path.parents if folder.is_relative_to(lane.case) and not os.path.lexists(folder)]
    return str(above[-1]) if above else name


def _outputs(lane: Lane, outputs: Sequence[str]) -> dict[str, tuple[object, ...]]:
    tops = [str(within(lane, name)) for name in outputs]
    return {
        path: what
        for path, what in snapshot(lane.folder, but=own_files(lane)).items()
        if any(path == top or path.startswith(top + "/") for top in tops)
    }


def _command(call: Call) -> str:
    """As it is typed, with everything that cannot be seen written out."""
    return "forethought " + " ".join(ascii(word) if word.isprintable() is False else word for word in call.words)
