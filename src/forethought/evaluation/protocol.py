"""What a number was measured on. Two numbers may stand side by side only where their protocols agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from forethought.data.interactions import Interactions
from forethought.data.splits import Split

Part = Literal["valid", "test"]

# What may differ between methods on the same footing: the data's name (its hash decides), how far back each reads, what
# each was trained on before, how far its ranks are searched for, where its scores come from, and whether it knew whose
# history it read; the latter are told.
DESCRIPTIVE = frozenset({"data", "window", "started_from", "tokens_from", "search", "scores", "unknown_users"})
# What a protocol's line says in words of its own; the rest stands behind it as it is.
WORDED = frozenset(
    {
        *("data", "data_hash", "split", "ties", "tie_seed", "part", "n_cases", "n_items", "candidates"),
        *("history_excluded", "hold_out_items", "hold_out_seed", "started_from", "unknown_users"),
    }
)


def excludes_history(data: Interactions) -> bool:
    """The default: what a user has met is no candidate, unless some user meets an item again."""
    return not data.repeats


def describe(
    split: Split,
    part: Part,
    n_cases: int,
    *,
    window: int | None,
    history_excluded: bool,
    sample: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that decides whether two numbers are comparable, as plain JSON values.

    Args:
        split: its own protocol is taken over, with `seed` renamed to `tie_seed`.
        part: which cases were ranked.
        n_cases: how many.
        window: the longest history the method reads, in items; None where nobody knows.
        history_excluded: whether items of the history were left out of the candidates.
        sample: how negatives were drawn, where not all items were ranked.
    """
    of_split = {"tie_seed" if key == "seed" else key: value for key, value in split.protocol.items()}
    return {
        "data": split.data.name,
        "data_hash": split.data.data_hash,
        **of_split,
        "part": part,
        "candidates": "sampled" if sample else "all",
        **(sample or {}),
        "history_excluded": history_excluded,
        **({} if window is None else {"window": window}),
        "n_cases": n_cases,
        "n_items": split.data.n_items,
    }


def started_from(about: Mapping[str, Any]) -> dict[str, str]:
    """What the protocol says of a run that began with weights of another, where those may have seen what is tested."""
    said = may_have_seen([{"of": about.get("started_from") or {}}])
    return {} if said is None else {"started_from": said}


def tokens_from(about: Mapping[str, Any]) -> dict[str, str]:
    """What it says of one whose tokens are made of the item vectors of a run that may have seen it."""
    made = (about.get("tokens") or {}).get("made") or {}
    said = may_have_seen(made.get("inputs") or [])
    return {} if said is None else {"tokens_from": said}


def begun_with(about: Mapping[str, Any]) -> dict[str, str]:
    """Both."""
    return started_from(about) | tokens_from(about)


def may_have_seen(sources: Sequence[Mapping[str, Any]]) -> str | None:
    """The first source that comes `of` a run which may have been trained on what is tested, in words; None: none."""
    for run in (each.get("of") or {} for each in sources):
        if run.get("may_have_seen"):
            data = f"{run.get('data')} ({str(run.get('data_hash'))[:8]})"
            return f"{data}, whose training may have held what is tested here"
    return None


def searched(search: str | None) -> dict[str, str]:
    """What the protocol says of a method that does not score all items exactly (`Method.search`)."""
    return {} if search is None else {"search": search}


def metric_prefix(protocol: dict[str, Any]) -> str:
    """`sampled100:` for metrics among 100 sampled negatives, so that they are never taken for full ranking."""
    return f"sampled{protocol['negatives']}:" if protocol["candidates"] == "sampled" else ""


def conflicts(first: dict[str, Any], second: dict[str, Any], *, across: Collection[str] = ()) -> dict[str, str]:
    """The keys that forbid comparing two protocols, each told with both values; those in `across` may differ."""
    passed = DESCRIPTIVE | set(across)
    keys = [key for key in {**first, **second} if key not in passed and first.get(key) != second.get(key)]
    return {key: f"{key} ({first.get(key)!r} and {second.get(key)!r})" for key in keys}


def in_words(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line."""
    name, digest = protocol.get("data", "data"), str(protocol.get("data_hash", ""))[:8]
    ties = f"ties {protocol.get('ties')}" + ("" if (seed := protocol.get("tie_seed")) is None else f" (seed {seed})")
    n_items = f"{protocol.get('n_items', 0):,}"
    if protocol.get("candidates") == "sampled":
        candidates = (
            f"SAMPLED (biased): {protocol['negatives']} {protocol['negatives_by']} negatives of {n_items} items"
        )
    else:
        candidates = f"full ranking of {n_items} items"
    noise = protocol.get("noise")
    rest = [
        f"{key} {value}"
        for key, value in protocol.items()
        if key not in WORDED and not key.startswith("negatives") and not isinstance(value, dict | list)
    ]
    parts = [
        f"{name} ({digest})",
        f"split {protocol.get('split')}",
        ties,
        *held_out(protocol),
        f"{protocol.get('part')}, {protocol.get('n_cases', 0):,} cases",
        f"history {'excluded' if protocol.get('history_excluded') else 'not excluded'}",
        candidates,
        *([f"began with weights of {start}"] if (start := protocol.get("started_from")) else []),
        *(["read as UNKNOWN users' histories"] if protocol.get("unknown_users") else []),
        *([] if noise is None else [f"NOISY histories: {noisy(noise)}"]),
        *rest,
    ]
    return " · ".join(parts)


def held_out(protocol: Mapping[str, Any]) -> list[str]:
    """That items were held out of training, where some were."""
    share, seed = protocol.get("hold_out_items", 0), protocol.get("hold_out_seed")
    return [f"{100 * share:g}% of the items held out of training (seed {seed})"] if share else []


def is_unusual(protocol: Mapping[str, Any]) -> bool:
    """Whether its numbers are of sampled candidates or noisy histories, which must catch the eye."""
    return protocol.get("candidates") == "sampled" or bool(protocol.get("noise"))


def noisy(noise: Mapping[str, Any]) -> str:
    """Noise as a protocol or a configuration has it: `replace 20%, seeds 0 to 4`."""
    last = noise["seed"] + noise.get("seeds", 1) - 1
    seeds = f"seed {last}" if last == noise["seed"] else f"seeds {noise['seed']} to {last}"
    return f"{noise['kind']} {100 * noise['share']:g}%, {seeds}"
