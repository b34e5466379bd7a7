"""Forethought: sequential recommenders that think before they recommend.

Names are imported when they are first used, so that `import forethought` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forethought.version import __version__

if TYPE_CHECKING:
    from forethought.aligning import align
    from forethought.alignment.settings import Alignment, HaltingRewards, PathRewards
    from forethought.backbones.all import *
    from forethought.backbones.interface import Backbone, BackboneConfig, Encoding
    from forethought.batch_recommend import recommend_table
    from forethought.config import Recipe, read_recipe, write_recipe
    from forethought.data.columns import Columns
    from forethought.data.doctor import diagnose
    from forethought.data.features import Features
    from forethought.data.interactions import Interactions
    from forethought.data.leakage import leakage
    from forethought.data.noise import Noise
    from forethought.data.prepare import Filters, PrepareConfig, keep_split, open_prepared, prepare
    from forethought.data.reading import read
    from forethought.data.sentences import embed
    from forethought.data.shop import Shop
    from forethought.data.split_tables import split_of_tables
    from forethought.data.splits import (
        Split,
        SplitConfig,
        by_column,
        by_session,
        custom_split,
        leave_last_out,
        leave_last_session_out,
        temporal,
    )
    from forethought.data.sql import sql
    from forethought.ensembling import ensemble
    from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
    from forethought.evaluation.compare import compare
    from forethought.evaluation.metrics import Metric
    from forethought.evaluation.outside_scores import evaluate_scores
    from forethought.evaluation.report import Evaluation
    from forethought.evaluation.sampled import Sample
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.explaining.explanation import Explanation
    from forethought.exporting.export import Exported, export
    from forethought.extending import extend
    from forethought.later_data import later_split
    from forethought.methods.all import *
    from forethought.methods.configuration import MethodConfig
    from forethought.methods.igr_sr import Consistency
    from forethought.methods.interface import Method
    from forethought.methods.items import ItemLoss
    from forethought.methods.lares import Reinforcement
    from forethought.noise_curves import RobustnessConfig, robustness
    from forethought.publishing import pull, push
    from forethought.reasoning.halting import Halting
    from forethought.reasoning.intent_reasoner import Reasoner
    from forethought.recipes import recipe
    from forethought.recommender import Recommender, load
    from forethought.reporting import report
    from forethought.reports.saving import save_results
    from forethought.runs import evaluate, train
    from forethought.semantic_ids.all import *
    from forethought.tokenizing import Tokenized, tokenize
    from forethought.training.settings import Training
    from forethought.transferring import transfer
    from forethought.tuning.report import Tuning
    from forethought.tuning.tuner import tune

_ROOMS = {
    "aligning": ("align",),
    "alignment.settings": ("Alignment", "HaltingRewards", "PathRewards"),
    "backbones.interface": ("Backbone", "BackboneConfig", "Encoding"),
    "config": ("Recipe", "read_recipe", "write_recipe"),
    "data.columns": ("Columns",),
    "data.doctor": ("diagnose",),
    "data.evidence": ("Evidence",),
    "data.features": ("Features",),
    "data.interactions": ("Interactions",),
    "data.leakage": ("leakage",),
    "data.noise": ("Noise",),
    "data.prepare": ("Filters", "PrepareConfig", "keep_split", "open_prepared", "prepare"),
    "data.reading": ("read",),
    "data.sentences": ("embed",),
    "data.shop": ("Shop",),
    "data.split_tables": ("split_of_tables",),
    "data.splits": (
        *("Split", "SplitConfig", "by_column", "by_session", "custom_split", "leave_last_out"),
        *("leave_last_session_out", "temporal"),
    ),
    "data.sql": ("sql",),
    "ensembling": ("ensemble",),
    "errors": ("ConfigError", "DataError", "ForethoughtError", "RunError"),
    "evaluation.compare": ("compare",),
    "evaluation.metrics": ("Metric",),
    "evaluation.outside_scores": ("evaluate_scores",),
    "evaluation.report": ("Evaluation",),
    "evaluation.sampled": ("Sample",),
    "evaluation.settings": ("EvaluationConfig",),
    "explaining.explanation": ("Explanation",),
    "exporting.export": ("Exported", "export"),
    "extending": ("extend",),
    "later_data": ("later_split",),
    "methods.igr_sr": ("Consistency",),
    "methods.configuration": ("MethodConfig",),
    "methods.interface": ("Method",),
    "methods.items": ("ItemLoss",),
    "methods.lares": ("Reinforcement",),
    "publishing": ("pull", "push"),
    "recipes": ("recipe",),
    "reporting": ("report",),
    "reports.saving": ("save_results",),
    "recommender": ("Recommender", "load"),
    "noise_curves": ("RobustnessConfig", "robustness"),
    "runs": ("evaluate", "train"),
    "batch_recommend": ("recommend_table",),
    "reasoning.intent_reasoner": ("Reasoner",),
    "reasoning.halting": ("Halting",),
    "tokenizing": ("Tokenized", "tokenize"),
    "training.settings": ("Training",),
    "transferring": ("transfer",),
    "tuning.report": ("Tuning",),
    "tuning.tuner": ("tune",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def _choices() -> dict[str, type]:
    """Backbones and methods, from the one table of each."""
    from forethought.config import TYPES

    return {cls.__name__: cls for cls in TYPES.values()}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _ROOM_OF:
        value = getattr(importlib.import_module(f"forethought.{_ROOM_OF[name]}"), name)
    elif name[:1].isupper() and name in (choices := _choices()):  # modules, which are asked for likewise, are not
        value = choices[name]
    else:
        raise AttributeError(f"module 'forethought' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_ROOM_OF, *_choices(), "__version__"])
