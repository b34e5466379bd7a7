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
        ({"event_users": "integer"}, "event_users is 'integer', but no events are kept: give --events FOLDER"),
    ],
)
def test_what_cannot_be_served_is_said(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Serving(**{"models": (FIRST,), "state": "s", **wrong})


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "é", "x" * 65])
def test_names_stand_in_addresses(name: str) -> None:
    with pytest.raises(ConfigError, match="name is"):
        ModelPlace(name=name, folder="x")


@pytest.mark.parametrize(
    "origin",
    [
        *("foo", "", "null", "shop.example", "https://", "https://a.example/path", "https://a.example/", "//a.example"),
        *(
            "https://A.example",
            "https://a.example:",
            "https://a.example:443",
            "http://a.example:80",
            "https://*.example",
        ),
        *("https://a.example https://b.example", "https://a.example?x", "https://me@a.example", "https://a.example\n"),
    ],
)
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    with pytest.raises(ConfigError, match="which no browser sends: an origin is scheme://host"):
        Serving(models=(FIRST,), state="s", cors=("https://b.example", origin))


def test_origins_as_browsers_send_them_are_taken() -> None:
    origins = ("*", "https://a.example", "http://localhost:3000", "http://[::1]:8080", "chrome-extension://abc")
    origins += (
        "http://a.example:443",
        "capacitor://localhost",
        "https://xn--bcher-kva.example",
        "http://10.0.0.1:8080",
    )
    assert Serving(models=(FIRST,), state="s", cors=origins).cors == origins
