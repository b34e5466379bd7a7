"""A catalogue that is split over processes: which items this one holds, and the ways in which they speak.

All processes of a group have the same states and come to the same loss; each has the gradients of its own items. So a
tensor that all have alike and each uses against its own items (`everywhere`) gets the sum of their gradients, and a sum
of what each has of its own (`summed`) gives its gradient to each as it is.

Where processes have histories of their own, they look items up together (`looked_up`) and pool their states before the
loss (`pooled`): from there on all have the same ones, and back from the loss each takes the gradient of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Shard:
    """The items that this process holds, one at least: rows `start`, `start + 1`, .. of all `n_items`.

    Attributes:
        group: the processes that hold all of them between them; None: the default group.
    """

    start: int
    n_items: int
    group: ProcessGroup | None = None

    def everywhere(self, states: Tensor) -> Tensor:
        """The same states; backward, the sum of all processes' gradients."""
        return _Everywhere.apply(states, self)

    def summed(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts; backward, each part's gradient is the sum's."""
        return _Summed.apply(part, self)

    def rows_of(self, held: Tensor, items: Tensor) -> Tensor:
        """Rows of a table that is split as the items are, wherever they are held."""
        local = items - self.start
        elsewhere = (local < 0) | (local >= len(held))
        rows = held[local.clamp(0, len(held) - 1)]
        return self.summed(rows.masked_fill(elsewhere.view(*elsewhere.shape, *(1 for _ in held.shape[1:])), 0.0))

    def looked_up(self, held: Tensor, items: Tensor) -> Tensor:
        """Rows of such a table where each process asks for items of its own: all get the rows that any asked for.

        Forward the distinct items are gathered and their rows summed, backward the gradients of these rows.
        """
        (asked,) = self.pooled(items.unique())
        asked = asked.unique()
        return F.embedding(torch.searchsorted(asked, items), self.everywhere(self.rows_of(held, asked)))

    def pooled(self, *own: Tensor) -> list[Tensor]:
        """Tensors of as many rows each, followed and preceded by those of the other processes, which may have more rows
        or none; backward, the gradient of one's own."""
        counts = [int(n) for n in torch.stack(self.gathered(own[0].new_tensor(len(own[0]), dtype=torch.int64)))]
        return [_Pooled.apply(part, counts, self) for part in own]

    def share(self, loss: Tensor) -> Tensor:
        """Of a loss that all have alike, an even share in value, and the whole in gradient."""
        return loss.detach() / distributed.get_world_size(self.group) + (loss - loss.detach())

    @torch.no_grad()
    def first(self, part: Tensor) -> Tensor:
        """What the first process has; the shape is that of all."""
        part = part.clone(memory_format=torch.contiguous_format)
        distributed.broadcast(part, group=self.group, group_src=0)
        return part

    @torch.no_grad()
    def gathered(self, part: Tensor) -> list[Tensor]:
        """All processes' parts, in their order; parts are of one shape."""
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size(self.group))]
        distributed.all_gather(parts, part.detach().contiguous(), group=self.group)
        return parts

    def beside_others(self, part: Tensor) -> list[Tensor]:
        """The same, with gradient in this process's own."""
        parts = self.gathered(part)
        parts[distributed.get_rank(self.group)] = part
        return parts

    @torch.no_grad()
    def total_(self, part: Tensor, *, largest: bool = False) -> Tensor:
        """The sum of all processes' parts, or the largest of each number, in place."""
        how = distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM
        distributed.all_reduce(part, how, group=self.group)
        return part


class _Everywhere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.shard.total_(grads[0].clone(memory_format=torch.contiguous_format)), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, shard: Shard) -> Tensor:
        return shard.total_(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:  # type: ignore[override]
        return grads[0], None


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: list[int], shard: Shard) -> Tensor:
        rank = distributed.get_rank(shard.group)
        ctx.own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        return torch.cat([part[:n] for part, n in zip(shard.gathered(padded), counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grads[0][ctx.own], None, None
