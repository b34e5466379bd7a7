"""Layer-adaptive precision (LADQ) against layers of one format: quality, stability, time, memory, period of sampling.

Formats are forced, emulated where the machine does not multiply in them: what they do to quality and stability shows
everywhere, what they take in time is of the machine. Steps are measured in turns with the same model's in float32.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

from forethought.data.batches import plan, training_batch, windows
from forethought.data.shop import Shop
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.methods.interface import Method
from forethought.precision.cost import seconds_of
from forethought.precision.formats import BITS, TRAINED, Format
from forethought.precision.ladq import Controller
from forethought.precision.linear import PrecisionLinear, is_available, make_precise, set_formats
from forethought.recommender import Recommender
from forethought.run_files import LOG_FILE
from forethought.studies import results
from forethought.studies.length import peak_mb
from forethought.studies.page import Page, number
from forethought.studies.results import Result
from forethought.studies.study import Study
from forethought.studies.tables import results_table
from forethought.studies.variants import LAYERS
from forethought.training.layer_precision import LayerPrecision
from forethought.training.optimiser import adamw
from forethought.training.settings import Training

BATCHES, TURNS, WARM_TURNS, PEAKS = 4, 100, 2, 5
SHOP = "shop-precision"


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """The formats at the end of a training, how stable it was, and what a step with them takes.

    Raises:
        RunError: the model comes from no run folder, so that nothing is known of its training.
    """
    if model.folder is None:
        raise RunError("What precision came to is read from a run folder, and this model has none: load one.")
    lines = (model.folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    losses = [figures["loss"] for figures in map(json.loads, lines) if "loss" in figures]
    method = deepcopy(model.method)  # its steps change weights
    layers, ladq = make_precise(method), model.progress().get("ladq") or {}
    formats: dict[str, Format] = ladq.get("assignment") or dict.fromkeys(layers, "fp32")
    used = set(formats.values())
    return {
        "layers": {each: list(formats.values()).count(each) for each in TRAINED},
        "bits": bits_a_weight(layers, formats),
        "emulated": [each for each in TRAINED if each in used and not is_available(each, method.device)],
        "divergences": len(ladq.get("pinned", ())),  # each one leaves one layer in float32
        "largest_rise": largest_rise(losses),
        "last_loss": losses[-1],
        "samplings": len(ladq.get("history", ())),
        "changes": changes([entry["assignment"] for entry in ladq.get("history", ())]),
        **_costs(method, layers, formats, model.config.training, ladq, split, seed),
    }


def bits_a_weight(layers: Mapping[str, PrecisionLinear], formats: Mapping[str, Format]) -> float:
    """Bits that a weight is multiplied in, mean over all weights of the layers."""
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    return sum(BITS[formats[name]] * size for name, size in sizes.items()) / sum(sizes.values())


def largest_rise(losses: Sequence[float]) -> float | None:
    """Largest relative rise of a loss from one epoch to the next; negative where it always fell, None of one epoch."""
    return max((later / earlier - 1 for earlier, later in pairwise(losses)), default=None)


def changes(assignments: Sequence[Mapping[str, Format]]) -> int:
    """How often a layer has another format than at the sampling before."""
    return sum(now[name] != before[name] for before, now in pairwise(assignments) for name in now)


def _costs(
    method: Method,
    layers: dict[str, PrecisionLinear],
    formats: Mapping[str, Format],
    settings: Training,
    ladq: Mapping[str, Any],
    split: Split,
    seed: int,
) -> dict[str, Any]:
    """Steps of training as assigned and in float32: seconds, in turns, and peak memory; and what a sampling takes."""
    rows = windows(split.train, method.window, every=settings.all_windows)
    chosen = plan(rows.lengths - 1, settings.batch_positions, seed, 0)[:BATCHES]
    batches = [training_batch(rows.take(each)).to(method.device) for each in chosen]
    optimiser = adamw(method, settings)

    def step(at: int = 0) -> None:
        method.loss(batches[at % len(batches)]).total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    method.train()
    modes: dict[str, dict[str, Format]] = {"fp32": dict.fromkeys(layers, "fp32"), "assigned": dict(formats)}
    taken: dict[str, list[float]] = {mode: [] for mode in modes}
    for turn in range(WARM_TURNS + TURNS):
        for mode in list(modes)[:: 1 if turn % 2 else -1]:  # neither is always the one behind the other
            set_formats(layers, modes[mode])
            seconds = seconds_of(partial(step, turn), method.device)
            if turn >= WARM_TURNS:
                taken[mode].append(seconds)
    told: dict[str, Any] = {}
    for mode, each in modes.items():
        set_formats(layers, each)
        told[f"{mode}_mb"] = statistics.median(peak_mb(step, method.device) for _ in range(PEAKS))
        told[f"{mode}_s"] = statistics.median(taken[mode])
    pairs = zip(taken["assigned"], taken["fp32"], strict=True)
    told["over_fp32"] = statistics.median(each / plain for each, plain in pairs)  # both meet the same other work
    asked = settings.ladq
    if asked.adapts:
        precision = LayerPrecision(method, Controller(layers, asked, ladq["costs"], exact=method.logit_layers), seed)
        told["sampling_s"] = seconds_of(lambda: precision.before_step(0, rows), method.device)
    return told


# ---- the page


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    results_table(page, runs_of, page.name)
    for dataset in results.places(runs_of):
        probes = {
            variant: [run.probe for run in runs if run.probe is not None]
            for variant, runs in results.at(runs_of, dataset).items()
        }
        if probes := {variant: figures for variant, figures in probes.items() if figures}:
            page.heading(f"Formats, time and memory on {dataset}")
            _tell_costs(page, probes)
            page.heading(f"Stability on {dataset}")
            _tell_stability(page, results.at(runs_of, dataset), probes)


def _tell_costs(page: Page, probes: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    page.say(
        "Share of the linear layers in each format when training ended, and bits that a weight is multiplied in, mean "
        "over their weights. A step is one of training over one of the same model in float32, the median of "
        f"{TURNS} turns of both; float32's own row tells how much of that is noise. The peak is what tensors of a step "
        "take beyond the model, by the allocator's record. A sampling is told in steps of float32. Emulated formats "
        "cost time and memory that hardware would not take, and layers as narrow as these gain nothing where formats "
        "are real: this is a trial of quality and stability. Means over seeds."
    )
    page.table(
        [
            *("variant", "seeds", *TRAINED, "bits a weight", "emulated", "a step, over float32's"),
            *("peak, MB", "float32's peak, MB", "samplings", "a sampling, in steps"),
        ],
        [(variant, *_cost_cells(figures)) for variant, figures in probes.items()],
    )


def _cost_cells(figures: Sequence[Mapping[str, Any]]) -> list[object]:
    shares = [mean([one["layers"][each] / sum(one["layers"].values()) for one in figures]) for each in TRAINED]
    sampled = [one["sampling_s"] / one["fp32_s"] for one in figures if "sampling_s" in one]
    return [
        len(figures),
        *(f"{share:.0%}" for share in shares),
        number(mean([one["bits"] for one in figures]), 1),
        ", ".join(each for each in TRAINED if any(each in one["emulated"] for one in figures)),
        number(mean([one["over_fp32"] for one in figures]), 2),
        *(number(mean([one[f"{mode}_mb"] for one in figures]), 1) for mode in ("assigned", "fp32")),
        number(mean([float(one["samplings"]) for one in figures]), 1),
        number(mean(sampled), 1) if sampled else "",
    ]


def _tell_stability(
    page: Page, runs_of: Mapping[str, Sequence[Result]], probes: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    page.say(
        "A divergence is a loss that was no number, or leapt to three times its mean: training went back, with one "
        "layer more in float32 from there on. The largest rise of the training loss is from one epoch to the next, of "
        "all seeds; negative: it always fell. The last loss is the last epoch's; changed formats are those of layers "
        "from one sampling to the next, both in the mean of the runs."
    )
    rows = []
    for variant, figures in probes.items():
        _, spread = results.over_seeds(runs_of[variant], "ndcg@10")
        rises = [one["largest_rise"] for one in figures if one["largest_rise"] is not None]
        rows.append(
            (
                *(variant, number(spread), sum(one["divergences"] for one in figures)),
                f"{max(rises):+.1%}" if rises else "",
                mean([one["last_loss"] for one in figures]),
                number(mean([float(one["changes"]) for one in figures]), 1),
            )
        )
    page.table(
        ["variant", "NDCG@10, deviation of seeds", "divergences", "largest rise", "last loss", "changed formats"], rows
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def study(name: str, of: str, called: str) -> Study:
    """One method with its layers in every way; a method a study, since all are held against float32 of the first."""
    return Study(
        name=name,
        title=f"Precision of {called}'s layers",
        question=f"What does layer-adaptive precision (LADQ) do to {called}'s quality, stability, time and memory "
        "beside layers that are all float32, bfloat16 or float8, and how often must sensitivities be sampled? Formats "
        "are forced; they follow a tolerance of 1e-4 nats a layer or a budget of 0.4 of float32's bits, sampled every "
        "200 steps unless the name says otherwise. Width 32, two layers, batches of 256 positions, nothing tuned.",
        variants=tuple(f"{of}-layers-{way}" for way in LAYERS),
        write=write,
        probe=probe,
        shops={SHOP: Shop(users=2_000, items=400, intents=24, interactions_per_user=10.0)},
        anywhere=True,
    )


STUDIES = study("layer-precision", "sasrec", "SASRec"), study("layer-precision-reg4rec", "reg4rec", "REG4Rec")
