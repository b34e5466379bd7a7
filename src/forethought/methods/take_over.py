"""Weights of a trained method for another one of the same configuration, whose items are more, or in another order.

A module that keeps something of each item says in `item_dims` which dimension of which tensor that is; one that keeps
what belongs to a training's own data and epochs names it in `of_its_training`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forethought.errors import ConfigError
from forethought.methods.interface import Method


@torch.no_grad()
def take_over(method: Method, trained: Method, rows: Tensor, *, trains: bool) -> None:
    """Take the weights of a trained method.

    Args:
        method: of the same configuration, not yet trained.
        rows: where its items stand in `method`, [N of trained]; empty where `method` has none of them.
        trains: it begins a training of its own; items that are new to it stay as they begin, and so does what belongs
            to the other's training. Else they are zeros, and all is taken.

    Raises:
        ConfigError: a tensor has another shape and is of no items.
    """
    theirs = trained.state_dict()
    for name, tensor in method.state_dict().items():
        part, _, leaf = name.rpartition(".")
        module = method.get_submodule(part)
        if trains and leaf in getattr(module, "of_its_training", ()):
            continue
        given, dim = theirs.get(name), getattr(module, "item_dims", {}).get(leaf)
        if given is None or (dim is None and given.shape != tensor.shape):
            raise ConfigError(
                f"{type(method).__name__.removesuffix('Model')} keeps {name}, whose size goes with the data in a way "
                "that weights of other data do not fit: train it anew."
            )
        if dim is None:
            tensor.copy_(given)
            continue
        if not trains:
            new = torch.ones(tensor.shape[dim], dtype=torch.bool)
            new[rows] = False
            tensor.index_fill_(dim, new.nonzero()[:, 0].to(tensor.device), 0)
        given = given if len(rows) else given.narrow(dim, 0, 0)
        place: list[slice | Tensor] = [slice(size) for size in given.shape]
        place[dim] = rows.to(tensor.device)
        tensor[tuple(place)] = given.to(tensor)
