"""What reads all item vectors in one place says so where a process holds a part of them, instead of using that part."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.catalogue.ann import ANNIndex
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.split import Shard
from forethought.data.batches import lists_batch
from forethought.data.interactions import DataSizes
from forethought.errors import ConfigError
from forethought.explaining.explain import explain
from forethought.methods.interface import Method
from forethought.methods.lightrec import LightRec
from forethought.methods.next_item import NextItem
from forethought.reasoning.halting import softmax_stats
from forethought.reasoning.prototypes import Prototypes
from forethought.recipes import METHODS

PART = Catalogue(torch.eye(4), shard=Shard(5, 9))
SENTENCE = "{} needs all items in one process, and this one holds 4 of 9: load the run once it is trained, or"


def refused(purpose: str) -> Any:
    return pytest.raises(ConfigError, match=SENTENCE.format(purpose))


def test_a_whole_catalogue_is_itself() -> None:
    whole = Catalogue(torch.eye(4))
    assert whole.whole("Anything") is whole


def test_prototypes_are_not_those_of_a_part() -> None:
    made = Prototypes([2], 9, 4, unit=True)
    with refused("Clustering items into prototypes"):
        made.make(PART, epoch=0)
    assert int(made.made_in) == -1


def test_an_index_is_not_of_a_part() -> None:
    with refused("Building an index of neighbours"):
        ANNIndex.build(PART)


def test_items_are_not_counted_in_a_part() -> None:
    with refused("Counting items by prototypes"):
        softmax_stats(torch.ones(1, 4), PART, torch.ones(4))


def test_a_part_explains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    method = NextItem(backbone=SASRec(width=4, heads=1)).build(DataSizes(9)).eval()
    monkeypatch.setattr(method, "catalogue", lambda: PART)
    history: Any = np.array([1, 2])
    with refused("Explaining"):
        explain(method, lists_batch([history], 5), Any, history=history, dropped=[], k=2)  # type: ignore[arg-type]


def test_codebooks_are_not_those_of_a_part() -> None:
    method = LightRec(backbone=SASRec(width=4, heads=1), codebooks=2, codewords=3).build(DataSizes(9))
    with pytest.raises(ConfigError, match="a table of codewords is not split over several"):
        method.items.split(Shard(5, 9), slice(5, 9))
    assert len(method.items.weight) == 9


def test_a_method_that_can_be_split_reads_no_table_of_its_own_accord() -> None:
    """It would read a part; lookups, losses and the catalogue know of the others."""
    classes = {type(METHODS[name]().method.build(DataSizes(9, 3))) for name in METHODS}
    can = [each for each in classes if each.split_items is not Method.split_items]
    assert len(can) == 2
    for each in can:
        source = inspect.getsource(sys.modules[each.__module__])
        assert re.findall(r"items\.(?:weight|bias|vectors)|(?:vectors|scaled|comparable)_ND", source) == []
