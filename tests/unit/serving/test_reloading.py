"""A run folder that is replaced: the new version is taken over once it answers, and until then the old one serves."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.recommender import Recommender, load
from forethought.serving.settings import ModelPlace


def until(condition: Callable[[], object]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def replaced(folder: Path, run: Recommender, seed: int) -> Recommender:
    """Another version of a run, put into its place."""
    model = load(run.folder or "")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save(folder)
    return load(folder)


def test_reloads_under_load_lose_nothing(client: Any, place: ModelPlace, trained: Recommender) -> None:
    """Every answer is of one version, and of the one that it names."""
    histories = [trained.items.id_list([3, 1]), trained.items.id_list([9])]
    lists = {}
    stop, failures, seen = threading.Event(), [], set()

    def note(run: Recommender) -> None:
        assert run.weights_sum is not None
        lists[run.weights_sum[:12]] = [each.items for each in run.recommend(histories, 8)]

    note(load(place.folder))

    def ask() -> None:
        while not stop.is_set():
            reply = client.post("/recommend", json={"histories": histories, "k": 8})
            body = reply.json()
            if reply.status_code != 200:
                failures.append(reply.text)
                continue
            seen.add(body["version"])
            items = [[each["item"] for each in result["items"]] for result in body["results"]]
            if items != lists[body["version"]]:
                failures.append((body["version"], items))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    model = client.service.models
    try:
        for seed in range(10):
            aside = Path(place.folder).with_name(f"version-{seed}")
            note(replaced(aside, trained, seed))
            version = load(aside).weights_sum
            shutil.copytree(aside, place.folder, dirs_exist_ok=True)
            until(lambda version=version: model.named("first").version == version[:12])
    finally:  # else a test that fails would never end
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    assert len(seen) > 5
    done = re.compile(r'forethought_reloads_total\{model="first",outcome="done"\} (\d+)')
    # A folder whose times are set after its content is taken over once more.
    until(lambda: (match := done.search(client.get("/metrics").text)) and int(match[1]) >= 10)
    copies = list((client.service.settings.state_folder / "models").iterdir())
    assert len(copies) <= 3


@pytest.mark.parametrize("harm", ["cut", "nan", "config", "gone"])
def test_a_broken_run_is_refused_and_the_old_one_serves(
    client: Any, place: ModelPlace, trained: Recommender, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    history = trained.items.id_list([3, 1])
    before = client.post("/recommend", json={"history": history}).json()
    folder = Path(place.folder)
    weights = folder / "model.safetensors"
    if harm == "cut":  # in the very file, as cp does it: who had mapped it would die of that
        with weights.open("r+b") as file:
            file.truncate(weights.stat().st_size // 2)
    elif harm == "nan":
        model = load(folder)
        with torch.no_grad():
            next(model.method.parameters()).fill_(torch.nan)
        model.save(folder)
    elif harm == "config":
        (folder / "config.json").write_text("{")
    else:
        shutil.rmtree(folder)
    if harm == "gone":
        time.sleep(0.3)
    else:
        until(lambda: 'outcome="refused"} 1.0' in client.get("/metrics").text)
        log = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
        (refusal,) = [line for line in log if line["event"] == "reload refused"]
        assert str(folder) in refusal["why"]
    assert client.post("/recommend", json={"history": history}).json() == before
    if folder.exists():
        shutil.rmtree(folder)
    replaced(folder, trained, 5)  # and is taken over once it is mended
    version = load(folder).weights_sum or ""
    until(lambda: client.service.models.named("first").version == version[:12])
