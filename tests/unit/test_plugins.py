"""Backbones and methods of one's own: named by import path, imported only where a person says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import forethought as ft
from forethought import plugins
from forethought.cli import main
from forethought.config import RunConfig, from_json, to_json
from forethought.data.splits import Split
from forethought.recipes import named

OWN = """
from dataclasses import dataclass
from torch import nn
import forethought as ft

__version__ = "{version}"

@dataclass(frozen=True, kw_only=True)
class Means(ft.BackboneConfig):
    layers: int = 1

    def build(self):
        return Network(self)

class Network(ft.Backbone):
    def __init__(self, config):
        super().__init__(config)
        self.mix = nn.Linear(config.width, config.width)

    def encode(self, x_BLD, lengths_B, *, positions=None, times=None, prefix=None, last_only=False):
        states_BLD = self.mix(x_BLD.cumsum(1) / x_BLD.new_ones(x_BLD.shape[1]).cumsum(0)[:, None])
        return ft.Encoding(states_BLD[range(len(lengths_B)), lengths_B - 1, None] if last_only else states_BLD, None)

@dataclass(frozen=True, kw_only=True)
class BothWays(Means):
    causal = False

@dataclass(frozen=True, kw_only=True)
class Scaled(ft.NextItem):
    scale: float = 2.0
"""
SMALL = ["--width", "8", "--epochs", "1", "--batch-positions", "128", "--quiet"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that is found and not yet imported."""
    (tmp_path / "own_means.py").write_text(OWN.format(version="1.0"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_means"
    sys.modules.pop("own_means", None)


def forget() -> None:
    sys.modules.pop("own_means", None)


def train(shop: Path, out: Path, *words: str) -> Path:
    main(["train", "own_means:Means", "--data", str(shop), "--out", str(out), *SMALL, *words])
    return out


def test_trains_is_saved_by_path_and_loaded_where_allowed(module: str, shop: Path, tmp_path: Path) -> None:
    run = train(shop, tmp_path / "run")
    saved = json.loads((run / "config.json").read_text())
    assert saved["config"]["method"]["backbone"] == {"type": "own_means:Means", "width": 8, "window": 50, "layers": 1}
    assert saved["plugins"] == {"own_means:Means": {"package": "own_means", "version": "1.0"}}
    forget()
    with pytest.raises(ft.RunError, match=r"nothing is imported because a run folder says so: .*--plugin own_means"):
        ft.load(run)
    assert "own_means" not in sys.modules
    first = ft.load(run, allow_plugins=True)
    forget()
    main(["evaluate", str(run), "--plugin", "own_means", "--resamples", "10"])
    assert plugins.is_own(type(first.config.method.backbone))  # type: ignore[attr-defined]


def test_the_command_line_allows_for_the_command_alone(module: str, shop: Path, tmp_path: Path) -> None:
    run = train(shop, tmp_path / "run")
    forget()
    main(["evaluate", str(run), "--allow-plugin", "--resamples", "10"])
    forget()
    with pytest.raises(ft.RunError, match="--allow-plugin"):
        ft.load(run)


def test_a_name_that_was_taken_out_of_the_list_is_not_imported_either(module: str, shop: Path, tmp_path: Path) -> None:
    run = train(shop, tmp_path / "run")
    forget()
    path = run / "config.json"
    with pytest.raises(plugins.PluginError):
        from_json(RunConfig, json.loads(path.read_text())["config"])
    assert "own_means" not in sys.modules


def test_absent_code_is_named_with_its_package(module: str, shop: Path, tmp_path: Path) -> None:
    run = train(shop, tmp_path / "run")
    forget()
    (tmp_path / "own_means.py").unlink()
    with pytest.raises(
        ft.RunError, match=r"needs own_means:Means \(of own_means 1.0\), but the module own_means is not here"
    ):
        ft.load(run, allow_plugins=True)


def test_another_version_is_told(module: str, shop: Path, tmp_path: Path) -> None:
    run = train(shop, tmp_path / "run")
    forget()
    (tmp_path / "own_means.py").write_text(OWN.format(version="2.0.1"), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"own_means 1.0, and here is own_means 2.0.1"):
        ft.load(run, allow_plugins=True)


@pytest.mark.parametrize(
    "path", ["os:getcwd", "json:JSONDecoder", "forethought.backbones.sasrec:SASRec", "pathlib:Path"]
)
def test_what_is_imported_already_is_still_no_backbone(path: str) -> None:
    with pytest.raises(ft.RunError, match="no backbone and no method of one's own"):
        from_json(RunConfig, {"method": {"type": "next_item", "backbone": {"type": path}}})


def test_stands_where_its_kind_is_asked_for(module: str) -> None:
    own = __import__(module)
    assert ft.DTRec(backbone=own.Means(width=8)).backbone.width == 8
    assert ft.MaskedItem(backbone=own.BothWays()).backbone.causal is False
    with pytest.raises(ft.ConfigError, match="NextItem's backbone is BothWays"):
        ft.NextItem(backbone=own.BothWays())
    with pytest.raises(ft.ConfigError, match="MaskedItem's backbone is Means"):
        ft.MaskedItem(backbone=own.Means())
    config = RunConfig(method=own.Scaled(scale=3.0))
    assert from_json(RunConfig, to_json(config)) == config


def test_what_cannot_be_imported_is_refused_before_anything_is_written(split: Split, tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Local(ft.NextItem):
        pass

    with pytest.raises(ft.ConfigError, match="put it into a module of its own"):
        ft.train(Local(), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_names_on_the_command_line(module: str) -> None:
    assert type(named("own_means:Means").method).__name__ == "NextItem"
    for name, said in (
        ("own_means:Maens", "has no 'Maens'. Did you mean 'Means'"),
        ("own_means:nn", "is no method"),
        ("nowhere_at_all:X", "The module nowhere_at_all is not here"),
        ("sasrek", "Did you mean 'sasrec'"),
    ):
        with pytest.raises(ft.ConfigError, match=said):
            named(name)


def test_entry_points_give_names(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: {"means": "own_means:Means"} if group.endswith("backbones") else {}
    )
    assert type(named("means").method.backbone).__name__ == "Means"  # type: ignore[union-attr]


def test_a_broken_module_and_one_without_chains_are_told_in_a_sentence(
    module: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_own.py").write_text("raise ValueError('at once')", encoding="utf-8")
    for name, words, said in (
        ("broken_own:X", [], "The module broken_own cannot be imported (ValueError: at once)."),
        ("dtrec", ["--backbone", "own_means:Means"], "Network makes no chains behind a history"),
    ):
        out = tmp_path / "r"
        with pytest.raises(SystemExit):
            main(["train", name, "--data", str(shop), "--out", str(out), *SMALL, *words])
        assert said in capsys.readouterr().err
        assert not out.exists() or not list(out.iterdir())


def test_a_backbone_of_ones_own_is_tuned(module: str, shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    settings = ["width=8", "epochs=1", "batch_positions=128", "layers=1,2"]
    words = ["--data", str(shop), "--out", str(tmp_path / "search"), "--trials", "2", "--quiet", "--set", *settings]
    main(["tune", f"{module}:Means", *words])
    best = str(tmp_path / "search" / "best.json")
    main(["train", f"{module}:Means", "--recipe", best, "--data", str(shop), "--out", str(tmp_path / "run"), "--quiet"])
    assert ft.load(tmp_path / "run").config.method.backbone.width == 8  # type: ignore[attr-defined]


def test_an_export_says_what_in_ones_own_code_it_cannot_follow(
    module: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(shop, tmp_path / "run")
    words = ["export", str(run), "--to", "torch", "--out", str(tmp_path / "out"), "--plugin", module]
    with pytest.raises(SystemExit):
        main(words)
    assert "take tensor.shape and torch.arange" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    path = tmp_path / "own_means.py"
    mended = path.read_text(encoding="utf-8").replace("range(len(lengths_B))", "torch.arange(x_BLD.shape[0])")
    path.write_text("import torch\n" + mended, encoding="utf-8")
    forget()
    main(words)
    assert (tmp_path / "out" / "model.pt2").is_file()
