"""Tokens of all items with the tokenizer that made them: fitted on a split, or put together again.

Whoever has an `ItemTokens` can read items as tokens, say what tokens mean, and tokenise items that come later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forethought.data.features import Feature, feature_scale, feature_shape
from forethought.data.progress import Report, silent
from forethought.data.splits import Split
from forethought.errors import DataError
from forethought.semantic_ids.all import tokenizer_config
from forethought.semantic_ids.collisions import resolve
from forethought.semantic_ids.imputation import imputed, with_imputed
from forethought.semantic_ids.inputs import (
    COLLABORATIVE,
    TAG_WIDTH,
    Collaborative,
    collaborative_vectors,
    followers,
    input_json,
    source_weights,
    tokenizer_inputs,
)
from forethought.semantic_ids.token_table import TokenTable
from forethought.semantic_ids.tokenizer import Tokenizer, TokenizerConfig
from forethought.settings import Count, Width, check, check_keys
from forethought.tensor_files import checksum


@dataclass(frozen=True, eq=False)
class ItemTokens:
    """Tokens of all items, and how they came about.

    Attributes:
        table: the tokens.
        tokenizer: fitted.
        config: of the tokenizer.
        inputs: what items are tokenised by, as `input_json` says it.
        checksum: over tokens and tokenizer.
    """

    table: TokenTable
    tokenizer: Tokenizer
    config: TokenizerConfig
    inputs: list[dict[str, Any]]
    checksum: str

    @classmethod
    def of(
        cls, table: TokenTable, tokenizer: Tokenizer, config: TokenizerConfig, inputs: list[dict[str, Any]]
    ) -> ItemTokens:
        """With the checksum of these tensors."""
        return cls(table, tokenizer, config, inputs, checksum(token_tensors(table, tokenizer)))

    def to_json(self) -> dict[str, Any]:
        """What `rebuild` makes a tokenizer and a table of the same shapes of."""
        return {"config": self.config.to_json(), "inputs": self.inputs, "checksum": self.checksum}


def token_tensors(table: TokenTable, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The codes and the tokenizer's state, by the names that files have them under."""
    state = {f"tokenizer.{name}": tensor.cpu() for name, tensor in tokenizer.state_dict().items()}
    return {"codes": table.codes_NM.cpu(), **state}


def fit_tokens(
    split: Split,
    features: Sequence[Feature],
    config: TokenizerConfig,
    seed: int,
    observer: Report = silent,
    collaborative: Collaborative | None = None,
) -> ItemTokens:
    """Tokens of a split's items; of interactions its training part alone is read.

    Args:
        features: of all items, as `read_features` gives them; none where collaborative vectors do.
        seed: of all that is drawn.
        observer: told how far it is.
        collaborative: in the place of what the training part tells of who is met with whom.

    Raises:
        DataError: nothing is known that items could be told apart by.
        ConfigError: more items share their tokens than a counter has codes.
    """
    values_NF = known_inputs(split, features, config, collaborative)
    return fit_to(values_NF, split, features, config, seed, observer, collaborative)[0]


def known_inputs(
    split: Split, features: Sequence[Feature], config: TokenizerConfig, collaborative: Collaborative | None = None
) -> Tensor:
    """What the items of a split are tokenised by, [N, F].

    Args:
        collaborative: as `fit_tokens` has it.

    Raises:
        DataError: nothing is known that items could be told apart by.
    """
    collaborative_NE = None
    if collaborative is not None:
        collaborative_NE = collaborative.vectors_NE
    elif config.collaborative != "none":
        collaborative_NE = collaborative_vectors(split, config.collaborative_width)
    return tokenizer_inputs(features, collaborative_NE)


def fit_to(
    values_NF: Tensor,
    split: Split,
    features: Sequence[Feature],
    config: TokenizerConfig,
    seed: int,
    observer: Report = silent,
    collaborative: Collaborative | None = None,
) -> tuple[ItemTokens, Tensor]:
    """As `fit_tokens`, with the inputs at hand (`known_inputs`); and the inputs as items were tokenised by them, with
    collaborative vectors of those that nobody met (`imputation.py`)."""
    width = 0 if config.collaborative == "none" else config.collaborative_width
    width = width if collaborative is None else collaborative.vectors_NE.shape[1]
    tokenizer = config.build(values_NF.shape[1])
    weights_F = source_weights(features, width)
    met_NE = values_NF[:, -width:] if width else None  # `tokenizer_inputs` has them last
    behaviour = {"collaborative_NE": met_NE, "follows_P2": followers(split) if config.follows else None}
    tokenizer.fit(values_NF, seed=seed, observer=observer, weights_F=weights_F, **behaviour)
    values_NF = with_imputed(values_NF, tokenizer, width)
    counts_N = torch.from_numpy(split.train.item_counts(split.data.n_items))
    codes = resolve(tokenizer.encode(values_NF), tokenizer, values_NF, counts_N, config.collisions)
    table = TokenTable(codes, config.size, config.ordered)
    sources = input_json(features, width, None if collaborative is None else collaborative.of)
    return ItemTokens.of(table, tokenizer, config, sources), values_NF


def rebuild(parts: Any, n_items: int) -> ItemTokens:
    """An untrained tokenizer and a table of zeros, of the shapes that `ItemTokens.to_json` describes, to be loaded.

    Raises:
        ConfigError: the description is damaged.
    """
    known = check_keys(parts, {"config": dict, "inputs": list[dict], "checksum": str}, "tokens")
    config = tokenizer_config(known["config"])
    width = sum(_width_of(each) for each in known["inputs"])
    check(width, Count, "the width of the tokens' inputs")
    codes = torch.zeros(n_items, config.table_codebooks, dtype=torch.int64)
    table = TokenTable(codes, config.size, config.ordered)
    return ItemTokens(table, config.build(width), config, known["inputs"], known["checksum"])


def _width_of(source: dict[str, Any]) -> int:
    if source.get("kind") == COLLABORATIVE:
        return check_keys(source, {"width": Width}, "tokens.inputs")["width"]
    feature_scale(source.get("scale"))
    shape = feature_shape({key: value for key, value in source.items() if key != "scale"})
    return TAG_WIDTH if shape.kind == "tags" else shape.width


def encode_new(tokens: ItemTokens, features: Sequence[Feature], *, beside: bool = True) -> Tensor:
    """Tokens of items that come later, int64 [n, M]; those of known items stay as they are.

    Nobody has met them, so that they have the collaborative vectors of the known items that are most like them. Of
    collisions they give way, to known items and to the new ones before them.

    Args:
        features: made with the scales of the fit (`data/new_items`), in the same order.
        beside: they stand beside the known items; else they are the items of other data, and give way to no known one.

    Raises:
        DataError: they are not the features that the tokens were made of, or there are none, so that nothing tells the
            new items apart.
        ConfigError: more items share their tokens than a counter has codes.
    """
    sources = [each for each in tokens.inputs if each["kind"] != COLLABORATIVE]
    if not sources:
        raise DataError(
            "The tokens were made of what users meet together alone, which tells nothing of items that nobody met: fit "
            "them with features (text, or columns of the item table)."
        )
    named, read = ([str(name) for name in names] for names in _names(sources, features))
    if named != read:
        raise DataError(
            f"The tokens were made of the features {', '.join(named)}, but the new items have {', '.join(read)}."
        )
    n = len(features[0].known_N)
    width = sum(each["width"] for each in tokens.inputs if each["kind"] == COLLABORATIVE)
    values_NF = tokenizer_inputs(features, torch.zeros(n, width) if width else None)
    values_NF = values_NF.to(tokens.tokenizer.mean_F.device)
    values_NF = imputed(values_NF, tokens.tokenizer, tokens.table.codes_NM, width)
    codes_NM = tokens.tokenizer.encode(values_NF)
    how, nobody = tokens.config.collisions, torch.zeros(n)
    return resolve(codes_NM, tokens.tokenizer, values_NF, nobody, how, taken=tokens.table if beside else None).cpu()


def _names(sources: Sequence[dict[str, Any]], features: Sequence[Feature]) -> tuple[list[Any], list[Any]]:
    return [each["name"] for each in sources], [each.shape.name for each in features]
