"""Trained models in narrow formats: what pays is taken, what does not is refused, and results are nearly the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from forethought.cli import main
from forethought.errors import ConfigError
from forethought.precision.inference import formats_of
from forethought.precision.linear import PrecisionLinear
from forethought.recommender import Recommender, load


def costs_of(monkeypatch: pytest.MonkeyPatch, seconds: float, slow: str = "") -> None:
    def measured(layers: dict[str, Any], _: int, formats: tuple[str, str], **__: Any) -> Any:
        return {name: {"fp32": 1.0, formats[1]: 2.0 if slow and name.endswith(slow) else seconds} for name in layers}

    monkeypatch.setattr("forethought.precision.inference.cost.measured", measured)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_layers_that_a_format_makes_faster_have_it(
    precision: Any, trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs_of(monkeypatch, 0.5, slow="up")
    assert trained.folder is not None
    model, history = load(trained.folder), [trained.items.id_list(range(4))]
    said = model.set_precision(precision)
    layers = [part for part in model.method.modules() if isinstance(part, PrecisionLinear)]
    assert said == f"3 of 4 linear layers multiply in {precision}, 2.0 times as fast as in float32."
    assert formats_of(model.method) == {precision: 3, "fp32": 1}
    assert sum(layer.precision == precision for layer in layers) == 3
    (narrow,), (exact,) = model.recommend(history), trained.recommend(history)
    assert narrow.scores != exact.scores
    assert narrow.scores == pytest.approx(exact.scores, rel=0.1)


def test_a_format_that_makes_nothing_faster_is_refused_and_nothing_changes(
    trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs_of(monkeypatch, 1.5)
    assert trained.folder is not None
    model = load(trained.folder)
    with pytest.raises(ConfigError, match=r"int8 makes no linear layer .* \(1\.50 times float32's time at best\)"):
        model.set_precision("int8")
    assert formats_of(model.method) == {}
    assert not any(type(part) is PrecisionLinear for part in model.method.modules())
    assert any(type(part) is nn.Linear for part in model.method.modules())
    with pytest.raises(ConfigError, match="precision is 'fp4'"):
        model.set_precision("fp4")  # type: ignore[arg-type]


def test_an_evaluation_in_int8_is_not_the_runs_own_and_says_its_precision(
    trained: Recommender,
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    costs_of(monkeypatch, 0.25)
    assert trained.folder is not None
    run = shutil.copytree(trained.folder, tmp_path / "run")
    main(["evaluate", str(run), "--data", str(shop), "--precision", "int8", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["cost"]["machine"]["layers"] == {"int8": 4}
    assert not (run / "metrics.json").exists()
    main(["recommend", str(run), "--history", str(trained.items.id_list([0])[0]), "--precision", "int8"])
    assert "4.0 times as fast" in "".join(capsys.readouterr())
