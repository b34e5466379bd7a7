"""Forethought: sequential recommenders that think before they recommend.

Names are imported when they are first used, so that `import forethought` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forethought.version import __version__

if TYPE_CHECKING:
    from forethought.backbones.bert4rec import BERT4Rec
    from forethought.backbones.gru4rec import GRU4Rec
    from forethought.backbones.hstu import HSTU
    from forethought.backbones.sasrec import SASRec
    from forethought.data.doctor import diagnose
    from forethought.data.interactions import Interactions
    from forethought.data.leakage import leakage
    from forethought.data.noise import Noise
    from forethought.data.prepare import open_prepared, prepare
    from forethought.data.reading import read
    from forethought.data.sentences import embed
    from forethought.data.shop import Shop
    from forethought.data.splits import Split, leave_last_out, temporal
    from forethought.data.sql import sql
    from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
    from forethought.evaluation.compare import compare
    from forethought.evaluation.report import Evaluation
    from forethought.explaining.explanation import Explanation
    from forethought.methods.dtrec import DTRec
    from forethought.methods.igr_sr import IGRSR, Consistency
    from forethought.methods.items import ItemLoss
    from forethought.methods.lares import LARES, Reinforcement
    from forethought.methods.lightrec import LightRec
    from forethought.methods.masked_item import MaskedItem
    from forethought.methods.next_item import NextItem
    from forethought.methods.rearec import ReaRec
    from forethought.methods.sse_pt import SSEPT
    from forethought.recommender import Recommender, load
    from forethought.robustness import robustness
    from forethought.runs import evaluate, train
    from forethought.scoring import recommend_table
    from forethought.thinking.deliberation import Reasoner
    from forethought.thinking.halting import Halting
    from forethought.training.settings import Training

_ROOMS = {
    "backbones.bert4rec": ("BERT4Rec",),
    "backbones.gru4rec": ("GRU4Rec",),
    "backbones.hstu": ("HSTU",),
    "backbones.sasrec": ("SASRec",),
    "data.doctor": ("diagnose",),
    "data.interactions": ("Interactions",),
    "data.leakage": ("leakage",),
    "data.noise": ("Noise",),
    "data.prepare": ("open_prepared", "prepare"),
    "data.reading": ("read",),
    "data.sentences": ("embed",),
    "data.shop": ("Shop",),
    "data.splits": ("Split", "leave_last_out", "temporal"),
    "data.sql": ("sql",),
    "errors": ("ConfigError", "DataError", "ForethoughtError", "RunError"),
    "evaluation.compare": ("compare",),
    "evaluation.report": ("Evaluation",),
    "explaining.explanation": ("Explanation",),
    "methods.dtrec": ("DTRec",),
    "methods.igr_sr": ("IGRSR", "Consistency"),
    "methods.items": ("ItemLoss",),
    "methods.lares": ("LARES", "Reinforcement"),
    "methods.lightrec": ("LightRec",),
    "methods.masked_item": ("MaskedItem",),
    "methods.next_item": ("NextItem",),
    "methods.rearec": ("ReaRec",),
    "methods.sse_pt": ("SSEPT",),
    "recommender": ("Recommender", "load"),
    "robustness": ("robustness",),
    "runs": ("evaluate", "train"),
    "scoring": ("recommend_table",),
    "thinking.deliberation": ("Reasoner",),
    "thinking.halting": ("Halting",),
    "training.settings": ("Training",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = [*_ROOM_OF, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'forethought' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"forethought.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
