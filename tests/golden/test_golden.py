"""Golden runs: every method of the command line trained for a moment in float64, and what it came to, number by number.

A change that is to alter no results leaves them as they are. One that is meant to alter them renews them, and says why:

    FORETHOUGHT_RENEW_GOLDEN=1 pytest tests/golden

Weights are kept as sums over all parameters, so that renaming or regrouping parameters is no change of results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.data.texts import VECTORS
from forethought.evaluation.ranking import rank_cases
from forethought.methods.item_tokens import TokenMethodConfig
from forethought.methods.lares import LARES
from forethought.methods.reg4rec import REG4Rec
from forethought.reasoning.neighbour_prior import NeighbourPrior
from forethought.recipes import METHODS, on_backbone
from forethought.runs import train
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.training.settings import Training

RENEW = os.environ.get("FORETHOUGHT_RENEW_GOLDEN") == "1"
FOLDER = Path(__file__).parent
RELATIVE, ABSOLUTE = 1e-9, 1e-12
DIGITS = 13
ASKED = range(4)  # rows of the test part whose lists are kept

SMALL = {
    **{"width": 16, "heads": 2, "head_width": 8, "ffn_width": 32, "window": 10, "user_width": 6},
    **{"first_clusters": 4, "most_clusters": 16, "codebooks": 3, "codewords": 8, "size": 8},
}
"""Sizes alone; whatever else a method can be told is left at its default."""
TRAINING = Training(epochs=4, batch_positions=256, warmup_steps=5, precision="32", device="cpu", checkpoint_every_s=0)


def small(config: Any) -> Any:
    """A configuration with the sizes above, all the way down."""
    inner = {f.name: getattr(config, f.name) for f in fields(config)}
    parts = {name: small(value) for name, value in inner.items() if is_dataclass(value)}
    return replace(config, **parts, **{name: value for name, value in SMALL.items() if name in inner})


def recipe(name: str) -> Any:
    method = METHODS[name]().method
    if isinstance(method, LARES):  # its authors reinforce for a hundred epochs
        method = replace(method, reinforcement=replace(method.reinforcement, epochs=5))
    if isinstance(method, REG4Rec):  # no more steps than codebooks
        method = replace(method, steps=3)
    if isinstance(method, TokenMethodConfig):  # the tokenizer's own passes are tested where it is
        method = replace(method, tokenizer=RQKMeans(collisions="counter", components=8, collaborative_width=8))
    return small(method)


def on(backbone: str, name: str) -> Any:
    return small(on_backbone(METHODS[name](), backbone).method)


RUNS: dict[str, Callable[[], Any]] = {name: lambda name=name: recipe(name) for name in METHODS} | {
    "igr-sr-texts": lambda: replace(recipe("igr-sr"), intents="texts", text_width=6),
    "igr-sr-on-bert4rec": lambda: replace(on("bert4rec", "igr-sr"), encoder_epochs=None),
    "dtrec-on-hstu": lambda: on("hstu", "dtrec"),
    "dtrec-refined": lambda: replace(recipe("dtrec"), indicator_source="refined"),
    "rearec-prl-prior": lambda: replace(recipe("rearec-prl"), prior=NeighbourPrior(weight=0.5)),
    "rearec-prl-on-gru4rec": lambda: on("gru4rec", "rearec-prl"),
}


@pytest.fixture(scope="module", autouse=True)
def double() -> Iterator[None]:
    """Float64 throughout: rounding, which differs from machine to machine, stays far below what is compared."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """150 users and 60 items, with text vectors."""
    shop = Shop(users=150, items=60, interactions_per_user=9.0, seed=11).write(tmp_path_factory.mktemp("data") / "shop")
    rows = pl.read_parquet(shop / "items.parquet").height
    np.save(shop / VECTORS, np.random.Generator(np.random.PCG64(0)).normal(size=(rows, 6)).astype(np.float32))
    return leave_last_out(read(shop))


@pytest.mark.parametrize("name", RUNS)
def test_a_golden_run_comes_out_as_it_did(name: str, split: Split, tmp_path: Path) -> None:
    got, path = golden(RUNS[name](), split, tmp_path / "run"), FOLDER / f"{name}.json"
    if RENEW:
        path.write_text(json.dumps(got, indent=1) + "\n", encoding="utf-8")
    wanted = json.loads(path.read_text(encoding="utf-8"))
    assert differences(got, wanted) == []


def test_every_golden_file_has_its_run() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(RUNS)


def golden(config: Any, split: Split, folder: Path) -> dict[str, Any]:
    """Train it, and write down what can be seen from outside."""
    training = Training(device="cpu") if config.closed_form else TRAINING
    run = train(Recipe(method=config, training=training, seed=5), split, folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [line for line in log if "valid_ndcg@10" in line]
    numbers = torch.cat([parameter.detach().flatten() for parameter in run.method.parameters()])
    assert numbers.dtype == torch.float64
    ranks = rank_cases(run.method, split.test, exclude_history=True).ranks
    asked = split.test.history
    histories, times = [run.items.id_list(asked[row]) for row in ASKED], asked.histories.dated()
    dated = [times[asked.starts[row] : asked.ends[row]].tolist() for row in ASKED]
    found = run.recommend(histories, k=10, times=dated, exclude_history=True)
    return {
        "epochs": [
            {key: rounded(value) for key, value in line.items() if isinstance(value, int | float) and key[-2:] != "_s"}
            for line in epochs
        ],
        "parameters": {
            "count": len(numbers),
            "sum": rounded(numbers.sum()),
            "absolute": rounded(numbers.abs().sum()),
            "squares": rounded(numbers.square().sum()),
        },
        "test": {"mean_rank": rounded(ranks.mean()), "mrr": rounded((1 / ranks).mean())},
        "lists": [{"items": one.items, "scores": [rounded(score) for score in one.scores]} for one in found],
    }


def rounded(value: Any) -> float | int:
    return value if isinstance(value, int) else float(f"{float(value):.{DIGITS}g}")


def differences(got: Any, wanted: Any, path: str = "") -> list[str]:
    """Where two trees of plain values differ; figures that nobody had written down may be added."""
    if isinstance(wanted, Mapping):
        return [
            told
            for key, value in wanted.items()
            for told in (differences(got[key], value, f"{path}/{key}") if key in got else [f"{path}/{key} is gone"])
        ]
    if isinstance(wanted, list):
        if len(got) != len(wanted):
            return [f"{path} has {len(got)} entries, not {len(wanted)}"]
        return [
            told for at, pair in enumerate(zip(got, wanted, strict=True)) for told in differences(*pair, f"{path}/{at}")
        ]
    same = got == (pytest.approx(wanted, rel=RELATIVE, abs=ABSOLUTE) if isinstance(wanted, float) else wanted)
    return [] if same else [f"{path} is {got}, not {wanted}"]
