"""The methods of the command line, small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from forethought.config import MethodConfig
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.lares import LARES
from forethought.methods.sse_pt import SSEPT
from forethought.recipes import METHODS

SMALL = {"width": 16, "window": 12, "dropout": 0.0, "ffn_width": 32, "head_width": 8, "neighbours": 40}


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
    if isinstance(method, SSEPT):  # shares seldom, so that twenty histories can be learned by heart
        changed |= {"width": 2 * changed.get("width", SMALL["width"])}
        method = replace(method, user_width=changed["width"] // 2, replace_user=0.2, replace_item=0.01)
    if isinstance(method, IGRSR):  # a second network, as small as its encoder; its recipe's stage of pre-training
        own = {key: value for key, value in (SMALL | changed).items() if hasattr(method.reasoner, key)}
        method = replace(method, reasoner=replace(method.reasoner, **own), encoder_epochs=1)
    settings = {key: value for key, value in (SMALL | changed).items() if hasattr(method.backbone, key)}
    return replace(method, backbone=replace(method.backbone, **settings))  # type: ignore[arg-type]
