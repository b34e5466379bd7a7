"""Tokens fitted on a split, put together again, and of items that come later."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from token_toys import CONFIGS, toy_features, toy_split

from forethought.config import from_json, to_json
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.semantic_ids.imputation import imputed
from forethought.semantic_ids.inputs import tokenizer_inputs
from forethought.semantic_ids.item_tokens import encode_new, fit_tokens, rebuild, token_tensors
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.storage import loaded

every = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module")
def split() -> Split:
    return toy_split()


@every
def test_items_have_tokens_of_their_own(split: Split, name: str) -> None:
    tokens = fit_tokens(split, toy_features(split), CONFIGS[name], seed=0)
    assert tokens.table.n_items == 40
    assert tokens.table.collisions() == 0
    assert tokens.table.codebooks == CONFIGS[name].table_codebooks
    assert tokens.checksum == fit_tokens(split, toy_features(split), CONFIGS[name], seed=0).checksum


@every
def test_a_description_and_tensors_make_the_same(split: Split, name: str) -> None:
    tokens = fit_tokens(split, toy_features(split), CONFIGS[name], seed=0)
    described = json.loads(json.dumps(tokens.to_json()))
    again = loaded(rebuild(described, 40), token_tensors(tokens.table, tokens.tokenizer))
    assert torch.equal(again.table.codes_NM, tokens.table.codes_NM)
    features = toy_features(split)
    assert torch.equal(encode_new(again, features), encode_new(tokens, features))
    assert again.to_json() == tokens.to_json()


@every
def test_items_that_come_later(split: Split, name: str) -> None:
    """They have those most like them in the place of who meets them, and no tuple that is taken."""
    features = toy_features(split)
    tokens = fit_tokens(split, features, replace(CONFIGS[name], collisions="keep"), seed=0)
    new = [each._replace(values=each.values[5:9], known_N=each.known_N[5:9]) for each in features]
    codes = encode_new(tokens, new)
    values = imputed(tokenizer_inputs(new, torch.zeros(4, 64)), tokens.tokenizer, tokens.table.codes_NM, 64)
    assert torch.equal(codes, tokens.tokenizer.encode(values))
    assert torch.equal(
        encode_new(tokens, [each._replace(values=each.values[1:], known_N=each.known_N[1:]) for each in new]), codes[1:]
    )
    greedy = fit_tokens(split, features, replace(CONFIGS[name], collisions="greedy"), seed=0)
    made = encode_new(greedy, new)
    assert len(torch.cat([greedy.table.codes_NM, made]).unique(dim=0)) == 44


def test_other_features_than_the_tokens_were_made_of(split: Split) -> None:
    features = toy_features(split)
    tokens = fit_tokens(split, features, CONFIGS["opq"], seed=0)
    with pytest.raises(DataError, match="made of the features look, categories, size, but the new items have look"):
        encode_new(tokens, features[:1])
    alone = fit_tokens(split, (), CONFIGS["opq"], seed=0)
    with pytest.raises(DataError, match="made of what users meet together alone"):
        encode_new(alone, ())


def test_without_features_and_without_company(split: Split) -> None:
    with pytest.raises(DataError, match="Nothing is known"):
        fit_tokens(split, (), replace(CONFIGS["opq"], collaborative="none"), seed=0)
    apart = fit_tokens(split, toy_features(split), replace(CONFIGS["opq"], collaborative="none"), seed=0)
    assert [each["kind"] for each in apart.inputs] == ["vectors", "tags", "vectors"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda parts: parts.pop("inputs"), "tokens has no 'inputs'"),
        (lambda parts: parts["config"].update(type="other"), "type is 'other'"),
        (lambda parts: parts["inputs"][0].update(width=-1), "width is -1"),
        (lambda parts: parts["inputs"][0].pop("scale"), "scale"),
        (lambda parts: parts["inputs"][-1].update(width="wide"), "width is 'wide'"),
        (lambda parts: parts.update(inputs=[]), "width of the tokens' inputs is 0"),
    ],
)
def test_a_damaged_description(split: Split, damage: object, said: str) -> None:
    parts = json.loads(json.dumps(fit_tokens(split, toy_features(split), CONFIGS["opq"], seed=0).to_json()))
    damage(parts)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said):
        rebuild(parts, 40)


def test_a_tokenizer_is_a_part_of_a_configuration() -> None:
    """As any other choice, it says in JSON which it is."""
    parts = to_json(MPQ(codebooks=4))
    assert parts["type"] == "mpq"
    assert from_json(MPQ, parts) == MPQ(codebooks=4)
    assert parts == MPQ(codebooks=4).to_json()
