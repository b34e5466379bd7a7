"""All that a stopped training needs to go on as if it had never stopped: tensors in safetensors, the rest in JSON.

The plan of an epoch follows from (seed, epoch), the learning rate from the step; so weights, optimiser moments,
the random generators and a few counters are the whole state. Both files are written under new names and the
JSON, which names its tensors, is replaced last: a kill at any moment leaves one whole state.

A stage that another one follows leaves its best weights in a file of its own, which that one starts from. They are
written before the state that knows of them; after a kill in between they are made again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from forethought.errors import RunError
from forethought.files import checked, first_line, read_json, short_of_memory, sweep, verified, write_json
from forethought.settings import Between, Whole, check_keys
from forethought.tensor_files import CHECKSUM, load_tensors, save_tensors

Cut = Callable[[dict[str, Tensor]], dict[str, Tensor]]
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
        stage_best: best validation metric of this one, that which selects in it; -1 before the first.
        best_before: `best` when it began.
        floor: the metric that guards it, when it began.
        begun: where one guards it, what validation said when it began, and the figures of its first epoch.
        ladq: where layer-adaptive precision stands; empty without it.
        of_method: what `Method.training_state` says.
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
    best_before: float = -1.0
    floor: float = -1.0
    begun: dict[str, float] = field(default_factory=dict)
    ladq: dict[str, Any] = field(default_factory=dict)
    of_method: dict[str, float] = field(default_factory=dict)

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
        self.best_before = self.best


PROGRESS = {
    **dict.fromkeys(("epoch", "batch", "step", "stale", "positions", "stage_step"), Whole),
    **{"best": Annotated[float, Between(-1, 1)], "stage_best": Annotated[float, Between(-1e9, 1)]},
    **{"best_epoch": Annotated[int, Between(-1, 2**53)], "trained_s": Annotated[float, Between(0, 1e12)]},
    **{"sums": dict[str, float], "done": bool, "stages": list[Whole]},
    **{"ladq": dict, "of_method": dict[str, float]},
}
"""What `state.json` holds of them."""


def tensors_of(method: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and moments by the names that they are saved under; a training that splits some puts them together."""
    tensors = {f"method/{name}": tensor for name, tensor in method.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in entry.items()}
    return tensors


def save(
    folder: Path,
    progress: Progress,
    tensors: Mapping[str, Tensor],
    random: list[dict[str, Tensor]] | None = None,
    bound: Mapping[str, Any] | None = None,
) -> None:
    """Write the state; the previous one is removed only when the new one is whole.

    Args:
        tensors: `tensors_of` the method and its optimiser.
        random: `generators()` of every process; by default of this one, which is alone.
        bound: what else must be as it was when training goes on, such as checksums of the run's other files.

    Raises:
        RunError: the folder cannot be written.
    """
    tensors = dict(tensors)
    for rank, states in enumerate(random or [generators()]):
        tensors |= {f"random/{rank}/{name}": tensor for name, tensor in states.items()}
    name = f"state-{progress.step}-{progress.epoch}.safetensors"
    # clones, because no two tensors of such a file may share memory
    total = save_tensors(folder / name, {key: tensor.detach().cpu().clone() for key, tensor in tensors.items()})
    parts = {"tensors": name, "tensors_sha256": total, "bound": dict(bound or {}), **asdict(progress)}
    write_json(folder / STATE_FILE, checked(parts))
    _remove_others(folder, name)


def tidy(folder: Path) -> None:
    """Remove what a kill left half-written, and a state that nothing names any more.

    Raises:
        RunError: the state is damaged.
    """
    sweep(folder)
    if exists(folder):
        _remove_others(folder, _told(folder).tensors)


def _remove_others(folder: Path, name: str) -> None:
    for old in folder.iterdir():
        if old.name.startswith("state-") and old.name != name:
            old.unlink(missing_ok=True)


def load(
    folder: Path, method: nn.Module, optimiser: torch.optim.Optimizer, *, rank: int = 0, cut: Cut | None = None
) -> Progress:
    """Put everything back where it was; a process that was not there before keeps its generators.

    Args:
        cut: makes of what `tensors_of` had the part of it that this process holds.

    Raises:
        RunError: there is no state, or it is damaged, or it belongs to another configuration.
    """
    with whole(folder):
        contents = _told(folder)
        tensors, about = load_tensors(folder / contents.tensors)
        if about[CHECKSUM] != contents.tensors_sha256:
            raise ValueError(f"{contents.tensors} is not the one it was saved with")
        tensors = tensors if cut is None else cut(tensors)
        method.load_state_dict(_below(tensors, "method/"))
        _load_optimiser(optimiser, _below(tensors, "optimiser/"))
        _set_generators(_below(tensors, f"random/{rank}/"))
    return contents.progress


def load_progress(folder: Path, n_stages: int) -> Progress:
    """The counters alone, which say what stage, of so many, the rest belongs to.

    Raises:
        RunError: there is no state, or it is damaged.
    """
    with whole(folder):
        progress = _told(folder).progress
        if progress.stage >= max(n_stages, 1):  # what is fitted in closed form has none, and stands at the first
            raise ValueError(f"it is in stage {progress.stage + 1} of {n_stages}")
    return progress


def load_bound(folder: Path) -> dict[str, Any]:
    """What `save` was told must be as it was.

    Raises:
        RunError: there is no state, or it is damaged.
    """
    with whole(folder):
        return _told(folder).bound


def save_weights(folder: Path, stage: str, weights: Mapping[str, Tensor]) -> None:
    """The best weights of a stage so far, for the next one to start from."""
    save_tensors(folder / f"{stage}.safetensors", weights)


def load_weights(folder: Path, stage: str, method: nn.Module, cut: Cut | None = None) -> None:
    """Put the best weights of a stage into the method.

    Args:
        cut: makes of the weights the part that this process holds.

    Raises:
        RunError: the file is not there, or damaged.
    """
    with whole(folder):
        weights = load_tensors(folder / f"{stage}.safetensors")[0]
        method.load_state_dict(weights if cut is None else cut(weights))


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Whatever broken files make of themselves becomes one sentence."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        if short_of_memory(error):
            raise
        said = f"it has no {error}" if isinstance(error, KeyError) else first_line(error).rstrip(".:")
        raise RunError(f"The saved state in {folder} is damaged ({said}): {MEND}.") from error


class _Told(NamedTuple):
    tensors: str
    tensors_sha256: str
    bound: dict[str, Any]
    progress: Progress


def _told(folder: Path) -> _Told:
    """What `state.json` says: the name of the tensors' file, and the counters."""
    path = folder / STATE_FILE
    parts = verified(read_json(path, MEND), path, MEND)
    name, total, bound = str(parts.pop("tensors")), parts.pop("tensors_sha256"), dict(parts.pop("bound"))
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file beside it")
    for later in ("ladq", "of_method"):
        parts.setdefault(later, {})  # states of before there was any
    progress = Progress(**check_keys(parts, PROGRESS, STATE_FILE))
    begun, now = progress.stages, progress.epoch
    if begun != sorted({0, *begun}) or begun[-1] > now or progress.best_epoch >= now + (now == 0):
        raise ValueError("its epochs do not fit each other")
    return _Told(name, total, bound, progress)


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
