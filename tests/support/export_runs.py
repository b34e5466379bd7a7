"""Runs to export: tiny methods with random weights, as if they had been trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from small_methods import built_of, small

from forethought.config import RunConfig
from forethought.data.evidence import Evidence, EvidenceShape
from forethought.data.popularity import with_counts
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRecModel
from forethought.methods.interface import Method
from forethought.methods.items import with_evidence
from forethought.methods.reg4rec import REG4RecModel
from forethought.recommender import Recommender


def run_of(
    name: str,
    split: Split,
    change: Callable[[Method], None] | None = None,
    sizes: Mapping[str, int] | None = None,
    **changed: Any,
) -> Recommender:
    """A run without a folder.

    Args:
        name: of the method on the command line.
        change: what is done to the built method.
        sizes: as `small_methods.small` takes them.
        changed: settings of the method's configuration.
    """
    torch.manual_seed(0)
    config = replace(small(name, **(sizes or {})), **changed)
    method, data = built_of(config, split).eval(), split.data
    for parameter in method.parameters():  # norms, biases and what begins at zero
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    if isinstance(method, DTRecModel):
        method.begin_epoch(0)
    if isinstance(method, REG4RecModel):
        method.path_share.fill_(0.0)
    if change is not None:
        change(method)
    about = {"data": "shop", "data_hash": data.data_hash, "users": 80, "items": 40, "exclude_history": True}
    items = with_counts(data.item_table, split.train)
    return Recommender(method, RunConfig(method=config), data.items, items, about)


def speaking(method: Method, *, gate: bool = False) -> None:
    """Give a method evidence of three kinds, drawn."""
    shapes = [EvidenceShape("co_occurrence", "met", 5), EvidenceShape("text", "like", 7)]
    shapes.append(EvidenceShape("popular", "popular", 1))
    config = Evidence(use="co_occurrence,text,popular", last=4, gate=gate, fit="training" if gate else "validation")
    evidence = with_evidence(method, config, shapes).evidence
    assert evidence is not None
    n_items = method.n_items
    evidence.items_NK.copy_(torch.stack([torch.randperm(n_items)[:13] for _ in range(n_items)]))
    evidence.items_NK[:, 12] = torch.randperm(n_items)
    evidence.values_NK.copy_(torch.rand(n_items, 13) * (torch.rand(n_items, 13) < 0.7))
    evidence.weights_E.data.copy_(torch.tensor([2.0, 0.7, 1.3]))
    if evidence.gate_ED is not None:
        evidence.gate_ED.data.normal_()
