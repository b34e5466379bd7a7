"""What is exported scores as the library does: every method, any number of histories of any length."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_runs import run_of as made_run
from export_runs import speaking

from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.exporting.check import library_scores
from forethought.exporting.export import Exported, export
from forethought.exporting.histories import trial
from forethought.exporting.program import ScoringProgram
from forethought.exporting.traced import opened
from forethought.methods.items import ItemLoss
from forethought.reasoning.halting import Halting
from forethought.reasoning.indicator_noise import IndicatorNoise
from forethought.recommender import Recommender
from forethought.row_ranking import RankingRequest, batch_of

onnxruntime = pytest.importorskip("onnxruntime")

RunOf = Callable[..., Recommender]
BACKBONES = ("sasrec", "gru4rec", "bert4rec", "hstu", "bsarec")
REASONING = ("dtrec", "rearec-erl", "rearec-prl", "lares", "igr-sr")
OTHERS = ("sse-pt", "lightrec", "rpg", "reg4rec")
QUICK = ("sasrec", "gru4rec", "rearec-prl", "sse-pt", "lightrec", "rpg")  # one of each kind; a trace takes seconds
REST = ("sasrec", "bert4rec", "hstu", "bsarec", *REASONING, *OTHERS)  # of the same trace as ONNX


@pytest.fixture
def run_of(split: Split) -> RunOf:
    return lambda name, *change, **settings: made_run(name, split, *change, **settings)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forethought.exporting.check.CALLS", 2)


def histories(run: Recommender, sizes: list[int], seed: int = 1) -> list[RankingRequest]:
    random = np.random.default_rng(seed)
    return [
        RankingRequest(random.integers(len(run.items), size=n), 10, 10**9 + random.integers(10**7, size=n).cumsum())
        for n in sizes
    ]


def called(made: Exported, run: Recommender, sizes: list[int]) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """What the file says of some histories, opened by its own package, and the library's scores."""
    batch = batch_of(histories(run, sizes), run.method)
    inputs = {"items": batch.items_BL, "lengths": batch.lengths_B}
    if run.method.inputs.times:
        assert batch.times_BL is not None
        inputs["times"] = batch.times_BL
    if made.about["to"] == "torch":
        outputs = torch.export.load(made.folder / "model.pt2").module()(**inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,), library_scores(run.method, batch)
    session = onnxruntime.InferenceSession(made.folder / "model.onnx")
    outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return tuple(map(torch.from_numpy, outputs)), library_scores(run.method, batch)


def disagreement(made: Exported, run: Recommender) -> float:
    """How far the scores of any history lie from the library's, as a share of what is tolerated; NaN where any is."""
    assert made.about["check"]["different_lists"] == 0
    worst = []
    for sizes in ([1], [run.method.window], [3, 1, 5, 2, 4], [1, 1]):
        (scores_BN, *_), wanted_BN = called(made, run, [min(size, run.method.window) for size in sizes])
        assert (scores_BN.shape, scores_BN.dtype) == (wanted_BN.shape, wanted_BN.dtype)
        worst.append((scores_BN - wanted_BN).abs().max())
    return float(torch.stack(worst).max()) / made.about["check"]["tolerance"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in (*BACKBONES, *REASONING, *OTHERS)
    ],
)
def test_onnx_scores_as_the_library(name: str, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(name)
    assert disagreement(export(run, tmp_path / "out"), run) <= 1


@pytest.mark.parametrize("name", ["gru4rec", *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_a_torch_program_scores_as_the_library(name: str, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(name)
    assert disagreement(export(run, tmp_path / "out", "torch"), run) <= 1


LOSS = {"bias": ItemLoss(bias=True), "plain": ItemLoss(cosine=False, temperature=0.5, bias=True)}


@pytest.mark.parametrize("name", ["sasrec", pytest.param("dtrec", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", LOSS)
def test_biases_and_temperatures_are_folded_in(name: str, loss: str, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(name, loss=LOSS[loss])
    assert run.method.catalogue().offsets_N is not None
    assert disagreement(export(run, tmp_path / "out"), run) <= 1


@pytest.mark.parametrize(
    ("name", "gate"),
    [  # of DTRec's states as of SASRec's, and without a gate as with one
        *(("sasrec", True), ("rpg", False)),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in ("sasrec", "dtrec")),
    ],
)
def test_evidence_is_part_of_the_scores(name: str, gate: bool, run_of: RunOf, tmp_path: Path) -> None:
    silent, run = run_of(name), run_of(name, lambda method: speaking(method, gate=gate))
    made = export(run, tmp_path / "out")
    assert disagreement(made, run) <= 1
    assert made.about["evidence"]
    batch = batch_of(histories(run, [3, 2]), run.method)
    assert (library_scores(run.method, batch) - library_scores(silent.method, batch)).abs().max() > 0.01


@pytest.mark.parametrize(
    "halting",
    [  # who halts early by a change is tried below, and "arh" with the weighted readout
        *(
            pytest.param(halting, marks=pytest.mark.slow)
            for halting in (
                Halting(rule="arh", threshold=0.5),
                Halting(rule="soft"),
                Halting(rule="change", threshold=0.02),
                Halting(rule="entropy", threshold=0.9),
                Halting(rule="doubt", threshold=0.9),
                Halting(rule="fixed", max_steps=1),
            )
        ),
        Halting(rule="fixed", max_steps=0),
    ],
    ids=lambda halting: f"{halting.rule}-{halting.max_steps}",
)
def test_who_halts_early_keeps_the_state_of_that_step(halting: Halting, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("dtrec", halting=halting)
    assert disagreement(export(run, tmp_path / "out"), run) <= 1


SLOW_AS_ONNX = pytest.mark.parametrize("to", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
"""Of a DTRec that halts early in ONNX one trace is enough: `test_some_rows_of_a_batch_halt_and_others_go_on`."""


@SLOW_AS_ONNX
@pytest.mark.parametrize("rule", ["arh", pytest.param("fixed", marks=pytest.mark.slow)])
def test_a_weighted_readout_is_exported(rule: Any, to: Any, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("dtrec", halting=Halting(rule=rule, threshold=0.5), readout="weighted")
    last = run_of("dtrec", halting=Halting(rule=rule, threshold=0.5), readout="last")
    batch = batch_of(histories(run, [3, 2]), run.method)
    assert rule == "arh" or not torch.equal(library_scores(run.method, batch), library_scores(last.method, batch))
    assert disagreement(export(run, tmp_path / "out", to), run) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch", "onnx"])
def test_refined_indicators_are_exported(to: Any, run_of: RunOf, tmp_path: Path) -> None:
    """Rows halt by them, each by its own last item."""
    settings: dict[str, Any] = {"indicator_source": "refined"}
    run = run_of("dtrec", halting=Halting(rule="entropy", threshold=1.0), **settings)
    trace = run.method.user_states(batch_of(histories(run, [5] * 40), run.method), trace=True).trace
    assert trace is not None
    middle = trace.indicators_PT3[:, 0, 0].median().item()
    run = run_of("dtrec", halting=Halting(rule="entropy", threshold=middle), **settings)
    assert len(set(run.method.user_states(batch_of(histories(run, [5] * 40), run.method)).steps_B.tolist())) > 1
    assert disagreement(export(run, tmp_path / "out", to), run) <= 1


def test_some_rows_of_a_batch_halt_and_others_go_on(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("dtrec", halting=Halting(rule="change", threshold=1.0))
    batch = batch_of(histories(run, [5] * 40), run.method)
    trace = run.method.user_states(batch, trace=True).trace
    assert trace is not None
    middle = trace.indicators_PT3[:, 0, 2].median().item()
    run = run_of("dtrec", halting=Halting(rule="change", threshold=middle))
    assert set(run.method.user_states(batch).steps_B.tolist()) >= {1, 3}
    assert disagreement(export(run, tmp_path / "out"), run) <= 1


@pytest.mark.parametrize("window", [1, 2])
def test_a_window_of_one_or_two_items(window: int, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("sasrec", sizes={"window": window})
    assert disagreement(export(run, tmp_path / "out"), run) <= 1


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("exclude", [True, False])
def test_a_program_with_k_lists_what_recommend_lists(to: Any, exclude: bool, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("sasrec")
    run.about["exclude_history"] = exclude
    made = export(run, tmp_path / "out", to, k=7)
    requests = histories(run, [5, 1, 8, 3])
    ids = [run.items.id_list(each.history) for each in requests]
    (rows_BK, scores_BK), _ = called(made, run, [5, 1, 8, 3])
    for one, rows, scores in zip(run.recommend(ids, k=7), rows_BK, scores_BK, strict=True):
        assert run.items.id_list(rows.numpy()) == one.items
        np.testing.assert_allclose(scores.numpy(), one.scores, atol=1e-5)


def test_where_candidates_run_out_a_list_says_so(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("sasrec")
    made = export(run, tmp_path / "out", k=len(run.items))
    (_, scores_BK), _ = called(made, run, [3])
    own = len(set(histories(run, [3])[0].history.tolist()))
    assert (scores_BK[0] < -1e38).sum() == own


def test_a_trained_run_is_tried_on_its_own_histories(trained: Recommender, split: Any, tmp_path: Path) -> None:
    made = export(trained.folder, tmp_path / "out", split=split)  # type: ignore[arg-type]
    assert made.about["check"]["real_histories"]
    assert made.about["check"]["histories"] == 64
    assert made.about["weights"] == trained.weights_sum
    assert disagreement(made, trained) <= 1
    assert trained.method.training is False
    assert made.about == json.loads((tmp_path / "out" / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "k", "to"),
    [
        *(("sasrec", None, "onnx"), ("hstu", 3, "torch")),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("sasrec", None, "torch"), ("hstu", 3, "onnx"))),
    ],
)
def test_the_example_of_the_readme_runs_without_the_library(
    name: str, k: int | None, to: Any, run_of: RunOf, processes: dict[str, str], tmp_path: Path
) -> None:
    export(run_of(name), tmp_path / "out", to, k=k)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert "forethought" not in code
    done = subprocess.run(
        ["python", "-c", code], check=False, cwd=tmp_path / "out", env=processes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.count("i0") == 2 * (k or 10)


REFUSED = {
    "tiger": (lambda run_of: run_of("tiger"), "names an item token by token"),
    "paths": (lambda run_of: run_of("reg4rec", lambda method: method.path_share.fill_(0.5)), "count for 0.5"),
    "graph": (
        lambda run_of: run_of("rpg", lambda m: setattr(m, "config", replace(m.config, decoding="graph"))),
        "walks",
    ),
    "drawn": (lambda run_of: run_of("lares", state_init="normal"), "drawn at random"),
    "closed": (lambda run_of: run_of("popular"), "fitted in closed form"),
    "chance": (lambda run_of: run_of("dtrec", halting=Halting(rule="random", threshold=0.5)), "by chance"),
    "noise": (lambda run_of: run_of("dtrec", halting=Halting(noise=IndicatorNoise(std=0.1))), "by chance"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_what_cannot_be_a_program_is_refused_in_a_sentence(case: str, to: Any, run_of: RunOf, tmp_path: Path) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(ConfigError, match=reason):
        export(make(run_of), tmp_path / "out", to)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("by", [1e-3, float("nan")])
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_a_program_that_does_not_agree_is_not_written(
    by: float, to: Any, run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = ScoringProgram._scores
    monkeypatch.setattr(ScoringProgram, "_scores", lambda *inputs: scores(*inputs) + by)
    with pytest.raises(RunError, match="does not agree with the run"):
        export(run_of("sasrec"), tmp_path / "out", to)
    assert not list(tmp_path.iterdir())


def test_a_program_that_cannot_be_read_back_is_not_written(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ScoringProgram._scores

    def nested(*inputs: Any) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            with torch.autocast("cpu", enabled=False):
                scores_BN = plain(*inputs)
            return scores_BN + 0.0

    monkeypatch.setattr(ScoringProgram, "_scores", nested)
    with pytest.raises(ConfigError, match="cannot read the program that it made of this run"):
        export(run_of("sasrec"), tmp_path / "out", "torch")
    assert not list(tmp_path.iterdir())


def test_lists_that_differ_are_noticed(run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right scores beside wrong rows."""
    forward = ScoringProgram.forward

    def shifted(self: ScoringProgram, items: torch.Tensor, lengths: torch.Tensor) -> Any:
        rows_BK, scores_BK = forward(self, items, lengths)
        return (rows_BK + 1) % 40, scores_BK

    monkeypatch.setattr(ScoringProgram, "forward", shifted)
    with pytest.raises(RunError, match="does not agree"):
        export(run_of("sasrec"), tmp_path / "out", "torch", k=5)


def test_an_export_takes_the_place_of_an_export_alone(run_of: RunOf, tmp_path: Path) -> None:
    run, out = run_of("sasrec"), tmp_path / "out"
    export(run, out)
    with pytest.raises(DataError, match="not empty"):
        export(run, out)
    made = export(run, out, "torch", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "items.json", "items.parquet", "metadata.json", "model.pt2"),
    ]
    assert made.about["to"] == "torch"
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"also holds 'notes\.txt'"):
        export(run, out, overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is not an export"):
        export(run, other, overwrite=True)


def test_without_its_packages_onnx_is_refused_before_anything_is_done(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.exporting.onnx_file.NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match=r'no_such_package.*pip install "forethought\[export\]"'):
        export(run_of("sasrec"), tmp_path / "out")


def test_wrong_calls_are_refused(run_of: RunOf, tmp_path: Path) -> None:
    run: Recommender = run_of("sasrec")
    calls: list[tuple[dict[str, Any], str]] = [
        ({"to": "pickle"}, "onnx"),
        ({"k": 0}, "k"),
        ({"k": 41}, "knows 40 items"),
        ({"to": "parquet", "k": 3}, "k would change nothing"),
        ({"histories": "x.parquet"}, "parquet alone"),
    ]
    for options, words in calls:
        with pytest.raises(ConfigError, match=words):
            export(run, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_drawn_histories_have_every_size(run_of: RunOf) -> None:
    run = run_of("hstu")
    tried = trial(run, None)
    lengths = torch.cat([batch.lengths_B for batch in tried.batches])
    assert (len(tried), lengths.min(), lengths.max()) == (64, 1, run.method.window)
    assert [len(batch.lengths_B) for batch in tried.batches] == [1, 2, 61]
    assert all((batch.times_BL.diff(dim=1) >= 0).all() for batch in tried.batches if batch.times_BL is not None)


@pytest.mark.parametrize("name", ["sasrec", pytest.param("dtrec", marks=pytest.mark.slow)])
def test_the_run_that_is_exported_stays_as_it_is(name: str, run_of: RunOf, tmp_path: Path) -> None:
    run = run_of(name, speaking)
    before = {name: tensor.clone() for name, tensor in run.method.state_dict().items()}
    export(run, tmp_path / "out", "torch")
    after = run.method.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_program_of_pytorch_runs_without_the_cost_of_gradients(trained: Recommender, tmp_path: Path) -> None:
    export(trained, tmp_path / "out", to="torch", k=3)
    inputs = {"items": torch.tensor([[1, 2]]), "lengths": torch.tensor([2])}
    assert all(output.is_inference() for output in opened(tmp_path / "out" / "model.pt2")(inputs))
    assert "with torch.inference_mode():\n    outputs = program(" in (tmp_path / "out" / "README.md").read_text()
