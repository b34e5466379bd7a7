"""Collaborative vectors of items that nobody met, by loops, and what becomes of such items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from token_toys import CONFIGS, toy_features, toy_split

from forethought.data.splits import Split, leave_last_out
from forethought.semantic_ids import imputation
from forethought.semantic_ids.imputation import imputed, with_imputed
from forethought.semantic_ids.inputs import tokenizer_inputs
from forethought.semantic_ids.item_tokens import encode_new, fit_tokens, known_inputs

E = 64


@pytest.fixture(scope="module")
def split() -> Split:
    return toy_split()


def by_loops(values: np.ndarray, tokens: object) -> np.ndarray:
    """Neighbour by neighbour in float64."""
    tokenizer, table = tokens.tokenizer, tokens.table  # type: ignore[attr-defined]
    said = tokenizer.decode(table.codes_NM[:, : tokenizer.codebooks]).double().numpy()
    mean, scale = tokenizer.mean_F.double().numpy(), tokenizer.scale_F.double().numpy()
    rows = []
    for row in values:
        looks = ((row - mean) * scale)[:-E]
        cosines = [looks @ y[:-E] / max(np.linalg.norm(looks) * np.linalg.norm(y[:-E]), 1e-24) for y in said]
        nearest = np.argsort(cosines)[::-1][:10]
        weights = np.exp([10 * cosines[k] for k in nearest])
        met = sum(w * said[k][-E:] for w, k in zip(weights / weights.sum(), nearest, strict=True))
        raw = [m + (v / s if s else 0.0) for m, v, s in zip(mean[-E:], met, scale[-E:], strict=True)]
        rows.append([*row[:-E], *raw])
    return np.array(rows)


@pytest.mark.parametrize("name", ["mpq", "opq", "rq_vae"])
def test_by_loops(split: Split, name: str) -> None:
    features = toy_features(split)
    tokens = fit_tokens(split, features, CONFIGS[name], seed=0)
    values = tokenizer_inputs(features, torch.zeros(40, E))[3:9]
    found = imputed(values, tokens.tokenizer, tokens.table.codes_NM, E)
    assert not torch.equal(found[:, -E:], tokens.tokenizer.mean_F[-E:].expand(6, -1))
    np.testing.assert_allclose(found.numpy(), by_loops(values.double().numpy(), tokens), rtol=2e-4, atol=2e-5)


def test_neighbours_are_looked_for_among_some_of_many(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    features = toy_features(split)
    tokens = fit_tokens(split, features, CONFIGS["opq"], seed=0)
    values, codes = tokenizer_inputs(features, torch.zeros(40, E))[:5], tokens.table.codes_NM
    evenly = imputed(values, tokens.tokenizer, codes[::3], E)
    monkeypatch.setattr(imputation, "MOST_KNOWN", 15)
    assert torch.equal(imputed(values, tokens.tokenizer, codes, E), evenly)


def test_of_many_only_those_that_are_looked_at_are_tokenised_for_it(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a beam takes for each of a million items would be taken twice."""
    held = leave_last_out(split.data, hold_out_items=0.2)
    features, config = toy_features(held), replace(CONFIGS["opq"], collisions="keep")
    values, tokenizer = known_inputs(held, features, config), fit_tokens(held, features, config, seed=0).tokenizer
    met = values[:, -E:].any(1)
    monkeypatch.setattr(imputation, "MOST_KNOWN", 15)
    wanted = imputed(values[~met], tokenizer, tokenizer.encode(values[met]), E)
    encode, seen = tokenizer.encode, list[int]()

    def counting(some: torch.Tensor) -> torch.Tensor:
        seen.append(len(some))
        return encode(some)

    monkeypatch.setattr(tokenizer, "encode", counting)
    assert torch.equal(with_imputed(values, tokenizer, E)[~met], wanted)
    assert sum(seen) <= 15 < met.sum()


def test_nothing_to_go_by(split: Split) -> None:
    tokens = fit_tokens(split, toy_features(split), CONFIGS["opq"], seed=0)
    values = tokenizer_inputs(toy_features(split), torch.zeros(40, E))
    assert imputed(values, tokens.tokenizer, tokens.table.codes_NM, 0) is values
    assert imputed(values, tokens.tokenizer, tokens.table.codes_NM[:0], E) is values
    alone = torch.ones(40, E)
    alone[:3] = 0.0
    assert with_imputed(alone, tokens.tokenizer, E) is alone, "nothing tells whom an item without features is like"
    assert torch.equal(with_imputed(values, tokens.tokenizer, E), values), "nobody met any"


def test_items_held_out_of_training_are_read_as_those_that_join_later(split: Split) -> None:
    held = leave_last_out(split.data, hold_out_items=0.2)
    features, config = toy_features(held), replace(CONFIGS["opq"], collisions="keep")
    unmet = held.train.item_counts(40) == 0
    assert 0 < unmet.sum() < 20
    values = known_inputs(held, features, config)
    assert not values[unmet, -E:].any()
    tokens = fit_tokens(held, features, config, seed=0)
    completed = with_imputed(values, tokens.tokenizer, E)
    assert torch.equal(completed[~unmet], values[~unmet])
    assert completed[unmet, -E:].any(1).all()
    assert torch.equal(tokens.table.codes_NM, tokens.tokenizer.encode(completed))
    later = [each._replace(values=each.values[unmet], known_N=each.known_N[unmet]) for each in features]
    of_met = replace(tokens, table=replace(tokens.table, codes_NM=tokens.table.codes_NM[~unmet]))
    assert torch.equal(encode_new(of_met, later), tokens.table.codes_NM[unmet])
