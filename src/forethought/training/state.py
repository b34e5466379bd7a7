"""All that a stopped training needs to go on as if it had never stopped: tensors in safetensors, the rest in JSON.

The plan of an epoch follows from (seed, epoch), the learning rate from the step; so weights, optimiser moments,
the random generators and a few counters are the whole state. Both files are written under new names and the
JSON, which names its tensors, is replaced last: a kill at any moment leaves one whole state.
"""

from __future__ import annotations

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


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch, batch: the next batch to train, counted from 0.
        step: optimiser steps made.
        best: best validation NDCG@10 so far, -1 before the first.
        best_epoch: the epoch that gave it.
        stale: epochs since then.
        sums: of loss parts over this epoch's batches, weighted by positions.
        positions: supervised in this epoch so far.
        trained_s: seconds of training behind it, over all sittings.
        done: the training has ended.
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
    mend = "start the training anew in another folder"
    parts: dict[str, Any] = read_json(folder / STATE_FILE, mend)
    try:
        name = parts.pop("tensors")
        tensors = load_file(folder / name)
        progress = Progress(**parts)
        method.load_state_dict(_below(tensors, "method/"))
        _load_optimiser(optimiser, _below(tensors, "optimiser/"))
        _set_generators(_below(tensors, f"random/{rank}/"))
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else first_line(error).rstrip(".:")
        raise RunError(f"The saved state in {folder} is damaged ({said}): {mend}.") from error
    return progress


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
