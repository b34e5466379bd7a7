"""A service over a tiny run, in the process of a test."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forethought.recommender import Recommender
from forethought.serving.settings import Limits, ModelPlace, Serving

starlette = pytest.importorskip("starlette.testclient")

Start = Callable[..., Any]


@pytest.fixture
def place(trained: Recommender, tmp_path: Path) -> ModelPlace:
    """A run folder of one's own."""
    assert trained.folder is not None
    return ModelPlace(name="first", folder=str(shutil.copytree(trained.folder, tmp_path / "first")))


@pytest.fixture
def start(place: ModelPlace, tmp_path: Path) -> Iterator[Start]:
    """Starts services and ends them; each is asked through a client of its own."""
    from forethought.serving.http import app_of
    from forethought.serving.service import Service

    with contextlib.ExitStack() as stack:

        def begin(**changes: Any) -> Any:
            settings = Serving(
                **{
                    "models": (place,),
                    "state": str(tmp_path / "state"),
                    "events": str(tmp_path / "events"),
                    "limits": Limits(histories=8, history=20, k=30, body_bytes=20_000, slow_client_s=1.0),
                    "log_requests": False,
                    "watch_s": 0.05,
                    **changes,
                }
            )
            service = Service(settings)
            client = stack.enter_context(starlette.TestClient(app_of(settings, service), raise_server_exceptions=False))
            client.service = service
            return client

        yield begin


@pytest.fixture
def client(start: Start) -> Any:
    return start()
