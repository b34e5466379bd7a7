"""The softmax over items of a token table, against whole matrices."""

from __future__ import annotations

import pytest
import torch

from forethought.catalogue import token_softmax
from forethought.catalogue.token_softmax import TokenBags, lse_among, token_lse, token_probabilities

P, N, M, C = 7, 30, 3, 5


@pytest.fixture
def codes_NM() -> torch.Tensor:
    torch.manual_seed(0)
    codes_NM = torch.randint(C, (N, M))
    codes_NM[codes_NM[:, 1] == 4, 1] = 0  # a token that no item has
    return codes_NM


def logits(table_PX: torch.Tensor, codes_NM: torch.Tensor) -> torch.Tensor:
    table_PMC = table_PX.view(-1, M, C)
    return torch.stack([sum(table_PMC[:, m, c] for m, c in enumerate(row)) for row in codes_NM.tolist()], dim=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [2**21, 3 * N, 1])
def test_lse_and_its_gradient(codes_NM: torch.Tensor, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_softmax, "CPU_BLOCK", block)
    table = (torch.randn(P, M * C).double() * 20).requires_grad_()
    weights_P = torch.rand(P).double()
    bags = TokenBags.of(codes_NM, C)
    made = token_lse(table, bags)
    wanted = torch.logsumexp(logits(table, codes_NM), dim=1)
    assert torch.allclose(made, wanted, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad((made * weights_P).sum(), table)
    (expected,) = torch.autograd.grad((wanted * weights_P).sum(), table)
    assert torch.allclose(gradient, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("decided", [1, 2, M])
@pytest.mark.parametrize("walk", [0.0, 0.15, 1.0])  # all items walked over, some looked up, all
def test_lse_among_items_that_share_tokens(
    codes_NM: torch.Tensor, decided: int, walk: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of books is decided at each position, and other ones."""
    monkeypatch.setattr(token_softmax, "WALK", walk)
    table = (torch.randn(P, M * C).double() * 20).requires_grad_()
    items_P, weights_P = torch.randint(N, (P,)), torch.rand(P).double()
    open_PM = torch.rand(P, M).argsort(1) >= torch.randint(1, decided + 1, (P, 1))
    made = lse_among(table, TokenBags.of(codes_NM, C), items_P, open_PM)
    shares_PNM = (codes_NM == codes_NM[items_P][:, None]) | open_PM[:, None]
    wanted = logits(table, codes_NM).masked_fill(~shares_PNM.all(-1), -torch.inf).logsumexp(1)
    assert torch.allclose(made, wanted, atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad((made * weights_P).sum(), table)
    (expected,) = torch.autograd.grad((wanted * weights_P).sum(), table)
    assert torch.allclose(gradient, expected, atol=1e-12, rtol=0)
    assert lse_among(table[:0], TokenBags.of(codes_NM, C), items_P[:0], open_PM[:0]).shape == (0,)


def test_tokens_are_as_probable_as_their_items(codes_NM: torch.Tensor) -> None:
    table = torch.randn(P, M * C).double()
    made_PMC = token_probabilities(table, TokenBags.of(codes_NM, C)).view(P, M, C)
    p_PN = logits(table, codes_NM).softmax(1)
    assert torch.allclose(made_PMC.sum(-1), torch.ones(P, M).double())
    for m in range(M):
        for c in range(C):
            assert torch.allclose(made_PMC[:, m, c], p_PN[:, codes_NM[:, m] == c].sum(1), atol=1e-12)
    assert not made_PMC[:, 1, 4].any()


def test_large_numbers_and_no_positions(codes_NM: torch.Tensor) -> None:
    bags = TokenBags.of(codes_NM, C)
    assert token_lse(torch.full((1, M * C), 1e4), bags).isfinite().all()
    assert token_lse(torch.zeros(0, M * C), bags).shape == (0,)


def test_sums_of_narrow_tables_are_not_narrow(codes_NM: torch.Tensor) -> None:
    """As under autocast on a GPU: what is rounded are the logits, never what is added up of them."""
    bags = TokenBags.of(codes_NM, C)
    narrow = torch.randn(P, M * C, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    lse_P = token_lse(narrow, bags)
    assert lse_P.dtype == torch.float32
    torch.testing.assert_close(lse_P, token_lse(narrow.detach().float(), bags))
    lse_P.sum().backward()
    assert narrow.grad is not None
    torch.testing.assert_close(narrow.grad, token_probabilities(narrow.detach().float(), bags).bfloat16())
