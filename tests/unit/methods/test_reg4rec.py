"""REG4Rec's losses against one prefix, one order and one token at a time (arXiv 2508.15308)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_tokens import TOKENIZER, token_model, tokens_of
from torch import Tensor
from torch.nn import functional as F

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, history_batch, training_batch, windows
from forethought.data.splits import Split
from forethought.decoding.beam import BeamSettings
from forethought.errors import ConfigError
from forethought.evaluation.flops import look_ups_per_history
from forethought.methods.item_tokens import token_shape_of, with_tokens
from forethought.methods.next_item import NextItem
from forethought.methods.path_decoder import PathState
from forethought.methods.reg4rec import REG4Rec, REG4RecModel, _next
from forethought.methods.rpg import RPG
from forethought.reasoning.halting import Halting
from forethought.references import resolve

SMALL: dict[str, Any] = {"width": 16, "window": 12, "dropout": 0.0}
STACKS = {
    "single": {"backbone": SASRec(ffn_width=32, count_from="start", input_norm=True, **SMALL)},
    "recurrent": {"backbone": GRU4Rec(**SMALL)},
    "decoder": {
        "backbone": SASRec(ffn_width=32, count_from="start", **SMALL),
        "decoder_layers": 2,
        "decoder_dropout": 0.0,
    },
    "bidirectional": {
        "backbone": BERT4Rec(ffn_width=32, count_from="start", **SMALL),
        "decoder_layers": 1,
        "decoder_dropout": 0.0,
    },
}


def config(stack: str, **settings: Any) -> REG4Rec:
    return REG4Rec(**{"tokenizer": TOKENIZER, "steps": 3} | STACKS[stack] | settings)


def batch_of(split: Split, model: REG4RecModel) -> Batch:
    return training_batch(windows(split.train, model.window).take(np.arange(5)))


def plain_item_loss(model: REG4RecModel, state_D: Tensor, target: int, decided: list[tuple[int, int]]) -> Tensor:
    """-ln of the softmax, over the items that have what is decided, of what their other tokens say, sharpened."""
    tokens = tokens_of(model)
    rows, books = plain_log_probs(model, state_D), {book for book, _ in decided}
    scores = {
        item: sum((rows[m][c] for m, c in enumerate(codes) if m not in books), torch.zeros((), dtype=state_D.dtype))
        for item, codes in enumerate(tokens.codes_NM.tolist())
        if all(codes[book] == token for book, token in decided)
    }
    every_X = torch.stack(list(scores.values())) * tokens.log_sharpness.exp()
    return torch.logsumexp(every_X, 0) - scores[target] * tokens.log_sharpness.exp()


def plain_log_probs(model: REG4RecModel, state_D: Tensor) -> list[Tensor]:
    """ln p of every codebook, head by head."""
    tokens = tokens_of(model)
    made = []
    for book in range(tokens.codebooks):
        rows = slice(book * tokens.size, (book + 1) * tokens.size)
        hidden = state_D + F.silu(state_D @ tokens.heads_MDD[book])
        cosines = F.cosine_similarity(hidden[None], tokens.weight[rows], dim=-1)
        made.append(F.log_softmax(cosines / model.config.temperature, dim=-1))
    return made


def state_after(model: REG4RecModel, items: Tensor, decided: list[tuple[int, int]]) -> Tensor:
    """The state behind one history and some tokens."""
    batch = Batch(items[None], torch.tensor([len(items)]))
    state = model._at_end(batch)
    for book, token in decided:
        x_11D = tokens_of(model).vectors(torch.tensor([[book]]), torch.tensor([[token]]))
        read_11D = x_11D + state.states_BPD if model.config.carries_state else x_11D
        if model.decoder is None:
            state = PathState(*model.backbone.reason(read_11D, state.chain))
        else:
            state = PathState(*model.decoder(read_11D, state.chain))
    return state.states_BPD[0, 0]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("loss", "carries"), [("tokens", False), ("items", False), ("items", True)])
def test_the_loss_is_that_of_a_row_a_prefix(
    split: Split, same_gradients: Any, stack: str, steps: int, loss: Any, carries: bool
) -> None:
    """Model-chosen orders: the next codebook is that with the most probable token, whether that is the true one."""
    model = token_model(config(stack, steps=steps, category_weight=0.3, loss=loss, carries_state=carries), split)
    model.begin_epoch(100)
    torch.manual_seed(5)
    torch.rand(sum(batch_of(split, model).lengths_B.tolist()), 3)
    named_at = 0, int(torch.randint(min(steps, 2), ())) + 1
    batch, tokens = batch_of(split, model), tokens_of(model)
    assert batch.targets_BL is not None

    def wanted() -> Tensor:
        total, count = torch.zeros((), dtype=torch.float64), 0
        for row, length in enumerate(batch.lengths_B.tolist()):
            for at in range(length):
                assert batch.targets_BL is not None
                target = int(batch.targets_BL[row, at])
                codes, left, decided = tokens.codes_NM[target].tolist(), [0, 1, 2], []
                losses, items, weight = [], 0.0, 0.2 if loss == "items" else 1.0
                for step in range(min(steps, 2) + 1):
                    state = state_after(model, batch.items_BL[row, : at + 1], decided)
                    if loss == "items" and step in named_at:
                        items = items + plain_item_loss(model, state, target, decided)
                    said = plain_log_probs(model, state)
                    named = {book: -said[book][codes[book]] for book in left}
                    category = -F.log_softmax(tokens.categories(state), dim=-1)[tokens.category_N[target]]
                    losses.append(weight * sum(named.values()) / len(named) + 0.3 * category)
                    book = max(left, key=lambda b: said[b].max().item())
                    left.remove(book)
                    decided.append((book, codes[book]))
                total, count = total + torch.stack(losses).mean() + items, count + 1
        return total / count

    def made() -> Tensor:
        torch.manual_seed(5)
        return model.loss(batch).total

    same_gradients(model, made, wanted)


def test_random_orders_are_drawn_anew_and_each_book_comes_first_as_often(split: Split) -> None:
    model = token_model(config("single"), split)
    model.begin_epoch(0)
    drawn_PM = torch.rand(3000, 3)
    open_PM = torch.ones(3000, 3, dtype=torch.bool)
    first = torch.bincount(_next(drawn_PM, open_PM), minlength=3)
    assert (first - 1000).abs().max() < 120
    open_PM[:, 1] = False
    assert 1 not in _next(drawn_PM, open_PM)
    batch = batch_of(split, model)
    torch.manual_seed(1)
    one = model.loss(batch).total
    assert model.loss(batch).total != one
    torch.manual_seed(1)
    assert model.loss(batch).total == one


@pytest.mark.parametrize("loss", ["tokens", "items"])
def test_rpg_is_the_first_step_alone(split: Split, loss: Any) -> None:
    model = token_model(RPG(tokenizer=TOKENIZER, backbone=STACKS["single"]["backbone"], loss=loss), split)
    batch = batch_of(split, model)
    sharpness = tokens_of(model).log_sharpness.exp() if loss == "items" else 1.0
    assert batch.targets_BL is not None
    losses = []
    for row, length in enumerate(batch.lengths_B.tolist()):
        for at in range(length):
            items = batch.items_BL[row, : at + 1][None]
            state_D = model.backbone.encode(model.tokens(items), torch.tensor([at + 1])).states_BLD[0, -1]
            target = int(batch.targets_BL[row, at])
            rows, codes_NM = plain_rpg(model, state_D), tokens_of(model).codes_NM
            scores_N = torch.stack([rows[m][codes_NM[:, m]] for m in range(3)]).sum(0)
            named = -scores_N[target] / 3 if loss == "tokens" else -F.log_softmax(scores_N * sharpness, 0)[target]
            losses.append(named)
    assert torch.allclose(model.loss(batch).total, torch.stack(losses).mean(), atol=1e-10)
    made = model.eval().represent(history_batch(split.test.history.take(np.arange(4)), model.window), trace=True)
    scores_BN = model.scores_of(made, torch.arange(model.n_items).expand(4, -1))
    codes_NM = tokens_of(model).codes_NM
    wanted_N = sum(made.paths.table_BPMC[2, 0, book][codes_NM[:, book]] for book in range(3))
    assert torch.allclose(scores_BN[2], sharpness * wanted_N, atol=1e-12)


def plain_rpg(model: Any, state_D: Tensor) -> list[Tensor]:
    tokens = tokens_of(model)
    hidden = [state_D + F.silu(state_D @ tokens.heads_MDD[book]) for book in range(3)]
    words_MCD = tokens.weight.view(3, tokens.size, -1)
    cosines = [F.cosine_similarity(h[None], words, dim=-1) for h, words in zip(hidden, words_MCD, strict=True)]
    return [F.log_softmax(each / tokens.temperature, dim=-1) for each in cosines]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("carries", [False, True])
def test_paths_go_on_from_where_their_tokens_lead(split: Split, stack: str, carries: bool) -> None:
    """Beams that branch and move have the states of their own tokens."""
    model = token_model(config(stack, carries_state=carries, decoding=BeamSettings(beams=4, corp=False)), split).eval()
    rows = split.test.history.take(np.arange(3))
    batch = history_batch(rows, model.window)
    with torch.inference_mode():
        made = model.user_states(batch, Halting(rule="fixed", max_steps=2), trace=True)
        paths = made.paths
        assert paths.books_BPT.shape == (3, 4, 2)
        for b in range(3):
            items = batch.items_BL[b, : int(batch.lengths_B[b])]
            for p in range(4):
                decided = list(zip(paths.books_BPT[b, p].tolist(), paths.tokens_BPT[b, p].tolist(), strict=True))
                first, second, third = (
                    plain_log_probs(model, state_after(model, items, decided[:n])) for n in range(3)
                )
                (book, token), (then, next_token) = decided
                assert book == max(range(3), key=lambda m: float(first[m].max()))
                expected = first[book][token] + second[then][next_token]
                assert torch.allclose(paths.log_probs_BP[b, p], expected, atol=1e-9)
                left = ({0, 1, 2} - {book, then}).pop()
                assert torch.allclose(paths.table_BPMC[b, p, left], third[left], atol=1e-9)


def test_items_are_ranked_by_shares_of_the_first_step_and_of_paths(split: Split) -> None:
    model = token_model(config("single", decoding=BeamSettings(beams=4, corp=False)), split).eval()
    batch = history_batch(split.test.history.take(np.arange(3)), model.window)
    sharpness = tokens_of(model).log_sharpness.exp()
    tables = {}
    with torch.no_grad():
        for share in (0.0, 0.3, 1.0):
            model.path_share.fill_(share)
            tables[share] = model.user_states(batch).table_BPMC
        first = tokens_of(model).log_probs(model._at_end(batch).states_BPD)
        paths = model.user_states(batch, trace=True).paths
    assert torch.allclose(tables[0.0], sharpness * first, atol=1e-12)
    assert torch.allclose(tables[1.0], sharpness * paths.table_BPMC, atol=1e-12)
    assert torch.allclose(tables[0.3], 0.7 * tables[0.0] + 0.3 * tables[1.0], atol=1e-7)


def test_the_validation_part_chooses_the_share(split: Split) -> None:
    model = token_model(config("single"), split)
    said = model.fit_on_validation(lambda: 1 - abs(float(model.path_share) - 0.3))
    assert float(model.path_share) == 0.25
    assert "Paths count for 0.25 of what items are ranked by" in said
    model.fit_on_validation(lambda: 0.5)
    assert float(model.path_share) == 1.0


def test_the_validation_part_chooses_theta_by_paths_alone(split: Split) -> None:
    model = token_model(config("single", decoding=BeamSettings(beams=4)), split)
    asked = []

    def quality() -> float:
        asked.append((round(float(model.theta), 2), float(model.path_share)))
        return 1 - abs(float(model.theta) - 0.05) - abs(float(model.path_share) - 0.3) / 10

    said = model.fit_on_validation(quality)
    assert asked[:6] == [(theta, 1.0) for theta in (0.69, 0.02, 0.1, 0.08, 0.06, 0.04)]
    assert float(model.theta) == pytest.approx(0.06)
    assert float(model.path_share) == 0.25
    assert "paths are pruned at theta 0.06 (CORP). Paths count for 0.25" in said
    assert "nothing is pruned (CORP)" in model.fit_on_validation(lambda: 0.5)
    assert float(model.theta) == pytest.approx(math.log(2))
    for decoding in (BeamSettings(theta=0.03), BeamSettings(corp=False)):
        fixed = token_model(config("single", decoding=decoding), split)
        assert fixed.fit_on_validation(lambda: 0.5).startswith("Paths count for")


def test_paths_are_pruned_at_the_theta_that_was_chosen(split: Split) -> None:
    chosen = token_model(config("single", decoding=BeamSettings(beams=4)), split).eval()
    batch = history_batch(split.test.history.take(np.arange(3)), chosen.window)
    asked = token_model(config("single", decoding=BeamSettings(beams=4, theta=0.0)), split).eval()
    asked.load_state_dict(chosen.state_dict())
    pruned = {}
    with torch.no_grad():
        for theta in (0.0, 1.0):
            chosen.theta.fill_(theta)
            pruned[theta] = len(chosen.user_states(batch, trace=True).paths.pruned.rows_E)
        strict = len(asked.user_states(batch, trace=True).paths.pruned.rows_E)
    assert pruned[1.0] == 0 < pruned[0.0] == strict
    weights = chosen.state_dict()
    del weights["theta"]
    chosen.load_state_dict(weights)  # of a run from before
    assert float(chosen.theta) == pytest.approx(0.06)


def test_a_path_may_be_shorter_but_never_longer_than_the_books(split: Split) -> None:
    with pytest.raises(ConfigError, match="cannot decide 4 tokens where an item has 3"):
        config("single", steps=4)
    model = token_model(config("single"), split).eval()
    batch = history_batch(split.test.history.take(np.arange(3)), model.window)
    decoder = model.path_decoder(batch)
    assert (decoder.codebooks, decoder.size) == (3, 6)
    assert model.user_states(batch).steps_B.tolist() == [3, 3, 3]
    assert model.user_states(batch, Halting(rule="fixed", max_steps=1)).steps_B.tolist() == [1, 1, 1]
    with pytest.raises(ConfigError, match="multiple of the decoder's 3 heads"):
        replace(config("decoder"), decoder_heads=3)


def test_what_was_not_learned_is_told(split: Split) -> None:
    named = token_model(config("single"), split)
    assert named.diagnostics({"first": 99.0, "category": 0.1}).warnings == []
    model = token_model(config("single", loss="tokens"), split)
    sizes = torch.bincount(tokens_of(model).category_N).double()
    chance = float(-(sizes / sizes.sum() * (sizes / sizes.sum()).log())[sizes > 0].sum())
    assert model.diagnostics({"first": 1.0, "category": chance / 2}).warnings == []
    tokens, categories = model.diagnostics({"first": math.log(6) * 0.99, "category": chance * 0.99}).warnings
    assert tokens.startswith("Tokens are guessed no better than by chance (1.77 of ln 6 = 1.79 nats)")
    assert categories.startswith("The belief in categories is no better than their frequencies")
    unpruned = token_model(config("single", decoding=BeamSettings(corp=False)), split)
    assert unpruned.diagnostics({"first": 1.0, "category": 99.0}).warnings == []


@pytest.mark.parametrize("loss", ["tokens", "items"])
def test_items_of_a_single_token_are_learned(split: Split, loss: str) -> None:
    """Nothing can be decided before the last token, so that the first step is all there is."""
    model = token_model(config("single", steps=1, loss=loss, tokenizer=replace(TOKENIZER, codebooks=1)), split)
    batch = batch_of(split, model)
    losses = model.loss(batch)
    assert torch.isfinite(losses.total)
    assert losses.parts["first"] == losses.parts["last"] == losses.parts["tokens"]


def test_a_head_for_categories_that_nothing_trains_prunes_nothing(split: Split) -> None:
    decoding = BeamSettings(beams=4, theta=0.0)
    for weight, prunes in ((0.1, True), (0.0, False)):
        model = token_model(config("single", category_weight=weight, decoding=decoding), split).eval()
        batch = history_batch(split.test.history.take(np.arange(3)), model.window)
        with torch.no_grad():
            paths = model.user_states(batch, trace=True).paths
        assert (paths.pruned is not None) == prunes
        assert (paths.categories_BTPG is not None) == prunes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder_heads": 1}, "has no decoder, so that decoder_heads would change nothing"),
        ({"decoder_dropout": 0.1}, "has no decoder, so that decoder_dropout would"),
        ({"loss": "tokens", "token_weight": 0.3}, "token_weight would change nothing"),
        ({"decoding": BeamSettings(seed=1)}, "Of decoding, seed would change nothing"),
        ({"decoding": BeamSettings(merge_sets=False)}, "Of decoding, merge_sets would"),
        ({"decoding": BeamSettings(corp=False, theta=0.1, rollbacks=1)}, "Of decoding, theta and rollbacks would"),
    ],
)
def test_what_would_change_nothing_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config("single", **settings)


def test_what_is_asked_of_categories_and_tokens_needs_them(split: Split) -> None:
    bare = replace(split, data=replace(split.data, item_table=split.data.item_table.drop("categories")))
    for settings, said in (
        ({"category_weight": 0.3}, "no categories, so that category_weight would"),
        ({"decoding": BeamSettings(theta=0.1)}, "no categories, so that decoding.theta would"),
    ):
        asked = config("single", **settings)
        token_model(asked, split)
        known = resolve(asked, bare)
        model = with_tokens(asked.build(bare.data.sizes), token_shape_of(known.tokens))
        with pytest.raises(ConfigError, match=said):
            model.fit_side_information(known)
    longer = replace(asked, tokens="made elsewhere", steps=4)
    with pytest.raises(ConfigError, match="cannot decide 4 tokens where an item has 3"):
        with_tokens(longer.build(split.data.sizes), token_shape_of(known.tokens)).fit_side_information(known)


def test_look_ups_are_those_of_every_path_book_and_item(split: Split) -> None:
    decoding = BeamSettings(beams=4, corp=False)
    model = token_model(config("single", steps=1, decoding=decoding), split)
    for share, paths in ((0.5, 4), (0.0, 1)):
        model.path_share.fill_(share)
        assert look_ups_per_history(model, split.test) == paths * 3 * split.data.n_items
    plain = NextItem(backbone=STACKS["single"]["backbone"]).build(split.data.sizes)
    assert look_ups_per_history(plain, split.test) == 0
