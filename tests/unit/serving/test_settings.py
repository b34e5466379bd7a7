"""What a service is told, and what it refuses to be told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forethought.errors import ConfigError
from forethought.serving.settings import Limits, ModelPlace, Serving

FIRST = ModelPlace(name="first", folder="runs/first")


def test_settings_go_to_other_processes_without_the_key() -> None:
    settings = Serving(models=(FIRST,), state="s", limits=Limits(k=7), cors=("https://a.example",), api_key="sesame-12")
    text = json.dumps(settings.to_json())
    assert "sesame" not in text
    assert Serving.from_json(json.loads(text), "sesame-12") == settings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"models": (FIRST, FIRST)}, "Two models are called 'first'"),
        ({"models": (ModelPlace(name="first", folder="x", weight=0.0),)}, "No model is left to answer"),
        ({"models": (ModelPlace(name="first", folder="x", shadow=True),)}, "No model is left to answer"),
        ({"port": 70_000}, "port is 70000"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_served_is_said(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Serving(**{"models": (FIRST,), "state": "s", **wrong})


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "é", "x" * 65])
def test_names_stand_in_addresses(name: str) -> None:
    with pytest.raises(ConfigError, match="name is"):
        ModelPlace(name=name, folder="x")
