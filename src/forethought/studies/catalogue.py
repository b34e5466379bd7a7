"""All studies by name: what `forethought study` knows."""

from __future__ import annotations

from functools import partial

from forethought.studies import clusters, halting, noise
from forethought.studies.study import Study
from forethought.studies.tables import standing


def _ablation(name: str, title: str, question: str, *variants: str) -> Study:
    return Study(name, title, question, variants, partial(standing, study=name))


LATENT_REASONING = ("sasrec", "gru4rec", "bert4rec", "sasrec-deeper", "rearec-erl", "rearec-prl", "lares", "dtrec")

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        _ablation(
            "latent-reasoning",
            "Latent reasoning against plain backbones of equal width",
            "Does thinking before recommending beat a tuned SASRec with full cross-entropy?",
            *LATENT_REASONING,
        ),
        _ablation(
            "hps",
            "Hierarchical process supervision",
            "What do prototypes add, must their number rise from step to step, and is the warm-up needed? The paper "
            "has NDCG@10 .0265 with and .0258 without warm-up on Sports.",
            *("dtrec", "dtrec-fixed-k", "dtrec-no-hps", "dtrec-warmup-0"),
        ),
        _ablation(
            "warm-up",
            "Length of the warm-up",
            "How many epochs should the weight of the prototype loss take to rise?",
            *("dtrec-warmup-10", "dtrec-warmup-0", "dtrec-warmup-5", "dtrec-warmup-15"),
        ),
        _ablation(
            "sensitivity",
            "Sensitivity of DTRec",
            "How much do the number of prototypes, the speed of its rise and the size of the halting net matter? "
            "One setting is changed at a time.",
            "dtrec",
            *("dtrec-k0-16", "dtrec-k0-128", "dtrec-kupper-512", "dtrec-kupper-3000"),
            *("dtrec-alpha-0.3", "dtrec-alpha-2.0", "dtrec-head-4", "dtrec-head-64"),
        ),
        _ablation(
            "backbones",
            "DTRec on other backbones",
            "Does it carry over to GRU4Rec and BERT4Rec?",
            *("sasrec", "dtrec", "gru4rec", "dtrec-gru4rec", "bert4rec", "dtrec-bert4rec"),
        ),
        halting.STUDY,
        clusters.STUDY,
        noise.study(LATENT_REASONING),
    )
}
