"""A module that does not fit is refused before it is made; one that fits is the one it always was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forethought import memory
from forethought.memory import ShortOfMemoryError, check_room, machine_memory
from forethought.nn import budget


def made(width: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Embedding(width, width), nn.GRU(width, width))


def test_a_small_module_is_made_once_and_without_a_look_at_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "check_room", lambda *_: pytest.fail("it looked"))
    torch.manual_seed(0)
    first = made()
    torch.manual_seed(0)
    again = budget.built(made)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_a_large_module_is_drawn_from_the_same_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "UNASKED", 1000)
    torch.manual_seed(0)
    first = made()
    torch.manual_seed(0)
    again = budget.built(made, copies=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert all(p.device.type == "cpu" for p in again.parameters())


def test_what_the_machine_cannot_hold_is_refused_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = sum(p.numel() for p in made().parameters())
    monkeypatch.setattr(budget, "UNASKED", 1000)
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 4 * numbers)
    budget.built(made, copies=4)
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 4 * numbers - 1)
    with pytest.raises(ShortOfMemoryError, match=r"^This model needs about .* GB of memory, but this machine has"):
        budget.built(made, copies=4)
    budget.built(made, copies=3)


def test_beyond_any_machine() -> None:
    with pytest.raises(ShortOfMemoryError, match="lower its widths, layers or windows"):
        budget.built(lambda: nn.Linear(10**7, 10**7))
    with pytest.raises(ShortOfMemoryError, match="A thing needs about"):
        check_room(1e18, "A thing", "mend it")
    assert 2**26 < machine_memory() < 2**50
