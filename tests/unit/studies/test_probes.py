"""What probes measure on runs of a tiny shop: noise, what long histories cost, clusters beside categories."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from tiny_studies import QUICK, SMALL, TINY, on_every_device, study

from forethought.config import Recipe
from forethought.data.batches import Batch
from forethought.data.noise import KINDS
from forethought.data.splits import Split
from forethought.methods.igr_sr import IGRSR
from forethought.runs import train
from forethought.studies import clusters, halting, intent_probing, length
from forethought.studies.runner import StudyContext, carry_out


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_noise_curves(context: StudyContext) -> None:
    page = carry_out(study("sasrec", "dtrec", of="noise"), context, seeds=[0])
    told = {
        path.name.partition("-")[0]: json.loads(path.read_text())
        for path in (context.results / "noise").glob("*-0.json")
    }
    assert {(p["kind"], p["share"]) for p in told["sasrec"]["points"]} == set(product(KINDS, (0.1, 0.2, 0.3)))
    assert told["sasrec"]["seeds"] == told["dtrec"]["seeds"] == [0, 1, 2, 3, 4]
    run = json.loads(next((context.results / "runs").glob("sasrec-*.json")).read_text())
    assert told["sasrec"]["clean"] == {name: run["metrics"][name] for name in ("recall@10", "ndcg@10")}
    aggregated = json.loads(next((context.results / "noise").glob("related-*.json")).read_text())
    point = next(p for p in told["dtrec"]["points"] if (p["kind"], p["share"]) == ("swap", 0.3))
    other = next(p for p in told["sasrec"]["points"] if (p["kind"], p["share"]) == ("swap", 0.3))
    less = other["drops"]["ndcg@10"]["mean"] - point["drops"]["ndcg@10"]["mean"]
    assert aggregated["dtrec"]["swap 0.3 ndcg@10"]["mean"] == pytest.approx(less)
    text, plot = page.read_text(), next(page.parent.glob("noise-*.svg"))
    assert "| swap | dtrec | " in text.split("How many points of a hundred less than `sasrec`")[1]
    assert f"({plot.name})" in text
    absolute = text.split("How many points of a hundred less")[0]
    rows = {tuple(line.split(" | ")[:2]): line for line in absolute.splitlines() if line.startswith("| ")}
    for variant, kind in product(told, KINDS):
        point = next(p for p in told[variant]["points"] if (p["kind"], p["share"]) == (kind, 0.2))
        row = rows[f"| {kind}", variant]
        assert f" {point['metrics']['recall@10']['mean']:.4f} " in row
        low, high = point["drops"]["ndcg@10"]["ci95"]
        assert f"{point['drops']['ndcg@10']['mean']:.1%} [{low:.1%}, {high:.1%}]" in row


def test_the_peak_is_what_was_held_at_once() -> None:
    def work() -> None:
        one = torch.ones(1000, 1000)  # 4 MB
        two = one + 1
        del one
        three = torch.cat([two, two])
        del two, three
        torch.ones(500, 1000)

    work()  # what is freed stays with the process, and must not hide the second time
    assert length.peak_mb(work, torch.device("cpu")) == pytest.approx(12.0, rel=1e-3)


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_what_long_histories_cost(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "REPEATS", 3)
    page = carry_out(study("sasrec", "dtrec", of="long-histories"), context, seeds=[0])
    told = json.loads(next((context.results / "long-histories").glob("sasrec-*-0.json")).read_text())
    assert (told["window"], told["items"]) == (8, 8)
    assert told["ms"] > 0
    assert told["mb"] > 80 * told["window"] * SMALL.width * 4 / 1e6 / 2  # more than the embedded histories alone
    assert f"| sasrec | 8 | 8 | {told['ms']:.2f} |" in page.read_text()


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_clusters_beside_categories(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "COUNTS", (5, 10, 3000))
    monkeypatch.setattr(clusters, "SHOWN", {5: 5, 10: 3})
    page = carry_out(study("sasrec", of="clusters"), context, seeds=[0])
    told = json.loads(next((context.results / "clusters").glob("sasrec-*.json")).read_text())
    assert {a["k"] for a in told["agreement"]} == {5, 10}
    assert "| 5 | level 1 |" in page.read_text()
    sheet = next(context.runs.glob(f"sasrec-*/{clusters.SHEET}")).read_text()
    assert len(list(context.results.glob("clusters-sasrec-*.svg"))) == 1
    assert "## k = 10" in sheet
    assert sheet.count("- **") == 5 + 3


def test_agreement_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    cluster, category = rng.integers(0, 4, 60), rng.integers(0, 3, 60).astype(str)
    category[:10] = ""
    got = clusters.agreement(cluster, category)
    table = contingency_matrix(category[10:], cluster[10:])
    assert got["purity"] == pytest.approx(table.max(axis=0).sum() / 50)
    assert got["ami"] == pytest.approx(adjusted_mutual_info_score(category[10:], cluster[10:]))
    same = clusters.agreement(cluster, cluster.astype(str))
    assert (same["purity"], same["ami"]) == (1.0, pytest.approx(1.0))
    assert same["purity_by_chance"] < 0.6


@pytest.mark.parametrize("name", ["halting", "long-histories", "intent-probing"])
@pytest.mark.usefixtures("tiny")
def test_probes_read_histories_where_the_model_is(
    name: str, context: StudyContext, monkeypatch: pytest.MonkeyPatch, split: Split
) -> None:
    """On a GPU the batches of a probe must lie there too, and what it measures must come back."""
    moved: list[torch.device] = []
    to = Batch.to
    monkeypatch.setattr(Batch, "to", lambda batch, device: moved.append(device) or to(batch, device))
    monkeypatch.setattr(length, "REPEATS", 2)
    config = IGRSR(backbone=SMALL) if name == "intent-probing" else TINY["dtrec"].method
    model = train(Recipe(method=config, training=QUICK), split, context.runs / "run")
    moved.clear()
    if name == "intent-probing":
        intent_probing.read(model.method, split.test)  # type: ignore[arg-type]
    elif name == "halting":
        halting._trace(model.method, split.test)
    else:
        length.probe(model, split, 0)
    assert moved
    assert set(moved) == {model.device}
