"""Layer-adaptive precision in a training: histories to sample it on, and what is done when the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from forethought.data.batches import history_batch
from forethought.data.histories import Spans
from forethought.errors import ConfigError
from forethought.methods.interface import Method
from forethought.precision import cost
from forethought.precision.ladq import Controller
from forethought.precision.linear import make_precise, set_to
from forethought.precision.settings import LADQ
from forethought.run_files import STATE_FOLDER
from forethought.training import state as states
from forethought.training.settings import Training

if TYPE_CHECKING:  # importing it takes longer than importing torch
    from lightning_fabric import Fabric

TOGETHER = 64  # histories of a sampling that are read at once
SAMPLINGS = 2  # random numbers of samplings know nothing of those of plans and crops
MEMORY, WARM_STEPS = 0.98, 50  # of the mean loss, and steps before it counts
LEAP = 3.0  # times the mean: beyond it a loss has diverged, though it is a number


class LayerPrecision:
    """The controller of one training, with the method whose layers it assigns.

    Attributes:
        controller: which format each layer has.
    """

    def __init__(self, method: Method, controller: Controller, seed: int) -> None:
        self.method, self.controller, self.seed = method, controller, seed
        self._mean, self._steps = 0.0, 0

    def before_step(self, step: int, rows: Spans) -> str:
        """Sample where it is time to; what changed, in a sentence."""
        return self._sampled(step, rows) if self.controller.due(step) else ""

    def begin_stage(self) -> None:
        """Losses of another stage are of another size."""
        self._mean, self._steps = 0.0, 0

    def float32(self) -> AbstractContextManager[None]:
        """Inside, all layers are float32: as the run is loaded and used."""
        layers = self.controller.layers
        return set_to(layers, dict.fromkeys(layers, "fp32"))

    def diverged(self, loss: float) -> bool:
        """Whether this step's loss is no number, or leapt away from those before."""
        leapt = self._steps >= WARM_STEPS and self._mean > 0 and loss > LEAP * self._mean and self.narrow
        if not math.isfinite(loss) or leapt:
            return True
        self._mean = loss if self._steps == 0 else MEMORY * self._mean + (1 - MEMORY) * loss
        self._steps += 1
        return False

    @property
    def narrow(self) -> bool:
        """Whether some layer is not in float32, so that this may be why a loss diverged."""
        return any(each != "fp32" for each in self.controller.assignment.values())

    def culprit(self) -> str | None:
        """The layer to blame: one of few whose weights are no numbers any more, else the most sensitive one."""
        layers = self.controller.layers
        lost = [name for name, layer in layers.items() if not bool(layer.weight.isfinite().all())]
        narrow = [name for name in lost if self.controller.assignment[name] != "fp32"]
        return narrow[0] if narrow and len(lost) < len(layers) else self.controller.most_sensitive()

    def go_back(self, state: Mapping[str, Any], culprit: str, step: int, rows: Spans) -> None:
        """From the state before a loss diverged: the layer stays in float32, sensitivities are sampled anew."""
        pinned = [*self.controller.pinned, culprit]
        self.load(state)
        for name in pinned:
            if name not in self.controller.pinned:
                self.controller.pin(name)
        if self.controller.settings.adapts:
            self._sampled(step, rows, anew=True)

    def state(self) -> dict[str, Any]:
        return {**self.controller.state(), "mean_loss": self._mean, "steps": self._steps}

    def load(self, state: Mapping[str, Any]) -> None:
        self.controller.load(state)
        self._mean, self._steps = float(state["mean_loss"]), int(state["steps"])

    def _sampled(self, step: int, rows: Spans, *, anew: bool = False) -> str:
        n = min(self.controller.settings.samples, len(rows))
        generator = np.random.default_rng([self.seed, SAMPLINGS, step])
        chosen = np.sort(generator.choice(len(rows), n, replace=False))
        parts = [rows.take(part) for part in np.split(chosen, range(TOGETHER, n, TOGETHER))]
        with self._undisturbed(step):
            changed = self.controller.sample(step, [partial(self._loss, part) for part in parts], n, anew=anew)
        return changed

    def _loss(self, rows: Spans) -> Tensor:
        return self.method.drawn_loss(history_batch(rows, self.method.window).to(self.method.device))

    @contextmanager
    def _undisturbed(self, step: int) -> Iterator[None]:
        """Without dropout, and with random numbers of its own: training draws what it would have drawn."""
        device, training = self.method.device, self.method.training
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(hash((self.seed, SAMPLINGS, step)) % 2**63)
            self.method.eval()
            try:
                yield
            finally:
                self.method.train(training)


def layer_precision(
    method: Method, settings: Training, seed: int, fabric: Fabric, *, resume: Path | None = None
) -> LayerPrecision | None:
    """What the settings ask for, its costs measured on the device; None: nothing.

    Args:
        resume: a run folder whose state may say what formats cost when the training began.

    Raises:
        ConfigError: it would do nothing, or does not go with what else is asked for.
    """
    asked: LADQ = settings.ladq
    if asked.assign == "off":
        return None
    if fabric.world_size > 1:
        raise ConfigError(
            "Layer-adaptive precision is for a training in one process: leave ladq off, or start it without torchrun."
        )
    if settings.compile:
        raise ConfigError(
            "Layer-adaptive precision changes layers that compile has compiled: leave ladq or compile out."
        )
    layers = make_precise(method.to(fabric.device))
    costs = cost.measured(layers, settings.batch_positions)
    controller = Controller(layers, asked, costs, exact=method.logit_layers)
    if resume is None or not states.exists(resume / STATE_FOLDER):
        controller.check()
    return LayerPrecision(method, controller, seed)
