"""Small alignments, and runs for them."""

from __future__ import annotations

from typing import Any

from forethought.alignment.aligner import Aligner
from forethought.alignment.items import item_ranks
from forethought.alignment.settings import Alignment
from forethought.backbones.sasrec import SASRec
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRec
from forethought.recommender import Recommender, load

SMALL: dict[str, Any] = {"width": 16, "window": 8, "ffn_width": 32, "dropout": 0.2}
BRIEF = Alignment(batches=2, epochs=2, group=4, rate=0.3, batch_positions=128)


def halting_method(**settings: Any) -> DTRec:
    return DTRec(backbone=SASRec(input_norm=True, **SMALL), most_clusters=8, first_clusters=4, **settings)


def aligner(run: Recommender, split: Split, settings: Alignment = BRIEF, **more: Any) -> Aligner:
    assert run.folder is not None
    made = Aligner(load(run.folder).method, settings, item_ranks(split), **more)
    made.begin_stage("align")
    return made.train()
