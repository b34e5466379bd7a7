"""KL between two models' softmax over all items, against the sum over items."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from forethought.catalogue import blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.divergence import divergence

N, P = 23, 5


def drawn(width: int, seed: int, **settings: Any) -> tuple[torch.Tensor, Catalogue]:
    generator = torch.Generator().manual_seed(seed)
    states, vectors, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((P, width), (N, width), (N,))
    )
    return states, Catalogue(vectors, bias_N=bias if settings.pop("bias", False) else None, **settings)


@pytest.mark.parametrize("block", [7, 10_000])
@pytest.mark.parametrize("cosine", [True, False])
def test_the_value_and_its_gradients_are_those_of_the_sum(
    cosine: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_ITEMS", block)
    states, catalogue = drawn(4, 1, cosine=cosine, temperature=0.3, bias=True)
    other_states, other = drawn(6, 2)
    got_P = divergence(catalogue.scaled(states), catalogue, other.scaled(other_states), other)
    scale = states / states.norm(dim=1, keepdim=True) if cosine else states
    items = catalogue.vectors_ND
    items = items / items.norm(dim=1, keepdim=True) if cosine else items
    assert catalogue.bias_N is not None
    p_PN = (scale @ items.T / 0.3 + catalogue.bias_N).softmax(-1)
    q_PN = (other_states @ other.vectors_ND.T).softmax(-1)
    wanted_P = torch.stack(
        [
            sum((p * (p / q).log() for p, q in zip(*rows, strict=True)), torch.zeros(()))
            for rows in zip(p_PN, q_PN, strict=True)
        ]
    )
    torch.testing.assert_close(got_P, wanted_P)
    leaves = (states, catalogue.vectors_ND, catalogue.bias_N, other_states, other.vectors_ND)
    weights_P = torch.arange(1.0, P + 1)
    for mine, theirs in zip(
        torch.autograd.grad((got_P * weights_P).sum(), leaves),
        torch.autograd.grad((wanted_P * weights_P).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_nothing_lies_between_a_model_and_itself() -> None:
    states, catalogue = drawn(4, 1)
    same = divergence(catalogue.scaled(states), catalogue, catalogue.scaled(states), catalogue)
    torch.testing.assert_close(same, torch.zeros_like(same))
