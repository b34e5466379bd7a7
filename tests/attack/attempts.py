"""One call with something malformed: what must hold whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attack import calls
from attack.calls import Call, Outcome
from attack.cases import Case
from attack.contents import nameless
from attack.ground import Lane, changed, outside, snapshot, summed, within
from attack.verdict import Verdict, faults_of

Prepare = Callable[[Lane], None]
Check = Callable[[Lane, Outcome, Verdict], None]


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
    check: Check | None = None,
    always: bool = False,
    **how: object,
) -> Case:
    """A call of the command line in an empty folder, after `prepare`.

    Args:
        words: of the call, or what makes them where they need to know the lane.
        outputs: what it may write, if it succeeds.
        must_fail: success is a fault.
        check: looks further at how it ended.
        how: of the `Call`.
    """

    def do(lane: Lane) -> Verdict:
        lane.clear()
        prepare(lane)
        given = words(lane) if callable(words) else words
        return attempt(lane, Call(tuple(given), **how), outputs, must_fail=must_fail, check=check)  # type: ignore[arg-type]

    return Case(kind, name, do, always)


def attempt(
    lane: Lane, call: Call, outputs: Sequence[str] = (), *, must_fail: bool = False, check: Check | None = None
) -> Verdict:
    """Carry a call out; it may succeed, or tell in a sentence and leave everything as it was."""
    verdict = Verdict(counts={"malformed inputs": 1})
    before, written = outside(lane, outputs), _outputs(lane, outputs)
    outcome = calls.run(call, lane)
    verdict.told = outcome.code == 2
    doctor = tuple(call.words[:1]) == ("doctor",)
    verb = call.words[0] if call.words else "Python"
    for fault in faults_of(outcome, must_fail=must_fail, verdict_on_output=doctor):
        verdict.add(f"{verb}: {fault.headline}", f"{_command(call)}\n{fault.detail}")
    for said in summed(changed(before, outside(lane, outputs), lane.root)):
        verdict.add(f"{verb}: beside what it was told to write: {nameless(said)}", _command(call))
    if outcome.code == 2:
        for said in summed(changed(written, _outputs(lane, outputs), lane.root)):
            verdict.add(f"{verb}: refused, but {nameless(said)}", f"{_command(call)}\n{outcome.err}")
    if check is not None:
        check(lane, outcome, verdict)
    return verdict


def _outputs(lane: Lane, outputs: Sequence[str]) -> dict[str, tuple[object, ...]]:
    tops = [str(within(lane, name)) for name in outputs]
    return {
        path: what
        for path, what in snapshot(lane.folder).items()
        if any(path == top or path.startswith(top + "/") for top in tops)
    }


def _command(call: Call) -> str:
    """As it is typed, with everything that cannot be seen written out."""
    return "forethought " + " ".join(ascii(word) if word.isprintable() is False else word for word in call.words)
