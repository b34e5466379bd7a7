"""The one training loop: plan, step, validate, keep the best, stop early, go on after a kill; stage after stage.

It knows the interface of a method and nothing of any paper. On one process or under `torchrun` it makes the same
updates: each process takes its rows of every batch, and losses are divided by the positions of the whole batch. They
may also share the items (`split_items`): then all validate together, and files are written of what is gathered.

A method without stages is fitted in closed form by the first process, validated and written; it makes no step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.narrow import narrow_products
from forethought.data.batches import Batch, cropped, earlier, plan, training_batch, varied, windows
from forethought.data.histories import Spans
from forethought.data.splits import Split
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Losses, Method, Stage
from forethought.reasoning.diagnostics import FIRST
from forethought.training import state
from forethought.training.interrupt import Interrupt, Interrupted
from forethought.training.layer_precision import LayerPrecision
from forethought.training.observer import Observer
from forethought.training.optimiser import adamw, learning_rate, low_rate
from forethought.training.precision import Precision
from forethought.training.selection import Selection
from forethought.training.settings import Training
from forethought.training.split_items import SplitItems
from forethought.training.state import Progress
from forethought.training.step_losses import Diverged, StepLosses, read, reads_every
from forethought.training.tracking import Trackers
from forethought.training.validation import validation_figures

if TYPE_CHECKING:  # importing it takes longer than importing torch
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer


@dataclass
class Fit:
    """One training: a method, its data, and where it stands.

    Attributes:
        folder: of the run; the state to resume from lies in its `state/`.
        exclude_history: whether validation leaves a user's history out of the candidates.
        precisions: of each stage, as `precision.choose_for_stages` answered; float32 where it has no say.
        keep_best: called with the method's weights whenever validation says they are the best so far.
        sums: checksums of the run's files that were written before, kept with every state.
        shares: the items that this process holds, where they are split; None: it holds all.
        layers: what assigns precision to layers; None: nothing does.
    """

    method: Method
    split: Split
    settings: Training
    seed: int
    folder: Path
    exclude_history: bool
    observer: Observer
    trackers: Trackers
    keep_best: Callable[[Mapping[str, Tensor]], object]
    sums: Mapping[str, str] = field(default_factory=dict)
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    shares: SplitItems | None = None
    layers: LayerPrecision | None = None
    progress: Progress = field(default_factory=Progress)

    def run(self, fabric: Fabric) -> Progress:
        """Train to the end or to early stopping of the last stage.

        Raises:
            Interrupted: somebody pressed Ctrl-C; the state is saved.
            RunError: the loss is no number any more, or the folder cannot be written.
        """
        if not self.method.stages():
            return self._fit_closed_form(fabric)
        saved = state.exists(self.folder / "state")
        if saved:
            self.progress = state.load_progress(self.folder / "state", len(self.method.stages()))
        if fabric.is_global_zero:
            self.trackers.lines.rewind(self.progress.step - 1 if self.progress.batch else self.progress.step)
        if self.settings.compile:
            self.method.compile_encoder()
        self.observer.start(self.progress, self.settings.told(self.method.stages()))
        try:
            with Interrupt() as interrupt:
                rows = windows(self.split.train, self.method.window, every=self.settings.all_windows)
                model, optimiser = self._begin_stage(fabric, rows)
                if (few := self.method.most_validated or 0) and few < len(self.split.valid):
                    self.observer.note(f"Epochs are chosen by {few:,} of {len(self.split.valid):,} validation cases.")
                self._begin(fabric, optimiser, saved=saved)
                while not self.progress.done:
                    try:
                        self._train_epoch(fabric, model, optimiser, rows, interrupt)
                    except Diverged as error:
                        self._go_back(fabric, optimiser, rows, error)
                        continue
                    if self._end_epoch(fabric) and not self.progress.done:
                        model, optimiser = self._begin_stage(fabric, rows)
                        self._begin_guarded(fabric)
                    self._save(fabric, optimiser)
            self.observer.finish(self.progress)
        finally:
            self.observer.close()
        return self.progress

    def _begin(self, fabric: Fabric, optimiser: _FabricOptimizer, *, saved: bool) -> None:
        """From what was saved, or anew."""
        if saved:
            self._load(fabric, optimiser)
        else:
            self._begin_guarded(fabric)
        if self.layers is not None and not saved:
            self._save(fabric, optimiser)  # to go back to
        if self.layers is not None:
            self.observer.note(self.layers.controller.described())

    def _fit_closed_form(self, fabric: Fabric) -> Progress:
        """At once: before it is done there is nothing to go on from, and a state that was saved is of the end."""
        folder = self.folder / "state"
        if fabric.is_global_zero and not state.exists(folder):
            progress, begin = self.progress, time.perf_counter()
            self.method.to(fabric.device).fit_closed_form(self.split.train)
            progress.trained_s, begin = time.perf_counter() - begin, time.perf_counter()
            ranks = rank_cases(self.method, self.split.valid, exclude_history=self.exclude_history).ranks
            progress.best, progress.done = float(ndcg(ranks, 10).mean()), True
            figures = {"trained_s": progress.trained_s, "valid_s": time.perf_counter() - begin}
            self.keep_best(self.method.state_dict())
            self.trackers.lines.rewind(-1)
            self.trackers.log(figures | {"valid_ndcg@10": progress.best}, 0)
            bound = {"files": dict(self.sums), "log": self.trackers.lines.mark()}
            state.save(folder, progress, {}, bound=bound)  # the weights are the run's own
            self.observer.note(
                f"Fitted in closed form in {progress.trained_s:.1f} s: valid ndcg@10 {progress.best:.4f}."
            )
        fabric.barrier()
        self.observer.close()
        return self.progress

    def _begin_stage(self, fabric: Fabric, rows: Spans) -> tuple[_FabricModule, _FabricOptimizer]:
        """From the best weights of the stage before; what trains, and how it is wrapped, may be different in each."""
        progress, stages = self.progress, self.method.stages()
        self._stage, self._stages_left = stages[progress.stage], len(stages) - progress.stage - 1
        if self._stage.metric == Stage.metric:
            self._stage = replace(self._stage, metric=self.settings.choose_by)
        self._selection = Selection(self._stage, self.settings.choose_by)
        self._epochs = self._stage.epochs or self.settings.epochs
        self._batch_positions = self.settings.of(self._stage).batch_positions
        self._steps_an_epoch = len(self._plan(rows))
        if progress.stage:
            fabric.barrier()  # they are written by one process
            cut = None if self.shares is None else partial(self.shares.cut, keys=self.shares.names)
            state.load_weights(self.folder / "state", stages[progress.stage - 1].name, self.method, cut)
        if len(stages) > 1:
            self.observer.begin_stage(self._stage, progress.stages[-1] + self._epochs)
        self._tell_precision()
        low = low_rate(self._steps_an_epoch * self._epochs, self.settings)
        if low is not None and progress.step == progress.stage_step:
            self.observer.note(low)
        self.method.to(fabric.device)
        self.method.begin_stage(self._stage.name)
        if self.layers is not None:
            self.layers.begin_stage()
        model, optimiser = fabric.setup(self.method, adamw(self.method, self.settings))
        model.mark_forward_method("loss")
        return model, optimiser

    def _plan(self, rows: Spans) -> list[np.ndarray]:
        """The batches of this epoch, or so many of them as the stage takes."""
        return plan(rows.lengths - 1, self._batch_positions, self.seed, self.progress.epoch)[: self._stage.batches]

    def _begin_guarded(self, fabric: Fabric) -> None:
        """Where an epoch must not lose what the stage began with, that is measured, and is the best so far."""
        if self._stage.guard is None:
            return
        figures = fabric.broadcast(self._validate(fabric))
        if self._selection.begin(figures, self.progress):
            weights = self._weights()
            if fabric.is_global_zero:
                self.keep_best(weights)
        self.observer.note(self._selection.told(figures))

    def _tell_precision(self) -> None:
        """Once, and again where a stage changes it."""
        before = getattr(self, "_precision", Precision())
        self._precision = self.precisions.get(self._stage.name, Precision())
        if self._precision != before:
            self.observer.note(self._precision.sentence or "Everything is made in float32 from here on.")

    def _train_epoch(
        self, fabric: Fabric, model: _FabricModule, optimiser: _FabricOptimizer, rows: Spans, interrupt: Interrupt
    ) -> None:
        progress = self.progress
        batches = self._plan(rows)
        self.observer.begin_epoch(progress.epoch, len(batches), progress.batch)
        saved_at = clock = time.perf_counter()  # what an epoch begins with, such as clustering, is part of its cost
        self.method.train()
        self.method.begin_epoch(progress.stage_epoch)
        unread: list[StepLosses] = []
        for at, chosen in enumerate(batches[progress.batch :], start=progress.batch + 1):
            draw = self.seed, progress.epoch, at
            moved = earlier(rows.take(chosen), self.split.train, self.settings.earlier_windows, *draw)
            if self.layers is not None and (said := self.layers.before_step(progress.step + len(unread), rows)):
                self.observer.note(said)
            unread.append(self._step(fabric, model, optimiser, cropped(moved, self.settings.crop, *draw), len(unread)))
            due = time.perf_counter() - saved_at > self.settings.checkpoint_every_s > 0
            hurry = fabric.world_size == 1 and (due or interrupt.asked)
            if len(unread) < reads_every(fabric) and at < len(batches) and not hurry:
                continue
            stop, save = self._read(fabric, unread, interrupt.asked, due)
            unread = []
            now = time.perf_counter()
            progress.trained_s, clock = progress.trained_s + now - clock, now
            if stop or save:
                self._save(fabric, optimiser)
                saved_at = time.perf_counter()
            if stop:
                raise Interrupted

    def _step(
        self, fabric: Fabric, model: _FabricModule, optimiser: _FabricOptimizer, rows: Spans, ahead: int
    ) -> StepLosses:
        """The updates of one batch, `ahead` steps after the last that `progress` knows of."""
        step, steps = self.progress.step + ahead - self.progress.stage_step, self._steps_an_epoch * self._epochs
        rate = self._stage.rate * learning_rate(step, steps, self.settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = training_batch(rows, rank=fabric.global_rank, world=fabric.world_size).to(fabric.device)
        if not self.method.inputs.masked_items:  # the targets of which are what it hides
            noise, later = self.settings.input_noise, self.settings.later_targets
            batch = varied(batch, self.split.data.n_items, input_noise=noise, later=later)
        if self._stage.updates > 1 or type(self.method).begin_batch is not Method.begin_batch:
            self.method.begin_batch(batch)
        made = [self._update(fabric, model, optimiser, batch) for _ in range(self._stage.updates)]
        parts = {name: sum(each.parts[name] for each in made) / len(made) for name in made[0].parts}
        return StepLosses(made[0].parts if len(made) == 1 else cast("dict[str, Tensor]", parts), batch.weight)

    def _update(self, fabric: Fabric, model: _FabricModule, optimiser: _FabricOptimizer, batch: Batch) -> Losses:
        # fabric narrows what goes through `forward` of a wrapped module, which a method by itself is not
        with narrow_products(self._precision.narrow), fabric.autocast():
            losses = model.loss(batch)
        fabric.backward(losses.total * fabric.world_size)  # DDP takes the mean of gradients; ours are shares of a sum
        if self.shares is not None:
            self.shares.unscale(self.method)
        if self.settings.clip_norm and self.shares is not None:
            self.shares.clip(self.method, self.settings.clip_norm)
        elif self.settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return losses

    def _read(self, fabric: Fabric, unread: list[StepLosses], stop: bool, save: bool) -> tuple[bool, bool]:
        """Read the losses of the steps since the last reading, and add them up; whether to stop or to save.

        Raises:
            RunError: one of them is no number.
        """
        progress, reading = self.progress, read(fabric, unread, stop=stop, save=save)
        for losses, (_, weight) in zip(reading.losses, unread, strict=True):
            progress.batch, progress.step, progress.positions = (
                progress.batch + 1,
                progress.step + 1,
                progress.positions + weight,
            )
            leapt = self.layers is not None and self.layers.diverged(next(iter(losses.values())))
            if leapt or not all(map(math.isfinite, losses.values())):
                raise Diverged(
                    f"The loss became {losses} in epoch {progress.epoch + 1}, step {progress.step}: "
                    "try a lower learning_rate or a smaller clip_norm."
                )
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value * weight
            self.observer.step(losses, weight)
        return reading.stop, reading.save

    def _end_epoch(self, fabric: Fabric) -> bool:
        """Validate, log, keep the best, and decide whether to go on; True where the stage is over."""
        progress = self.progress
        figures = {name: total / max(progress.positions, 1) for name, total in progress.sums.items()}
        begin = time.perf_counter()
        figures |= (valid := fabric.broadcast(self._validate(fabric)))
        figures |= {
            "epoch": progress.epoch + 1,
            "trained_s": progress.trained_s,
            "valid_s": time.perf_counter() - begin,
        }
        if progress.begun:
            progress.begun = figures | progress.begun  # of the first epoch, what was not known before it
        diagnostics = self.method.diagnostics(figures | {f"{FIRST}{name}": was for name, was in progress.begun.items()})
        figures |= diagnostics.figures
        if progress.stage or self._stages_left:  # one of several
            figures["stage"] = progress.stage + 1
        improved, best = self._selection.judge(valid, progress)
        passes_on = improved and self._stages_left > 0
        weights = self._weights() if best or passes_on else {}
        if fabric.is_global_zero:
            if passes_on:
                state.save_weights(self.folder / "state", self._stage.name, weights)
            if best:
                self.keep_best(weights)
            self.trackers.log(figures, progress.step)
            self.trackers.warn(diagnostics.warnings, progress.step)
        progress.epoch, progress.batch, progress.positions, progress.sums = progress.epoch + 1, 0, 0, {}
        self.observer.end_epoch(progress.epoch, figures, best or (improved and not self._stage.candidate))
        for sentence in diagnostics.warnings:
            self.observer.warn(sentence)
        over = progress.stage_epoch >= self._epochs or progress.stale >= (
            self._stage.patience or self.settings.patience
        )
        over = fabric.broadcast(self.observer.enough()) or over
        if over and self._stages_left:
            progress.next_stage()
        else:
            progress.done = over
        return over

    def _validate(self, fabric: Fabric) -> dict[str, float]:
        """NDCG@10, by which stages are compared, and the metrics that select within this one and guard it."""
        if not fabric.is_global_zero and self.shares is None:
            return {}
        with nullcontext() if self.layers is None else self.layers.float32():  # as the run is used
            figures = validation_figures(
                self.method,
                self.split.valid,
                self._selection.asked(),
                self.split.data.n_items,
                exclude_history=self.exclude_history,
                seed=self.seed,
            )
        return self._selection.priced(figures)

    def _weights(self) -> Mapping[str, Tensor]:
        """The method's; of items that are split all, in the first process."""
        weights = self.method.state_dict()
        return weights if self.shares is None else self.shares.gathered(weights, self.shares.names)

    def _load(self, fabric: Fabric, optimiser: _FabricOptimizer) -> None:
        cut = None
        if self.shares is not None:
            cut = partial(self.shares.cut, keys=self.shares.split_keys(self.method, optimiser.optimizer))
        state.load(self.folder / "state", self.method, optimiser.optimizer, rank=fabric.global_rank, cut=cut)
        with state.whole(self.folder / "state"):
            self.method.load_training_state(self.progress.of_method)
            if self.layers is not None:
                self.layers.load(self.progress.ladq)

    def _go_back(self, fabric: Fabric, optimiser: _FabricOptimizer, rows: Spans, error: Diverged) -> None:
        """To the last state before the loss diverged, with the layer to blame in float32 from there on.

        Raises:
            Diverged: as before, where no layer is to blame.
        """
        layer = self.layers.culprit() if self.layers is not None else None
        if self.layers is None or layer is None:
            raise error
        format = self.layers.controller.assignment[layer]
        self.progress = state.load_progress(self.folder / "state", len(self.method.stages()))
        self._load(fabric, optimiser)
        self.layers.go_back(self.progress.ladq, layer, self.progress.step, rows)
        self.trackers.lines.rewind(self.progress.step - 1 if self.progress.batch else self.progress.step)
        self._save(fabric, optimiser)
        self.observer.warn(
            f"{str(error).rpartition(': ')[0]}, and {layer} was {format}: it goes on from step {self.progress.step} "
            "with that layer in float32, sensitivities sampled anew."
        )

    def _save(self, fabric: Fabric, optimiser: _FabricOptimizer) -> None:
        """All processes come here together: each has random generators of its own."""
        everybody = [state.generators()]
        if fabric.world_size > 1:
            everybody = [everybody[0]] * fabric.world_size
            torch.distributed.all_gather_object(everybody, state.generators())
        if self.layers is not None:
            self.progress.ladq = self.layers.state()
        self.progress.of_method = self.method.training_state()
        tensors = state.tensors_of(self.method, optimiser.optimizer)
        if self.shares is not None:
            tensors = self.shares.gathered(tensors, self.shares.split_keys(self.method, optimiser.optimizer))
        if fabric.is_global_zero:
            bound = {"files": dict(self.sums), "log": self.trackers.lines.mark()}
            state.save(self.folder / "state", self.progress, tensors, everybody, bound)
        fabric.barrier()
