"""Mutants of `serving/`: who waits, who is answered, and by which version."""

from __future__ import annotations

from mutants import Mutant

BATCHING, ANSWERS, REFUSALS, RELOADING = (
    f"unit/serving/test_{name}.py" for name in ("batching", "answers", "refusals", "reloading")
)

MUTANTS = [
    Mutant(
        "the queue has no end",
        "serving/batching.py",
        "self.waiting + len(job.inputs) > self.most_waiting * room",
        "self.waiting < 0",
        f"{BATCHING}::test_the_queue_is_bounded_and_shadows_have_less_of_it",
    ),
    Mutant(
        "jobs of another kind are ranked together",
        "serving/batching.py",
        "job.kind == first.kind and size",
        "size",
        f"{BATCHING}::test_what_waits_is_worked_on_together",
    ),
    Mutant(
        "what comes too late is worked on",
        "serving/batching.py",
        "if begin > job.deadline:",
        "if begin < 0:",
        f"{BATCHING}::test_what_comes_too_late_is_not_worked_on",
    ),
    Mutant(
        "one that fails fails all",
        "serving/batching.py",
        "if len(jobs) == 1:\n                jobs[0].answer.set_exception(error)\n                return",
        "for job in jobs:\n                job.answer.set_exception(error)\n            return",
        f"{BATCHING}::test_one_that_fails_harms_nobody_else",
    ),
    Mutant(
        "the history is recommended again",
        "serving/service.py",
        "excluded = known if exclude else None",
        "excluded = None",
        f"{ANSWERS}::test_lists_are_those_of_the_library",
    ),
    Mutant(
        "any key opens",
        "serving/gate.py",
        "if not hmac.compare_digest(given, self.key):",
        "if not given:",
        f"{REFUSALS}::test_a_key_is_asked_for",
    ),
    Mutant(
        "weights are served from the folder itself",
        "serving/run_copies.py",
        "load(copy, device",
        "load(folder, device",
        f"{ANSWERS}::test_weights_are_mapped_from_one_copy",
    ),
    Mutant(
        "a new version is not taken over",
        "serving/models.py",
        "slot.seen, slot.model = now, model",
        "slot.seen = now",
        f"{RELOADING}::test_reloads_under_load_lose_nothing",
    ),
    Mutant(
        "an answer says how we are made",
        "serving/gate.py",
        'f"The service failed over this request; its log says more, under {request_id}."',
        "repr(error)",
        f"{REFUSALS}::test_a_fault_of_ours_says_nothing_of_how_we_are_made",
    ),
]
