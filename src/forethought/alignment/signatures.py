"""Failure signatures of an alignment (REG4Rec, section on post-training): what it looks like now against at first.

| signature | what is held against what |
|---|---|
| rewards do not move | what rollouts earn, after three validations, against what they earned before the first |
| the tail of a list goes first | recall@10 lost against recall@5 lost, on the validation part |
| paths collapse | the entropy of choices, and the share of drawn paths that differ |
"""

from __future__ import annotations

from collections.abc import Mapping

from forethought.reasoning.diagnostics import FIRST

WATCHED = ("recall@5", "recall@10")  # of the validation part
PATIENT = 3  # validations before nothing has moved
MOVED = 0.01  # of what was earned at first
FALL, AHEAD = 0.01, 0.005  # shares of recall@10 that are lost, and by how much more than of recall@5
COLLAPSED = 0.5  # of what there was at first


def signatures(figures: Mapping[str, float], weights: Mapping[str, float]) -> list[str]:
    """A sentence for each that is seen.

    Args:
        figures: of an epoch, and with `FIRST` before their names those it began with.
        weights: of the rewards.
    """
    told = (_still(figures, weights), _tail(figures), _collapsed(figures))
    return [sentence for sentence in told if sentence]


def _still(figures: Mapping[str, float], weights: Mapping[str, float]) -> str:
    def earned(first: str) -> float:
        return sum(weight * figures.get(f"{first}reward_{name}", 0.0) for name, weight in weights.items())

    if not any(weights.values()) or figures.get("epoch", 0) < PATIENT:
        return ""
    then, now = earned(FIRST), earned("")
    if now - then > MOVED * abs(then):
        return ""
    return (
        f"Rollouts earn no more than at first ({now:.4f}, {then:.4f} then), so that rewards teach nothing: raise rate "
        "or updates, lower kl_weight, or divide advantages (scale group or batch)."
    )


def _tail(figures: Mapping[str, float]) -> str:
    lost = {name: 1 - figures[f"valid_{name}"] / first for name in WATCHED if (first := _first(figures, name)) > 0}
    if len(lost) < len(WATCHED):
        return ""
    five, ten = (lost[name] for name in WATCHED)
    if ten < FALL or ten < five + AHEAD:
        return ""
    paths = "distinct" in figures
    later = "let more later items count (path_rewards.future, path_rewards.decay), or " if paths else ""
    return (
        f"On validation recall@10 has lost {ten:.1%} and recall@5 {five:.1%}: rewards sharpen the head of lists at the "
        f"cost of what stands behind it; {later}give anchor more weight."
    )


def _first(figures: Mapping[str, float], name: str) -> float:
    """What a metric was; 0 where it is not known then and now."""
    return figures.get(f"{FIRST}valid_{name}", 0.0) if f"valid_{name}" in figures else 0.0


def _collapsed(figures: Mapping[str, float]) -> str:
    if "distinct" not in figures:  # no paths: who has become sure when to stop has learned it
        return ""
    for name, what in (("distinct", "paths of a history differ"), ("entropy", "nats are left to a choice")):
        first, now = figures.get(FIRST + name), figures.get(name)
        if first is not None and now is not None and now < COLLAPSED * first:
            return (
                f"Paths collapse: {now:.2f} {what}, {first:.2f} at first. Raise kl_weight or temperature, reward "
                "diversity (path_rewards.diversity), and see what forethought tokenize says of the tokens."
            )
    return ""
