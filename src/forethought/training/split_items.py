"""Item vectors and biases that are split over the processes of a training, each with the rows of its own items.

What trains beside them is the same in all processes, with the mean of their gradients, as without. The rows here have
whole gradients from the loss (`methods.items.ItemTable`), moments of their own, and a part in the norm of all.

Files know nothing of it: what is written is the whole, which the first process gathers (and needs room for), and what
is read is cut. So a run that three processes trained or stopped is an ordinary one, and goes on with one or with five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, distributed

from forethought.catalogue.split import Shard
from forethought.errors import ConfigError
from forethought.methods.interface import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class SplitItems:
    """Which parameters of a method are split, and into what.

    Attributes:
        names: of the parameters.
        bounds: the first row of each process, and the number of all.
    """

    shard: Shard
    names: frozenset[str]
    bounds: tuple[int, ...]

    @classmethod
    def over(cls, fabric: Fabric, method: Method, n_items: int) -> SplitItems:
        """Cut the method's items into even parts, of which this process keeps its own.

        Raises:
            ConfigError: there is one process only, or there are more than items; or the method cannot be split, or has
                evidence beside it.
        """
        if method.evidence is not None:
            raise ConfigError(
                "Evidence is read where all items are in one process, so a catalogue that has some beside it cannot be "
                "split: leave split_catalogue or the evidence out (on the command line --split-catalogue, --evidence)."
            )
        world, rank = fabric.world_size, fabric.global_rank
        if world == 1:
            raise ConfigError(
                "split_catalogue is for several processes and this is one: start them with torchrun, or leave it out "
                "(on the command line --split-catalogue)."
            )
        if world > n_items:
            raise ConfigError(
                f"{n_items} items cannot be split over {world} processes: start fewer, or leave split_catalogue out."
            )
        bounds = tuple(n_items * each // world for each in range(world + 1))
        rows = slice(bounds[rank], bounds[rank + 1])
        # a group of its own, so that its messages do not mix with those of gradients that are averaged meanwhile
        shard = Shard(rows.start, n_items, cast("distributed.ProcessGroup | None", distributed.new_group()))
        before = {name: len(parameter) for name, parameter in method.named_parameters()}
        method.split_items(shard, rows)
        names = frozenset(name for name, parameter in method.named_parameters() if len(parameter) != before[name])
        method._ddp_params_and_buffers_to_ignore = names  # type: ignore[assignment]  DistributedDataParallel asks
        return cls(shard, names, bounds)

    # ---- gradients

    def unscale(self, method: Method) -> None:
        """Losses are multiplied by the processes for the sake of means; gradients of the rows here are none."""
        for gradient in self._gradients(method)[0]:
            gradient.div_(len(self.bounds) - 1)

    def clip(self, method: Method, norm: float) -> None:
        """Scale all gradients down to this norm, in which each process has its rows and all the rest is once."""
        norms = (torch.nn.utils.get_total_norm(gradients).to(method.device) for gradients in self._gradients(method))
        ours, alike = (each.square() for each in norms)
        torch.nn.utils.clip_grads_with_norm_(method.parameters(), norm, (self.shard.total_(ours) + alike).sqrt())

    def _gradients(self, method: Method) -> tuple[list[Tensor], list[Tensor]]:
        """Of the rows here, and of all else."""
        every = [(name in self.names, p.grad) for name, p in method.named_parameters() if p.grad is not None]
        return [g for split, g in every if split], [g for split, g in every if not split]

    # ---- files

    def split_keys(self, method: Method, optimiser: torch.optim.Optimizer) -> frozenset[str]:
        """What of a saved state (`training.state.tensors_of`) is split: parameters and their moments."""
        split = {id(parameter) for name, parameter in method.named_parameters() if name in self.names}
        every = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        numbers = [number for number, parameter in enumerate(every) if id(parameter) in split]
        moments = {f"optimiser/{number}/{name}" for number in numbers for name in MOMENTS}
        return frozenset(moments | {f"method/{name}" for name in self.names})

    def gathered(self, tensors: Mapping[str, Tensor], keys: frozenset[str]) -> dict[str, Tensor]:
        """The tensors with those of these keys put together, in the first process; no other one is to use them.

        All processes come here together.
        """
        return {key: self._gathered(part) if key in keys else part for key, part in tensors.items()}

    def cut(self, tensors: Mapping[str, Tensor], keys: frozenset[str]) -> dict[str, Tensor]:
        """The tensors with the rows here alone of those of these keys."""
        rank = distributed.get_rank(self.shard.group)
        rows = slice(self.bounds[rank], self.bounds[rank + 1])
        return {key: whole[rows].clone() if key in keys else whole for key, whole in tensors.items()}

    @torch.no_grad()
    def _gathered(self, part: Tensor) -> Tensor:
        counts = [stop - start for start, stop in zip(self.bounds[:-1], self.bounds[1:], strict=True)]
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part
        parts = None
        if distributed.get_rank(self.shard.group) == 0:
            parts = [torch.empty_like(padded) for _ in counts]
        distributed.gather(padded, parts, group=self.shard.group, group_dst=0)
        return part if parts is None else torch.cat([each[:n] for each, n in zip(parts, counts, strict=True)])
