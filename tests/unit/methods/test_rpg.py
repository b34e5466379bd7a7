"""RPG's loss and scores by plain loops, and its search along a graph beside all items scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_methods import built, small
from torch.nn import functional as F

from forethought.catalogue.ranking import FilteredItems
from forethought.catalogue.token_softmax import TokenBags
from forethought.config import Recipe, from_json, to_json
from forethought.data.batches import history_batch, training_batch, windows
from forethought.data.splits import Split, leave_last_out
from forethought.decoding.graph import GraphSettings
from forethought.errors import ConfigError
from forethought.evaluation.protocol import in_words
from forethought.methods.rpg import RPG, RPGModel
from forethought.recommender import load
from forethought.runs import evaluate, train
from forethought.training.settings import Training
from forethought.tuning.space import space_of

GRAPH = GraphSettings(edges=4, beams=6, rounds=2)


def model_of(split: Split, **changed: Any) -> RPGModel:
    """In float64, with weights large enough that mistakes show."""
    torch.manual_seed(0)
    model = built("rpg", split).double().eval()
    assert isinstance(model, RPGModel)
    model.config = replace(model.config, **changed)
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


def test_the_loss_is_the_mean_over_books_of_what_each_head_says(split: Split) -> None:
    model, batch = model_of(split), training_batch(windows(split.train, 12).take(np.arange(5)))
    model.tokens.names_items = False  # loss="tokens"
    assert batch.targets_BL is not None
    tokens, total = model.tokens, 0.0
    states_BLD = model.backbone.encode(tokens(batch.items_BL), batch.lengths_B).states_BLD
    for row, length in enumerate(batch.lengths_B.tolist()):
        for at in range(length):
            s_D = states_BLD[row, at]
            for book, code in enumerate(tokens.codes_NM[batch.targets_BL[row, at]].tolist()):
                g_D = s_D + F.silu(s_D @ tokens.heads_MDD[book])
                words_CD = tokens.weight[book * tokens.size : (book + 1) * tokens.size]
                logits_C = F.cosine_similarity(g_D[None], words_CD) / model.config.temperature
                total -= logits_C.log_softmax(-1)[code].item() / tokens.codebooks
    assert model.loss(batch).total.item() == pytest.approx(total / batch.weight)


@pytest.mark.parametrize("decided", [(), (0,)])
def test_unmet_items_are_no_rivals_of_those_it_names(split: Split, decided: tuple[int, ...]) -> None:
    """Of an item that is named though none met it all are rivals, as before."""
    tokens = model_of(split).tokens
    N, M, C = tokens.n_items, tokens.codebooks, tokens.size
    met = [item for item in range(N) if item % 3]
    tokens.know_trained(torch.tensor([int(item in met) for item in range(N)]))
    torch.manual_seed(1)
    logits_PMC = torch.randn(4, M, C, dtype=torch.float64)
    open_PM = torch.ones(4, M, dtype=torch.bool)
    open_PM[:, list(decided)] = False

    def by_loops(named: int, row: int, rivals: list[int]) -> float:
        codes = tokens.codes_NM.tolist()
        alike = [item for item in rivals if all(codes[item][book] == codes[named][book] for book in decided)]
        table = (logits_PMC[row] * tokens.log_sharpness.exp()).tolist()
        score = {item: sum(table[book][codes[item][book]] for book in range(M)) for item in alike}
        return float(np.log(sum(np.exp(value) for value in score.values())) - score[named])

    for items, rivals in ((met[:4], met), ([0, *met[:3]], list(range(N))), (met[2:6], met)):
        wanted = [by_loops(item, row, rivals) for row, item in enumerate(items)]
        made = tokens.item_losses(logits_PMC, torch.tensor(items), open_PM if decided else None)
        np.testing.assert_allclose(made.detach().numpy(), wanted, rtol=1e-9)
    tokens.know_trained(torch.ones(N))
    assert tokens.met_N is None


def test_which_items_are_met_may_be_told_anew(split: Split) -> None:
    """Where a mask has the memory of an older one that was let go, it is another one all the same."""
    tokens = model_of(split).tokens
    tokens.codes_NM = torch.randint(tokens.size, (3000, tokens.codebooks), generator=torch.Generator().manual_seed(0))
    for seed in range(8):
        first, second, third = torch.randint(2, (3, 3000), generator=torch.Generator().manual_seed(seed))
        tokens.know_trained(first)
        tokens._bags_of(first.nonzero()[:3, 0])
        tokens.know_trained(second)
        tokens.know_trained(third)
        bags, row_of_N = tokens._bags_of(third.nonzero()[:3, 0])
        assert torch.equal(bags.places_NM, TokenBags.of(tokens.codes_NM[third > 0], tokens.size).places_NM)
        assert row_of_N is not None
        assert torch.equal(row_of_N[third > 0], torch.arange(int(third.sum())))


def test_a_run_knows_which_items_its_training_met(split: Split, quick: Training, tmp_path: Path) -> None:
    """Those that are held out of it are tokenised, and no rivals in its loss."""
    held = leave_last_out(split.data, hold_out_items=0.2)
    run = train(Recipe(method=small("rpg"), training=quick), held, tmp_path / "run")
    unmet = held.train.item_counts(held.data.n_items) == 0
    for method in (run.method, load(tmp_path / "run").method):
        assert isinstance(method, RPGModel)
        assert method.tokens.met_N is not None
        assert np.array_equal(~method.tokens.met_N.numpy(), unmet)
        assert "tokens.met_N" not in method.state_dict()


def test_no_parameter_is_there_for_nothing(split: Split) -> None:
    """It had a head of categories, which nothing trained."""
    assert not [name for name, _ in model_of(split).named_parameters() if "categories" in name]


@pytest.mark.parametrize("exclude", [False, True])
def test_a_graph_that_is_walked_far_enough_finds_what_is_exact(split: Split, exclude: bool) -> None:
    n = split.data.n_items
    exact = model_of(split)
    graph = model_of(split, decoding="graph", graph=GraphSettings(edges=n, beams=n, rounds=1))
    batch = history_batch(split.test.history.take(np.arange(20)), 12)
    excluded = FilteredItems.from_histories(batch.items_BL, batch.lengths_B) if exclude else None
    targets_B = torch.from_numpy(split.test.targets[:20].astype(np.int64))
    with torch.inference_mode():
        represented = exact.represent(batch)
        for wanted, got in zip(
            exact.recommend(represented, 10, excluded), graph.recommend(represented, 10, excluded), strict=True
        ):
            torch.testing.assert_close(got, wanted)
        wanted_B, got_B = (each.rank_of(represented, targets_B, excluded) for each in (exact, graph))
        reached_B = got_B < torch.inf
        assert torch.equal(got_B[reached_B], wanted_B[reached_B])
        assert bool((reached_B | (wanted_B == torch.inf)).all())


def test_a_short_search_ranks_what_it_lists(split: Split) -> None:
    """Scores are those of the exact model; a rank is the place in the list, and beyond the list there is none."""
    model = model_of(split, decoding="graph", graph=GRAPH)
    batch = history_batch(split.test.history.take(np.arange(20)), 12)
    allowed_N = torch.arange(model.n_items) % 3 == 0
    with torch.inference_mode():
        represented = model.represent(batch)
        items_BK, scores_BK = model.recommend(represented, GRAPH.beams)
        torch.testing.assert_close(scores_BK, model.scores_of(represented, items_BK))
        assert all(len(set(row)) == GRAPH.beams for row in items_BK.tolist())
        for item in range(model.n_items):
            rank_B = model.rank_of(represented, torch.full((20,), item))
            assert torch.equal(rank_B < torch.inf, (items_BK == item).any(1))
        assert bool((model.rank_of(represented, items_BK[:, 0]) < 2).all())
        some_BK, _ = model.recommend(represented, 5, None, allowed_N)
        assert bool(allowed_N[some_BK].all())
        assert bool((some_BK >= 0).all())


def test_the_graph_follows_vectors_and_tokens(split: Split) -> None:
    model = model_of(split, decoding="graph", graph=GRAPH)
    before = model.item_graph()
    assert model.item_graph() is before
    with torch.no_grad():
        model.tokens.weight.add_(torch.randn_like(model.tokens.weight))
    after = model.item_graph()
    assert after is not before
    model.tokens.codes_NM[0] = (model.tokens.codes_NM[0] + 1) % model.tokens.size
    assert model.item_graph() is not after


def test_a_run_with_a_graph_says_so(split: Split, quick: Training, tmp_path: Path) -> None:
    config = replace(small("rpg"), decoding="graph", graph=GRAPH)
    assert from_json(RPG, to_json(config)) == config
    run = train(Recipe(method=config, training=replace(quick, epochs=1)), split, tmp_path / "run")
    report = evaluate(run, split)
    assert "search graph of 4 neighbours, 2 rounds with 6 items, no ranks beyond" in in_words(report.protocol)
    history = run.items.id_list([3, 1, 4])
    assert load(tmp_path / "run").recommend([history], k=4)[0].items == run.recommend([history], k=4)[0].items


def test_a_temperature_that_a_learned_scale_undoes_is_refused() -> None:
    """With the loss of items logits are times a learned scale, which began so that the temperature falls out."""
    with pytest.raises(ConfigError, match="scale of cosines is learned"):
        RPG(temperature=0.2)
    assert RPG(temperature=0.2, loss="tokens").temperature == 0.2
    assert "temperature" not in space_of(Recipe(method=RPG()))
    assert "temperature" in space_of(Recipe(method=RPG(loss="tokens")))


def test_a_graph_that_nothing_searches_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose decoding='graph'"):
        RPG(graph=GRAPH)
