"""A run before it has its weights: its method, made of what a folder says of it, and what it says of its data."""

from __future__ import annotations

from typing import Any

from forethought.config import RunConfig, from_json
from forethought.data.evidence import evidence_shape
from forethought.data.features import feature_shape
from forethought.data.interactions import DataSizes
from forethought.data.later import seen_until
from forethought.data.origin import NOT_KNOWN
from forethought.data.splits import Split
from forethought.evaluation import protocol as protocols
from forethought.evaluation.storage import plain
from forethought.methods.ensemble import Ensemble
from forethought.methods.interface import Method
from forethought.methods.item_tokens import token_shape, with_tokens
from forethought.methods.items import with_evidence, with_features
from forethought.settings import check

SEEN_UNTIL = "seen_until"


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


def data_about(config: RunConfig, split: Split) -> dict[str, Any]:
    """What a run folder says of its data."""
    exclude, origin = config.exclude_history, split.data.origin
    return {
        "data": split.data.name,
        "data_hash": split.data.data_hash,
        **(NOT_KNOWN if origin is None else origin.noted()),
        "users": split.data.n_users,
        "items": split.data.n_items,
        "interactions": len(split.data),
        "protocol": plain(split.protocol),
        SEEN_UNTIL: seen_until(split),
        "exclude_history": protocols.excludes_history(split.data) if exclude is None else exclude,
    }
