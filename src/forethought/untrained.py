"""The method of a run folder before it has its weights, made of what the folder says of it."""

from __future__ import annotations

from typing import Any

from forethought.config import RunConfig, from_json
from forethought.data.evidence import evidence_shape
from forethought.data.features import feature_shape
from forethought.data.interactions import DataSizes
from forethought.methods.ensemble import Ensemble
from forethought.methods.interface import Method
from forethought.methods.item_tokens import token_shape, with_tokens
from forethought.methods.items import with_evidence, with_features
from forethought.settings import check


def untrained(config: RunConfig, about: dict[str, Any], sizes: DataSizes) -> Method:
    """The method of a run folder, before it has its weights."""
    if isinstance(config.method, Ensemble):
        members = []
        check(about.get("members"), list[dict], "about.members")
        for each in about["members"]:
            member = from_json(RunConfig, each["config"])
            if isinstance(member.method, Ensemble):
                raise ValueError("a member of its ensemble is one itself")
            members.append(untrained(member, each, sizes))
        return config.method.of(members)
    shapes = [feature_shape(shape) for shape in about.get("features", [])]
    speaking = [evidence_shape(shape) for shape in about.get("evidence", [])]
    tokens = token_shape(about["tokens"]) if about.get("tokens") else None
    method = with_features(with_tokens(config.method.build(sizes), tokens), shapes)
    return with_evidence(method, config.evidence, speaking)
