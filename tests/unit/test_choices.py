"""What follows from the lists of backbones and methods, and what every entry of them answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args, get_type_hints

import pytest
import torch

import forethought as ft
from forethought.backbones import all as backbones
from forethought.backbones.all import BACKBONES
from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.bsarec import BSARec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.interface import BackboneConfig
from forethought.backbones.sasrec import SASRec
from forethought.config import NAMES, TYPES, RunConfig, as_method
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.methods.all import METHODS
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.methods.sse_pt import SSEPT
from forethought.recipes import backbones_of
from forethought.semantic_ids.all import TOKENIZERS


def test_the_lists_hold_what_they_held() -> None:
    """Names stand in run folders, so none may change."""
    assert {"sasrec": SASRec, "gru4rec": GRU4Rec, "bert4rec": BERT4Rec, "hstu": HSTU, "bsarec": BSARec} == BACKBONES
    assert list(METHODS) == [
        *("next_item", "masked_item", "rearec", "dtrec", "lares", "sse_pt", "lightrec", "igr_sr"),
        *("tiger", "rpg", "reg4rec"),
        *("popular", "item_knn", "ease", "ensemble"),
    ]
    assert list(TOKENIZERS) == ["mpq", "rq_vae", "rq_kmeans", "opq", "random_tokens"]
    assert METHODS | BACKBONES | TOKENIZERS == TYPES
    assert {name: cls for cls, name in NAMES.items()} == TYPES


def test_what_a_field_may_hold_follows_from_the_list() -> None:
    assert get_args(backbones.AnyBackbone) == (SASRec, GRU4Rec, BERT4Rec, HSTU, BSARec)
    assert get_args(backbones.CausalBackbone) == (SASRec, GRU4Rec, HSTU, BSARec)
    assert backbones.BidirectionalBackbone is BERT4Rec
    assert get_args(get_type_hints(RunConfig)["method"]) == tuple(METHODS.values())
    with pytest.raises(
        ConfigError, match=r"NextItem's backbone is BERT4Rec\(.*, but must be SASRec\(\.\.\.\), GRU4Rec"
    ):
        NextItem(backbone=BERT4Rec())


@pytest.mark.parametrize("config", [SASRec(), GRU4Rec(), BERT4Rec(), HSTU(), HSTU(use_times=False), BSARec()], ids=str)
def test_a_network_is_what_its_configuration_said(config: BackboneConfig) -> None:
    config = replace(config, width=8, window=5)
    network = config.build()
    assert (network.width, network.window) == (config.width, config.window) == (8, 5)
    assert (network.causal, network.needs_times) == (config.causal, config.needs_times)
    assert config.needs_times == getattr(config, "use_times", False)
    assert isinstance(as_method(config), NextItem if config.causal else MaskedItem)


def test_causal_is_what_it_says() -> None:
    """A later item moves earlier states of the others alone."""
    for cls in BACKBONES.values():
        torch.manual_seed(0)
        network = cls(width=8, window=5).build().eval()
        x_BLD, times_BL = torch.randn(1, 5, 8), torch.arange(5)[None] * 3600
        y_BLD = torch.cat([x_BLD[:, :4], torch.randn(1, 1, 8)], dim=1)
        first, second = (network.encode(z, torch.tensor([5]), times=times_BL).states_BLD for z in (x_BLD, y_BLD))
        assert torch.allclose(first[:, :4], second[:, :4]) == cls.causal


def test_backbones_that_a_method_can_be_put_on() -> None:
    assert backbones_of("dtrec") == backbones_of("igr-sr") == tuple(BACKBONES)
    assert backbones_of("sasrec") == backbones_of("lightrec") == backbones_of("lares") == ()


def test_what_can_be_chosen_is_a_name_of_the_package() -> None:
    names = {cls.__name__ for cls in TYPES.values()}
    assert names <= set(dir(ft))
    assert all(getattr(ft, cls.__name__) is cls for cls in TYPES.values())
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = ft.Nothing


@dataclass(frozen=True, kw_only=True)
class Dated(BERT4Rec):
    @property
    def needs_times(self) -> bool:
        return True


def test_data_that_cannot_serve_a_backbone(split: Split) -> None:
    undated = replace(split.data, histories=replace(split.data.histories, times=None))
    bare = replace(split, train=replace(split.train, histories=undated.histories), data=undated)
    with pytest.raises(DataError, match="HSTU as configured needs the time of each interaction"):
        NextItem(backbone=HSTU()).check(bare)
    NextItem(backbone=HSTU(use_times=False)).check(bare)
    NextItem(backbone=HSTU()).check(split)
    with pytest.raises(ConfigError, match=r"Dated as configured needs the time .*, and a \[MASK\] has none"):
        MaskedItem(backbone=Dated()).check(split)
    with pytest.raises(ConfigError, match=r"BERT4Rec's window counts the \[MASK\] too and must be 2 at least, not 1"):
        MaskedItem(backbone=BERT4Rec(window=1)).check(split)


def test_a_vector_a_user_for_no_users() -> None:
    with pytest.raises(ConfigError, match="SSE-PT keeps a vector a user and cannot be built for none"):
        SSEPT().build(DataSizes(10))
