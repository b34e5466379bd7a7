"""Which device a word stands for, on machines with none, one and several CUDA devices."""

from __future__ import annotations

import pytest
import torch

from forethought.devices import resolve_device
from forethought.errors import ConfigError, RunError
from forethought.training.launch import launch
from forethought.training.settings import Training


@pytest.fixture(params=[0, 1, 2])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


def test_words_and_devices(shown: int) -> None:
    assert str(resolve_device("cpu")) == "cpu"
    assert str(resolve_device("auto")) == ("cuda:0" if shown else "cpu")
    for n in range(shown):
        assert str(resolve_device(f"cuda:{n}")) == f"cuda:{n}"
    if shown:
        assert str(resolve_device("cuda")) == "cuda:0"
    with pytest.raises(RunError, match="no CUDA device: use device=cpu or auto" if shown == 0 else "counted from 0"):
        resolve_device(f"cuda:{shown}")


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:-1", "cuda:1.0", "cuda:٣", "cuda:99999", "CPU", "", None, 0])
def test_words_that_are_no_device(word: object) -> None:
    with pytest.raises(ConfigError, match=r"device is .*, but must be one of auto, cpu, cuda or text like cuda:1"):
        resolve_device(word)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Training's device is"):
        Training(device=word)  # type: ignore[arg-type]


def test_a_device_by_number_and_torchrun_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    with pytest.raises(ConfigError, match="torchrun gives each process a device of its own"):
        launch(Training(device="cuda:1"))
