"""What an item's features add to its vector: E = ids + the sum of a map of each feature.

Text vectors and numbers go through a linear map, tags are averaged vectors of their own, and an item that lacks a
feature has a learned vector in its place. All of it is trained with the rest, for the input and the output alike.

Shapes: N items, F numbers or T tags an item, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.data.features import Feature, FeatureShape


class FeatureMap(nn.Module):
    """One feature of all items, and what maps it into the space of the items.

    Its values are kept with the weights, so that a run folder needs nothing else.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"values": 0, "missing_N1": 0}
    values: Tensor
    missing_N1: Tensor

    def __init__(self, shape: FeatureShape, n_items: int, width: int, std: float) -> None:
        super().__init__()
        self.shape = shape
        if shape.kind == "tags":
            self.register_buffer("values", torch.full((n_items, shape.width), shape.tags, dtype=torch.int32))
            rows = shape.tags + 1  # the last one fills up rows, and is zero
        else:
            self.register_buffer("values", torch.zeros(n_items, shape.width))
            rows = shape.width
        self.weight = nn.Parameter(torch.randn(rows, width) * std)
        if shape.kind == "tags":
            self.weight.data[-1] = 0.0
        self.missing = nn.Parameter(torch.zeros(width))
        self.register_buffer("missing_N1", torch.zeros(n_items, 1))

    def take(self, feature: Feature, first: int = 0) -> None:
        """Keep the values of a feature of this shape, or, from row `first` on, of one with fewer tags an item."""
        assert feature.shape == self.shape or first
        values = torch.from_numpy(feature.values)
        self.values[first:] = self.shape.tags if self.shape.kind == "tags" else 0
        self.values[first:, : values.shape[1]] = values
        self.missing_N1[first:] = torch.from_numpy(np.asarray(~feature.known_N))[:, None].to(self.missing_N1)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """[..., D] of these items; of all, [N, D], if not said."""
        values = self.values if items is None else self.values[items]
        missing = self.missing_N1 if items is None else self.missing_N1[items]
        if self.shape.kind == "vectors":
            mapped = values @ self.weight
        else:
            flat = F.embedding_bag(
                values.flatten(0, -2), self.weight, mode="mean", padding_idx=self.shape.tags
            )  # of no tag it is zero
            mapped = flat.view(*values.shape[:-1], flat.shape[-1])  # a width that an empty batch does not tell
        return mapped + missing * self.missing


class ItemFeatures(nn.Module):
    """All features of the items of one table."""

    def __init__(self, shapes: Sequence[FeatureShape], n_items: int, width: int, std: float) -> None:
        super().__init__()
        self.maps = cast(
            "Sequence[FeatureMap]", nn.ModuleList(FeatureMap(shape, n_items, width, std) for shape in shapes)
        )

    def take(self, features: Sequence[Feature], first: int = 0) -> None:
        """Keep the values of all features, of the items from row `first` on."""
        for each, feature in zip(self.maps, features, strict=True):
            each.take(feature, first)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """The sum of what each feature adds, [..., D]; of all items, [N, D], if not said."""
        return torch.stack([each(items) for each in self.maps]).sum(0) if len(self.maps) > 1 else self.maps[0](items)
