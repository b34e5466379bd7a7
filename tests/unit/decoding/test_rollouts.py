"""Paths that are drawn and replayed, and what rewards see of them, against loops over one path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_tokens import TOKENIZER, token_model, tokens_of

from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, history_batch
from forethought.data.splits import Split
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import DrawnPaths, draw_paths, replay_paths
from forethought.methods.reg4rec import REG4Rec, REG4RecModel
from forethought.reasoning.policy import Future

SMALL: dict[str, Any] = {"width": 16, "window": 12, "dropout": 0.0, "ffn_width": 32}


def made(split: Split, **settings: Any) -> tuple[REG4RecModel, Batch]:
    model = token_model(REG4Rec(tokenizer=TOKENIZER, backbone=SASRec(**SMALL), **{"steps": 2} | settings), split)
    model.eval()
    return model, history_batch(split.valid.history.take(np.arange(4)), 12)


@pytest.mark.parametrize("action", ["token", "joint"])
@pytest.mark.parametrize("layers", [0, 1])
def test_what_is_replayed_is_what_was_drawn(split: Split, action: Any, layers: int) -> None:
    model, batch = made(split, decoder_layers=layers)
    torch.manual_seed(1)
    drawn = draw_paths(model.path_decoder(batch), 4, 5, 2, action=action)
    said_BGT, all_BGTX = replay_paths(model.path_decoder(batch), drawn, action)
    torch.testing.assert_close(said_BGT, drawn.log_probs_BGT, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(all_BGTX.exp().sum(-1), torch.ones(4, 5, 2, dtype=all_BGTX.dtype))
    assert (drawn.books_BGT[..., 0] != drawn.books_BGT[..., 1]).all()  # a book is decided once
    said_BGT.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_path_step_by_step(split: Split) -> None:
    """The most confident open book, the row it stood with, and the other books after the last token."""
    model, batch = made(split)
    torch.manual_seed(2)
    drawn = draw_paths(model.path_decoder(batch), 4, 3, 2)
    tokens, b, g = tokens_of(model), 2, 1
    one = Batch(batch.items_BL[b : b + 1, : batch.lengths_B[b]], batch.lengths_B[b : b + 1])
    state, open_books = model._at_end(one), list(range(tokens.codebooks))
    for step in range(2):
        rows_MC = tokens.log_probs(state.states_BPD)[0, 0]
        book, token = int(drawn.books_BGT[b, g, step]), int(drawn.tokens_BGT[b, g, step])
        assert book == max(open_books, key=lambda m: float(rows_MC[m].max().detach()))
        open_books.remove(book)
        assert float(drawn.log_probs_BGT[b, g, step]) == pytest.approx(float(rows_MC[book, token].detach()), abs=1e-5)
        torch.testing.assert_close(drawn.table_BGMC[b, g, book], rows_MC[book].detach(), rtol=1e-5, atol=1e-5)
        assert drawn.categories_BGTQ is not None
        belief = tokens.category_log_probs(state.states_BPD)
        assert belief is not None
        torch.testing.assert_close(drawn.categories_BGTQ[b, g, step], belief[0, 0].detach(), rtol=1e-5, atol=1e-5)
        state = model._advanced(state, tokens.vectors(torch.tensor([[book]]), torch.tensor([[token]])))
    rows_MC = tokens.log_probs(state.states_BPD)[0, 0].detach()
    for book in open_books:
        torch.testing.assert_close(drawn.table_BGMC[b, g, book], rows_MC[book], rtol=1e-5, atol=1e-5)


def test_tokens_are_drawn_by_their_probability(split: Split) -> None:
    model, batch = made(split)
    torch.manual_seed(3)
    one = Batch(batch.items_BL[:1], batch.lengths_B[:1])
    for temperature in (1.0, 0.5):
        drawn = draw_paths(model.path_decoder(one), 1, 20_000, 1, temperature=temperature)
        book = int(drawn.books_BGT[0, 0, 0])
        rows_MC = tokens_of(model).log_probs(model._at_end(one).states_BPD)[0, 0].detach()
        wanted_C = (rows_MC[book] / temperature).softmax(0)
        seen_C = torch.bincount(drawn.tokens_BGT[0, :, 0], minlength=len(wanted_C)) / 20_000
        assert (seen_C - wanted_C).abs().max() < 4 * (wanted_C * (1 - wanted_C) / 20_000).sqrt().max()
        chosen = rows_MC[book][drawn.tokens_BGT[0, :, 0]]  # told without the temperature
        torch.testing.assert_close(drawn.log_probs_BGT[0, :, 0], chosen, rtol=1e-5, atol=1e-5)


def test_facts_are_those_of_all_items_scored_one_by_one(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forethought.decoding.path_facts.ROWS", 3)
    generator = torch.Generator().manual_seed(4)
    B, G, T, M, C, N, H = 2, 4, 2, 3, 5, 30, 2
    codes_NM = torch.randint(C, (N, M), generator=generator)
    codes_NM[7] = codes_NM[3]  # two that tie
    table_BGMC = torch.randn(B, G, M, C, generator=generator, dtype=torch.float64)
    books_BGT = torch.stack([torch.randperm(M, generator=generator)[:T] for _ in range(B * G)]).view(B, G, T)
    tokens_BGT = torch.randint(C, (B, G, T), generator=generator)
    items_BH = torch.tensor([[3, 11], [20, 5]])
    drawn = DrawnPaths(books_BGT, tokens_BGT, torch.zeros(B, G, T), table_BGMC, None)
    future = Future(items_BH, torch.ones(B, H, dtype=torch.bool))
    facts = PathFacts(drawn, future, codes_NM, torch.zeros(N, dtype=torch.int64), table_BGMC)
    for b in range(B):
        for g in range(G):
            scores = [float(sum(table_BGMC[b, g, m, codes_NM[i, m]] for m in range(M))) for i in range(N)]
            for h in range(H):
                own = scores[items_BH[b, h]]
                better = sum(each > own + 1e-12 for each in scores)
                same = sum(abs(each - own) < 1e-12 for each in scores)
                assert float(facts.ranks_BGH[b, g, h]) == better + (same + 1) / 2
                for t in range(T):
                    code = codes_NM[items_BH[b, h], books_BGT[b, g, t]]
                    assert bool(facts.hits_BGTH[b, g, t, h]) == bool(code == tokens_BGT[b, g, t])
            assert scores[int(facts.best_BG[b, g])] == pytest.approx(max(scores))
            others = [each for i, each in enumerate(scores) if i != int(items_BH[b, 0])]
            assert float(facts.margins_BG[b, g]) == pytest.approx(scores[items_BH[b, 0]] - max(others))


def test_a_policy_of_paths_draws_no_longer_ones_than_an_item_has_tokens(split: Split) -> None:
    model, batch = made(split)
    policy = replace(model.rl_policy(), steps=99)
    assert policy.roll_out(batch, 2, 1.0).log_probs_BGT.shape == (4, 2, tokens_of(model).codebooks)
