"""Methods over tokens, small enough for a test, with tokens of the shop that are made at once."""

from __future__ import annotations

from typing import Any

import torch

from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import Method
from forethought.methods.item_tokens import TokenItems, token_shape_of, with_tokens
from forethought.methods.outside import SideInformation
from forethought.references import resolve
from forethought.semantic_ids.opq import OPQ

TOKENIZER = OPQ(codebooks=3, size=6, collisions="keep", collaborative_width=4, components=12, turns=2)


def side(split: Split, config: MethodConfig) -> SideInformation:
    """What the method takes from outside of the histories."""
    return resolve(config, split, Features(use="categories,brand"))


def token_model(config: MethodConfig, split: Split, **changed: Any) -> Any:
    """The method in float64, knowing the shop's tokens, with weights large enough that mistakes show."""
    known = side(split, config)
    torch.manual_seed(0)
    model: Method = with_tokens(config.build(split.data.sizes), token_shape_of(known.tokens))
    model.fit_side_information(known)
    model = model.double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    return model


def tokens_of(model: Method) -> TokenItems:
    return next(part for part in model.modules() if isinstance(part, TokenItems))
