"""The forms in which a catalogue has items and states, against the formulas in its module."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue

P, N, D, TEMPERATURE = 4, 9, 3, 0.2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(*, bias: bool, cosine: bool) -> tuple[Catalogue, Tensor, Tensor]:
    """A catalogue, states, and their logits written out."""
    states, vectors, bias_N = draw(P, D), draw(N, D, seed=1), draw(N, seed=2) if bias else None
    r, e = (F.normalize(x, dim=-1) if cosine else x for x in (states, vectors))
    logits = r @ e.T / TEMPERATURE + (0 if bias_N is None else bias_N)
    return Catalogue(vectors, bias_N, TEMPERATURE, cosine), states, logits


BOTH = pytest.mark.parametrize(("bias", "cosine"), list(itertools.product((False, True), repeat=2)))


@BOTH
def test_scores_are_logits_times_the_temperature(bias: bool, cosine: bool) -> None:
    catalogue, states, logits_PN = made(bias=bias, cosine=cosine)
    ready, wanted = catalogue.comparable(states), TEMPERATURE * logits_PN
    torch.testing.assert_close(catalogue.scores(ready), wanted)
    torch.testing.assert_close(catalogue.scores(ready, slice(2, 5)), wanted[:, 2:5])
    some_PM = torch.tensor([[0, 3], [8, 8], [1, 0], [5, 2]])
    torch.testing.assert_close(catalogue.scores_of(ready, some_PM), wanted.gather(1, some_PM))
    torch.testing.assert_close(catalogue.tempered(ready) @ catalogue.scaled_ND.T, logits_PN)


@BOTH
def test_the_catalogue_of_some_items_has_their_logits(bias: bool, cosine: bool) -> None:
    catalogue, states, logits_PN = made(bias=bias, cosine=cosine)
    rows = torch.tensor([7, 0, 7])
    few = catalogue.take(rows)
    assert len(few) == 3
    torch.testing.assert_close(few.scaled(states) @ few.scaled_ND.T, logits_PN[:, rows])
    torch.testing.assert_close(catalogue.scaled_of(rows), few.scaled_ND)


def test_a_temperature_scale_leaves_the_bias_in_full() -> None:
    catalogue, states, _ = made(bias=True, cosine=False)
    assert catalogue.bias_N is not None
    wanted = states @ catalogue.vectors_ND.T / (3 * TEMPERATURE) + catalogue.bias_N
    torch.testing.assert_close(catalogue.scaled(states, 3.0) @ catalogue.scaled_ND.T, wanted)
    steps = torch.stack([states, 2 * states])
    torch.testing.assert_close(catalogue.scaled(steps)[1], catalogue.scaled(2 * states))


def test_who_asks_first_does_not_decide_on_gradients() -> None:
    """An indicator looks without gradients at the catalogue that a loss is then made of."""
    weights, bias = draw(N, D).requires_grad_(), draw(N).requires_grad_()
    catalogue = Catalogue(weights, bias, cosine=True)
    with torch.no_grad():
        first = catalogue.scaled_ND
        unasked = Catalogue(weights, bias, cosine=True)
    assert first is catalogue.scaled_ND
    assert all(x.requires_grad for x in (catalogue.comparable_ND, catalogue.scaled_ND))
    assert not unasked.scaled_ND.requires_grad  # made where nobody wants any
