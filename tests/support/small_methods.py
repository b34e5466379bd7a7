"""The methods of the command line, small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forethought.config import MethodConfig
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.interface import Method
from forethought.methods.item_tokens import TokenMethodConfig, token_shape_of, with_tokens
from forethought.methods.lares import LARES
from forethought.methods.lightrec import LightRec
from forethought.methods.outside import SideInformation
from forethought.methods.reg4rec import REG4Rec
from forethought.methods.sse_pt import SSEPT
from forethought.methods.tiger import TIGER
from forethought.methods.token_heads import TokenHeadsConfig
from forethought.recipes import METHODS
from forethought.references import resolve
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.tokenizer import TokenizerConfig

SMALL = {"width": 16, "window": 12, "dropout": 0.0, "ffn_width": 32, "head_width": 8, "neighbours": 40}
SMALL |= {"input_dropout": None, "attention_dropout": 0.0}

SMALL_TOKENS = RQKMeans(codebooks=3, size=8, components=8, collaborative_width=8, collisions="greedy")
SMALL_TIGER_TOKENS = replace(SMALL_TOKENS, codebooks=2, collisions="counter")

_SIDES: dict[tuple[str, str, str], SideInformation] = {}


def small(name: str, **changed: Any) -> MethodConfig:
    """The recipe of a method, small; of its clusters there are fewer than items."""
    method = METHODS[name]().method
    if isinstance(method, DTRec):
        method = replace(method, first_clusters=4, most_clusters=16)
    if method.closed_form:  # has neither layers nor dropout
        return replace(method, **{key: value for key, value in (SMALL | changed).items() if hasattr(method, key)})
    if isinstance(method, LARES):  # brings its own layers; an epoch of each of its stages
        method = replace(method, reinforcement=replace(method.reinforcement, epochs=1))
        return replace(method, **{key: value for key, value in (SMALL | changed).items() if hasattr(method, key)})
    if isinstance(method, SSEPT):  # shares seldom and truly, so that twenty histories can be learned by heart
        method = replace(method, labels_too=False, loss=replace(method.loss, kind="ce"))
        changed |= {"width": 2 * changed.get("width", SMALL["width"])}
        method = replace(method, user_width=changed["width"] // 2, replace_user=0.2, replace_item=0.01)
    if (
        isinstance(method, LightRec) and method.pretrained
    ):  # base vectors as long as trained ones, so that few are twins
        method = replace(method, item_std=1.0, loss=replace(method.loss, kind="ce", l2=0.0))
    if isinstance(method, IGRSR):  # a second network, as small as its encoder; its recipe's stage of pre-training
        own = {key: value for key, value in (SMALL | changed).items() if hasattr(method.reasoner, key)}
        method = replace(method, reasoner=replace(method.reasoner, **own), encoder_epochs=1)
    if isinstance(method, REG4Rec):
        method = replace(method, tokenizer=SMALL_TOKENS, steps=3, confident_from=1)
    elif isinstance(method, TokenHeadsConfig):
        method = replace(method, tokenizer=SMALL_TOKENS)
    if isinstance(method, TIGER):
        method = replace(method, tokenizer=SMALL_TIGER_TOKENS)
        return replace(method, **{key: value for key, value in (SMALL | changed).items() if hasattr(method, key)})
    settings = {key: value for key, value in (SMALL | changed).items() if hasattr(method.backbone, key)}
    return replace(method, backbone=replace(method.backbone, **settings))  # type: ignore[arg-type]


def built(name: str, split: Split, **changed: Any) -> Method:
    """The method as `small` has it, untrained; of tokens it has been told."""
    return built_of(small(name, **changed), split)


def built_of(config: MethodConfig, split: Split) -> Method:
    """The method of a configuration, untrained; of tokens it has been told."""
    method = config.build(split.data.sizes)
    if isinstance(config, TokenMethodConfig):
        side = _side(split, config.tokenizer)
        with_tokens(method, token_shape_of(side.tokens)).fit_side_information(side)
    return method


def _side(split: Split, tokenizer: TokenizerConfig) -> SideInformation:
    """With tokens that are made once for each split."""
    key = (split.data.data_hash, str(split.protocol), str(tokenizer))
    if key not in _SIDES:
        config = replace(METHODS["rpg"]().method, tokenizer=tokenizer)  # type: ignore[arg-type]
        _SIDES[key] = resolve(config, split, Features(use="categories,price"))
    return _SIDES[key]
