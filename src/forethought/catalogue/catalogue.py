"""The catalogue: all items, and how a state is held against them.

    logit(r, i) = r . e_i / temperature + b_i       what losses are made of; with `cosine` r and e_i have unit length
    score(r, i) = temperature * logit(r, i)         what ranking compares, and what users see

A state comes in three forms: raw, as an encoder made it; comparable, of unit length with `cosine`, as ranking takes it;
and scaled, so that its plain inner product with a scaled item is the logit. A bias is one more column of the scaled
items against a coordinate of the state that is always 1, so every identity of the softmax stands as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.blocks import product
from forethought.catalogue.split import Shard
from forethought.errors import ConfigError


def comparable(vectors: Tensor, *, cosine: bool) -> Tensor:
    """States or items as they are compared: by direction alone with `cosine`."""
    return F.normalize(vectors, dim=-1) if cosine else vectors


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items of one moment, made anew at every step of training: what follows from them is made once and kept.

    Attributes:
        vectors_ND: as they are learned.
        bias_N: what is added to an item's logits.
        temperature: logits are scores divided by it.
        cosine: directions alone are compared.
        shard: which of the items are here, where they are split over processes: vectors, biases and all that ends in
            `_N` or `_ND` are then of these, item rows those of the whole. Losses, moments, ranks and lists are of all.
    """

    vectors_ND: Tensor
    bias_N: Tensor | None = None
    temperature: float = 1.0
    cosine: bool = False
    shard: Shard | None = None
    # what is kept has gradients if the catalogue was made where there are some, whoever asks for it first
    _with_gradients: bool = field(default_factory=torch.is_grad_enabled, init=False, repr=False)

    def __len__(self) -> int:
        """Items, of all processes together."""
        return self.vectors_ND.shape[0] if self.shard is None else self.shard.n_items

    def take(self, items: Tensor) -> Catalogue:
        """The catalogue of some items alone, whole in every process."""
        bias_M = None if self.bias_N is None else self._rows(self.bias_N, items)
        return replace(self, vectors_ND=self._rows(self.vectors_ND, items), bias_N=bias_M, shard=None)

    def whole(self, purpose: str) -> Catalogue:
        """Itself, for what reads all vectors in one place.

        Raises:
            ConfigError: they are split over processes; the text names the purpose.
        """
        if self.shard is not None:
            raise ConfigError(
                f"{purpose} needs all items in one process, and this one holds {len(self.vectors_ND):,} of "
                f"{len(self):,}: load the run once it is trained, or train it without split_catalogue."
            )
        return self

    def held(self) -> Catalogue:
        """The catalogue of the items alone that are here."""
        return self if self.shard is None else Catalogue(self.scaled_ND)

    def _rows(self, table: Tensor, items: Tensor) -> Tensor:
        if self.shard is not None:
            return self.shard.rows_of(table, items)
        return F.embedding(items, table) if table.ndim > 1 else table[items]

    # ---- ranking

    @cached_property
    def comparable_ND(self) -> Tensor:
        """Item vectors as they are compared."""
        with torch.set_grad_enabled(self._with_gradients):
            return comparable(self.vectors_ND, cosine=self.cosine)

    @cached_property
    def offsets_N(self) -> Tensor | None:
        """What is added to an item's scores: its bias, taken out of the logit."""
        with torch.set_grad_enabled(self._with_gradients):
            return None if self.bias_N is None else self.bias_N * self.temperature

    def comparable(self, states: Tensor) -> Tensor:
        """Raw states as ranking takes them."""
        return comparable(states, cosine=self.cosine)

    def scores(self, states_BD: Tensor, shard: slice = slice(None), into: Tensor | None = None) -> Tensor:
        """Scores of comparable states and a slice of the items here, [B, n]; `into` as in `blocks.product`."""
        scores_BN = product(states_BD, self.comparable_ND[shard].T, into)
        return scores_BN if self.offsets_N is None else scores_BN.add_(self.offsets_N[shard])

    def scores_of(self, states_BD: Tensor, items_BM: Tensor) -> Tensor:
        """Scores of comparable states, each with items of its own, [B, M]."""
        scores_BM = (self._rows(self.comparable_ND, items_BM) @ states_BD[..., None])[..., 0]
        return scores_BM if self.offsets_N is None else scores_BM + self._rows(self.offsets_N, items_BM)

    # ---- losses

    @cached_property
    def scaled_ND(self) -> Tensor:
        """Scaled item vectors, a bias as one more column."""
        if self.bias_N is None:
            return self.comparable_ND
        with torch.set_grad_enabled(self._with_gradients):
            return torch.cat([self.comparable_ND, self.bias_N[:, None]], dim=-1)

    def scaled_of(self, items: Tensor) -> Tensor:
        """Scaled vectors of some items, [..., D]."""
        return self._rows(self.scaled_ND, items)

    def scaled_mean(self) -> Tensor:
        """The mean of all scaled item vectors, [D]."""
        if self.shard is None:
            return self.scaled_ND.mean(0)
        return self.shard.summed(self.scaled_ND.sum(0)) / len(self)

    def scaled(self, states: Tensor, temperature_scale: float = 1.0) -> Tensor:
        """Raw states scaled, at so many times the temperature."""
        return self.tempered(self.comparable(states), temperature_scale)

    def tempered(self, states: Tensor, temperature_scale: float = 1.0) -> Tensor:
        """Comparable states scaled."""
        temperature = self.temperature * temperature_scale
        if temperature != 1.0:
            states = states / temperature
        if self.bias_N is not None:
            states = torch.cat([states, states.new_ones(*states.shape[:-1], 1)], dim=-1)
        return states
