"""What an answer costs, in words and cells: steps, FLOPs and wall clock apart, and whether saved steps saved time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forethought.evaluation.summary import MethodSummary
from forethought.tables.formats import NONE, count, number, si
from forethought.tables.table import Table

THRESHOLDED = {
    "arh": "the halting net says more than {}",
    "change": "the state moves less than {}",
    "entropy": "the prediction's entropy is below {}",
    "doubt": "the prediction's entropy is above {}",
    "consistency": "the prediction moves less than {}",
    "random": "chance has it, {} a step",
}
STAGES = {"encode": "read and think", "rank": "rank all items", "lists": "make lists"}
CASE_COLUMNS = [
    *("method", "halting", "parameters", "steps"),
    *("FLOPs/history", "ms/history", "ranking FLOPs", "ranking ms"),
]
TRAINING_COLUMNS = ["method", "seeds", "window", "epochs", "s/epoch", "FLOPs/epoch"]
COUNTED, TIMED = 0.01, 0.1  # smaller shares are not called saved; two timings of the same thing differ by as much


def halting_words(halting: Mapping[str, Any] | None) -> str:
    """`arh 0.5, 3 steps at most`; a dash for a model that does not reason."""
    if halting is None:
        return NONE
    rule, most = halting["rule"], _steps(halting["max_steps"])
    least = "0 to " if halting.get("min_steps") == 0 else ""
    return f"{rule} {halting['threshold']:g}, {least}{most} at most" if rule in THRESHOLDED else f"{rule}, {most}"


def stage_table(cost: Mapping[str, Any]) -> Table:
    """What a history costs, a row a stage."""
    flops, ms = cost.get("flops_per_history", {}), cost.get("ms_per_history", {})
    rows = [
        [name, si(flops.get(stage)), number(ms.get(stage), ".4f")]
        for stage, name in STAGES.items()
        if stage in flops or stage in ms
    ]
    return Table("cost", ["a history", "FLOPs", "ms"], rows)


def remarks(halting: Mapping[str, Any] | None, cost: Mapping[str, Any]) -> list[str]:
    """How it thought, what was timed, what training cost: a sentence each, where there is something to say."""
    sentences = [_thinking(halting, cost), _look_ups(cost), _machine(cost), _training(cost)]
    return [sentence for sentence in sentences if sentence]


def case_table(methods: Mapping[str, MethodSummary]) -> Table:
    """What a history costs each method."""
    rows = [
        [
            name,
            halting_words(m.halting),
            count(m.cost.get("parameters")),
            number(m.cost.get("steps"), ".2f"),
            si(m.cost.get("flops")),
            number(m.cost.get("ms"), ".4f"),
            si(m.cost.get("rank_flops")),
            number(m.cost.get("rank_ms"), ".4f"),
        ]
        for name, m in methods.items()
    ]
    title = "cost of a history: read and thought about, then all items ranked"
    return Table(title, CASE_COLUMNS, rows, names=2)


def training_table(methods: Mapping[str, MethodSummary]) -> Table:
    """What training cost each method."""
    rows = [
        [
            name,
            str(m.seeds),
            NONE if m.window is None else str(m.window),
            number(m.cost.get("epochs"), ".3g"),
            number(m.cost.get("train_s_per_epoch"), ".2f"),
            si(m.cost.get("train_flops_per_epoch")),
        ]
        for name, m in methods.items()
    ]
    return Table("cost of training", TRAINING_COLUMNS, rows)


def savings(methods: Mapping[str, MethodSummary], baseline: str) -> list[str]:
    """For each method that reasons in fewer steps than the baseline: what that saved, and what it did not."""
    base, sentences = methods[baseline].cost, []
    for name, method in methods.items():
        saved = {key: 1 - method.cost[key] / base[key] for key in method.cost if base.get(key)}
        if method.halting is None or saved.get("steps", 0.0) < COUNTED:
            continue
        parts = [f"{abs(saved['steps']):.0%} fewer steps"]
        if "flops" in saved:
            parts.append(f"{abs(saved['flops']):.0%} {'fewer' if saved['flops'] >= 0 else 'more'} FLOPs")
        if "ms" in saved:
            parts.append(f"{abs(saved['ms']):.0%} {'less' if saved['ms'] >= 0 else 'more'} time")
        bars = (("flops", COUNTED, "FLOPs"), ("ms", TIMED, "time"))
        vain = [what for key, least, what in bars if saved.get(key, 1.0) < least]
        verdict = f": the steps saved save no {' and no '.join(vain)}" if vain else ""
        sentences.append(f"{name} against {baseline}, reading and thinking: {', '.join(parts)}{verdict}.")
    return sentences


def _thinking(halting: Mapping[str, Any] | None, cost: Mapping[str, Any]) -> str:
    if halting is None:
        return ""
    rule, most = halting["rule"], _steps(halting["max_steps"])
    noise = _noise(halting.get("noise"))
    if rule not in THRESHOLDED:
        return f"Thinking takes {most} ({rule}{', weighted as in training' if rule == 'soft' else ''}{noise})."
    when = THRESHOLDED[rule].format(f"{halting['threshold']:g}")
    spread = ", ".join(f"{name} {value:g}" for name, value in (cost.get("steps_quantiles") or {}).items())
    return (
        f"Thinking stops when {when}, {_least(halting)}after {most} at most ({rule}{noise}): "
        f"{number(cost.get('steps'), '.2f')} steps a history "
        f"({spread}), {number(cost.get('steps_saved'), '.0%')} of the steps saved."
    )


def _look_ups(cost: Mapping[str, Any]) -> str:
    looked_up = cost.get("look_ups_per_history")
    return (
        f"Ranking looks up {si(looked_up)} numbers of token tables a history, which no FLOPs count."
        if looked_up
        else ""
    )


def _least(halting: Mapping[str, Any]) -> str:
    return "perhaps before the first step, " if halting.get("min_steps") == 0 else ""


def _noise(noise: Mapping[str, float] | float | None) -> str:
    """How wrongly indicators were read; a number is of before, in raw units."""
    if not noise:
        return ""
    if not isinstance(noise, Mapping):
        return f", indicators with noise of {noise:g}"
    parts = (f"{name} {noise[name]:g}" for name in ("std", "bias", "scale") if noise.get(name))
    return f", indicators misread by {', '.join(parts)} of their deviations"


def _machine(cost: Mapping[str, Any]) -> str:
    machine = cost.get("machine")
    if not machine:
        return ""
    return (
        f"ms: wall clock, the best of a few repetitions in batches of {machine['batch']:,} on {machine['device']} with "
        f"{machine['threads']} {'thread' if machine['threads'] == 1 else 'threads'}. "
        "FLOPs: products and attention, padding included."
    )


def _training(cost: Mapping[str, Any]) -> str:
    training = cost.get("training")
    if not training:
        return ""
    if not training["epochs"]:
        return f"Training: fitted in closed form in {training['trained_s']:.1f} s, without epochs."
    if "s_per_epoch" not in training:  # its epochs were no passes over the data
        return f"Alignment: {training['epochs']} validations in {training['trained_s']:.1f} s of training between them."
    return (
        f"Training: {training['epochs']} {'epoch' if training['epochs'] == 1 else 'epochs'} in "
        f"{training['trained_s']:.1f} s; an epoch takes {training['s_per_epoch']:.2f} s "
        f"and {si(training['flops_per_epoch'])} FLOPs."
    )


def _steps(most: int) -> str:
    return f"{most} {'step' if most == 1 else 'steps'}"
