"""All that a stopped training needs to go on as if it had never stopped: tensors in safetensors, the rest in JSON.

The plan of an epoch follows from (seed, epoch), the learning rate from the step; so weights, optimiser moments,
the random generators and a few counters are the whole state. Both files are written under new names and the
JSON, which names its tensors, is replaced last: a kill at any moment leaves one whole state.

A stage that another one follows leaves its best weights in a file of its own, which that one starts from. They are
written before the state that knows of them; after a kill in between they are made again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forethought.errors import RunError
from forethought.files import first_line, read_json, replace_file, write_json

STATE_FILE = "state.json"
MEND = "start the training anew in another folder"


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch, batch: the next batch to train, counted from 0.
        step: optimiser steps made.
        best: best validation NDCG@10 so far, of all stages whose weights may become the run's; -1 before the first.
        best_epoch: the epoch that gave it.
        stale: epochs since the best one of the stage.
        sums: of loss parts over this epoch's batches, weighted by positions.
        positions: supervised in this epoch so far.
        trained_s: seconds of training behind it, over all sittings.
        done: the training has ended.
        stages: the epoch that each stage began with, of those begun.
        stage_step: the step that this one began with.
        stage_best: best validation NDCG@10 of this one, -1 before the first.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = -1
    stale: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    positions: int = 0
    trained_s: float = 0.0
    done: bool = False
    stages: list[int] = field(default_factory=lambda: [0])
    stage_step: int = 0
    stage_best: float = -1.0

    @property
    def stage(self) -> int:
        """Which one, counted from 0."""
        return len(self.stages) - 1

    @property
    def stage_epoch(self) -> int:
        """The next epoch, counted from the beginning of the stage."""
        return self.epoch - self.stages[-1]

    def next_stage(self) -> None:
        self.stages.append(self.epoch)
        self.stage_step, self.stage_best, self.stale = self.step, -1.0, 0


def save(
    folder: Path,
    progress: Progress,
    method: nn.Module,
    optimiser: torch.optim.Optimizer,
    random: list[dict[str, Tensor]] | None = None,
) -> None:
    """Write the state; the previous one is removed only when the new one is whole.

    Args:
        random: `generators()` of every process; by default of this one, which is alone.

    Raises:
        RunError: the folder cannot be written.
    """
    tensors = {f"method/{name}": tensor for name, tensor in method.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in entry.items()}
    for rank, states in enumerate(random or [generators()]):
        tensors |= {f"random/{rank}/{name}": tensor for name, tensor in states.items()}
    name = f"state-{progress.step}-{progress.epoch}.safetensors"
    whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    replace_file(folder / name, lambda part: save_file(whole, part))
    write_json(folder / STATE_FILE, {"tensors": name, **asdict(progress)})
    for old in folder.glob("state-*"):  # and what a kill left half-written
        if old.name != name:
            old.unlink(missing_ok=True)


def load(folder: Path, method: nn.Module, optimiser: torch.optim.Optimizer, *, rank: int = 0) -> Progress:
    """Put everything back where it was; a process that was not there before keeps its generators.

    Raises:
        RunError: there is no state, or it is damaged, or it belongs to another configuration.
    """
    with _whole(folder):
        name, progress = _told(folder)
        tensors = load_file(folder / name)
        method.load_state_dict(_below(tensors, "method/"))
        _load_optimiser(optimiser, _below(tensors, "optimiser/"))
        _set_generators(_below(tensors, f"random/{rank}/"))
    return progress


def load_progress(folder: Path) -> Progress:
    """The counters alone, which say what stage the rest belongs to.

    Raises:
        RunError: there is no state, or it is damaged.
    """
    with _whole(folder):
        return _told(folder)[1]


def save_weights(folder: Path, stage: str, method: nn.Module) -> None:
    """The best weights of a stage so far, for the next one to start from."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in method.state_dict().items()}
    replace_file(folder / f"{stage}.safetensors", lambda part: save_file(tensors, part))


def load_weights(folder: Path, stage: str, method: nn.Module) -> None:
    """Put the best weights of a stage into the method.

    Raises:
        RunError: the file is not there, or damaged.
    """
    with _whole(folder):
        method.load_state_dict(load_file(folder / f"{stage}.safetensors"))


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Whatever broken files make of themselves becomes one sentence."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else first_line(error).rstrip(".:")
        raise RunError(f"The saved state in {folder} is damaged ({said}): {MEND}.") from error


def _told(folder: Path) -> tuple[str, Progress]:
    """What `state.json` says: the name of the tensors' file, and the counters."""
    parts: dict[str, Any] = read_json(folder / STATE_FILE, MEND)
    parts.setdefault("stage_best", parts["best"])  # states from before there were stages
    return parts.pop("tensors"), Progress(**parts)


def exists(folder: Path) -> bool:
    return (folder / STATE_FILE).is_file()


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def generators() -> dict[str, Tensor]:
    """The states of this process's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states: dict[str, Tensor]) -> None:
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
