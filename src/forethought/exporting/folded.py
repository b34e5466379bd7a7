"""A trained method with constants in place of whatever it makes anew at each call: what is exported is made of this.

A table of items becomes its vectors, features and all, in the two forms in which they are used: as histories read them,
and as states are compared with them. The original stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue, comparable
from forethought.methods.interface import Method
from forethought.methods.items import ItemTable
from forethought.methods.sse_pt import UserTable
from forethought.nn.gru import GRUStack, RecurrentChain
from forethought.reasoning.prototypes import Prototypes


@dataclass(frozen=True, eq=False)
class FoldedCatalogue(Catalogue):
    """A catalogue whose vectors are already as they are compared."""

    @cached_property
    def comparable_ND(self) -> Tensor:
        return self.vectors_ND


class FoldedItems(nn.Module):
    """The items of a trained table: what it answers while a method recommends, and nothing that it trains with."""

    vectors_ND: Tensor
    comparable_ND: Tensor
    bias_N: Tensor | None
    open_bias_N: Tensor | None

    def __init__(self, table: ItemTable) -> None:
        super().__init__()
        self.loss = table.loss
        with torch.no_grad():
            catalogue, open_catalogue = table.catalogue(), table.catalogue(held_back=False)
            self.register_buffer("vectors_ND", catalogue.vectors_ND.detach().clone())
            self.register_buffer("comparable_ND", catalogue.comparable_ND.detach().clone())
            self.register_buffer("bias_N", _copied(catalogue.bias_N))
            self.register_buffer("open_bias_N", _copied(open_catalogue.bias_N))

    @property
    def weight(self) -> Tensor:
        return self.vectors_ND

    def forward(self, items: Tensor) -> Tensor:
        return F.embedding(items, self.vectors_ND)

    def catalogue(self, *, held_back: bool = True) -> Catalogue:
        bias_N = self.bias_N if held_back else self.open_bias_N
        return FoldedCatalogue(self.comparable_ND, bias_N, self.loss.temperature, self.loss.cosine)

    def states(self, states: Tensor) -> Tensor:
        return comparable(states, cosine=self.loss.cosine)


class FoldedUsers(nn.Module):
    """What a table of users says of somebody unknown, as every bare history is of."""

    vector_D: Tensor

    def __init__(self, table: UserTable) -> None:
        super().__init__()
        with torch.no_grad():
            self.register_buffer("vector_D", (table.common + table.own.mean(0)).clone())

    def forward(self, users_B: Tensor) -> Tensor:
        return self.vector_D.expand(users_B.shape[0], -1)


class FoldedPrototypes(nn.Module):
    """The centres of each level that stand for some item."""

    def __init__(self, prototypes: Prototypes) -> None:
        super().__init__()
        self.levels = len(prototypes.counts)
        for t in range(self.levels):
            centres_KD, sizes_K = prototypes.level(t)
            self.register_buffer(f"centres_{t}", centres_KD[sizes_K > 0].clone())
            self.register_buffer(f"sizes_{t}", sizes_K[sizes_K > 0].clone())

    def level(self, t: int) -> tuple[Tensor, Tensor]:
        return getattr(self, f"centres_{t}"), getattr(self, f"sizes_{t}")


class FoldedGRU(nn.Module):
    """A stack of GRU layers read by a scan, which has no number of positions in it."""

    def __init__(self, stack: GRUStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x_BLD: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = []
        for layer in self.stack.layers:
            x_BLD = self._read(x_BLD, *layer.parameters())
            hidden.append(x_BLD)
        return x_BLD, hidden

    def reason(self, x_BPD: Tensor, chain: RecurrentChain) -> tuple[Tensor, RecurrentChain]:
        return self.stack.reason(x_BPD, chain)

    @staticmethod
    def _read(x_BLD: Tensor, w_input: Tensor, w_hidden: Tensor, b_input: Tensor, b_hidden: Tensor) -> Tensor:
        """The hidden states behind every position."""

        def step(h_BD: Tensor, gates_BX: Tensor) -> tuple[Tensor, Tensor]:
            r, z, n = gates_BX.chunk(3, dim=-1)
            of_r, of_z, of_n = F.linear(h_BD, w_hidden, b_hidden).chunk(3, dim=-1)
            z, n = (z + of_z).sigmoid(), torch.tanh(n + (r + of_r).sigmoid() * of_n)
            h_BD = (1 - z) * n + z * h_BD
            return h_BD, h_BD.clone()

        gates_LBX = F.linear(x_BLD, w_input, b_input).transpose(0, 1)
        _, states_LBD = scan(step, torch.zeros_like(x_BLD[:, 0]), gates_LBX)
        return states_LBD.transpose(0, 1)


FOLDS: tuple[tuple[type[nn.Module], Callable[[Any], nn.Module]], ...] = (
    *((ItemTable, FoldedItems), (UserTable, FoldedUsers)),
    *((Prototypes, FoldedPrototypes), (GRUStack, FoldedGRU)),
)


def folded(method: Method) -> Method:
    """A copy of the method in evaluation, on the CPU, with what is constant in it made once."""
    method = copy.deepcopy(method).cpu().eval().requires_grad_(False)
    method.evidence = None  # scored beside it
    for name, part in list(method.named_modules()):
        for kind, made in FOLDS:
            if isinstance(part, kind):
                method.set_submodule(name, made(part))
    return method


def _copied(bias_N: Tensor | None) -> Tensor | None:
    return None if bias_N is None else bias_N.detach().clone()
