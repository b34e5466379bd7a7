"""All studies by name: what `forethought study` knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from forethought.data.shop import Shop
from forethought.studies import (
    alignment,
    clusters,
    cold_items,
    decoding,
    difficulty,
    feedback,
    halting,
    intent_probing,
    layer_precision,
    length,
    noise,
    path_meaning,
)
from forethought.studies.shops import MANY_CUSTOMERS
from forethought.studies.study import Study
from forethought.studies.tables import results_table
from forethought.studies.variants import INPUT_NOISE, LATER_TARGETS, NOISY_FULL, PRIORS, PROTOTYPES

CLOSED_FORM = ("popular", "itemknn", "ease")  # what everybody must beat, in every table


def _ablation(
    name: str,
    title: str,
    question: str,
    first: str,
    *others: str,
    about: str = "",
    shops: Mapping[str, Shop] | None = None,
) -> Study:
    """The others are held against the first, and all against what no training goes into.

    Args:
        about: as of `results_table`.
    """
    variants = tuple(dict.fromkeys((first, *CLOSED_FORM, *others)))
    write = partial(results_table, study=name, about=about)
    return Study(name, title, question, variants, write, shops=shops or {}, anywhere=shops is not None)


LATENT_REASONING = (
    "sasrec",
    *CLOSED_FORM,
    "gru4rec",
    "bert4rec",
    "sasrec-deeper",
    "sasrec-norm",
    "rearec-erl",
    "rearec-prl",
    "rearec-prl-contrast",
    "lares",
    "lares-four-layers",
    "dtrec",
)

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
            "authors",
            "Reasoning as its authors set it",
            "With the settings that the authors of ReaRec and LARES published, their epochs and their patience, does "
            "thinking beat a SASRec with the very backbone, loss and training of theirs? Ours, at a quarter of the "
            "width, stand beside them.",
            *("sasrec-as-rearec-authors", "rearec-erl-authors", "rearec-prl-authors", "lares-authors"),
            *("sasrec", "rearec-erl", "rearec-prl", "lares"),
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
            "prototypes",
            "Prototypes, judged under their full weight",
            "What do prototypes add where their weight is full for at least 15 of 30 epochs: by the length of the "
            "warm-up, their number, their sharpness, and with the centre nearest to the state in place of the "
            "target's? Indicators have 32 prototypes of their own throughout, so that sight stays the same.",
            *PROTOTYPES,
            shops=MANY_CUSTOMERS,
        ),
        _ablation(
            "open-points",
            "What DTRec's summary leaves open",
            "Nearest prototypes, refined indicators, an exit before the first step, ReaRec's contrast on top, and its "
            "temperatures by step with and without prototypes.",
            *("dtrec", "dtrec-nearest", "dtrec-exit-0", "dtrec-contrast", "dtrec-tau", "dtrec-no-hps"),
            *("dtrec-tau-no-hps", "dtrec-refined"),
            about="dtrec-",
            shops=MANY_CUSTOMERS,
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
            "readouts",
            "What recommends after DTRec's last step",
            "The state of the last step as the paper's equations have it, the scores of all steps weighted by when the "
            "halting net would have stopped, or the plain mean of all states?",
            *("dtrec-last", "dtrec-weighted", "dtrec"),
        ),
        _ablation(
            "backbones",
            "DTRec on other backbones",
            "Does it carry over to GRU4Rec and BERT4Rec?",
            *("sasrec", *CLOSED_FORM, "dtrec", "gru4rec", "dtrec-gru4rec", "bert4rec", "dtrec-bert4rec"),
        ),
        _ablation(
            "width",
            "Wider, and eight steps",
            "Does a width of 256 leave more for thinking to find than 64 does?",
            *("sasrec-wide-norm", *CLOSED_FORM, "sasrec-wide", "rearec-prl-wide", "dtrec-wide"),
            *("sasrec", "sasrec-norm", "rearec-prl", "dtrec"),
        ),
        _ablation(
            "intents",
            "Intent-guided reasoning against its baselines",
            "Does reasoning over distilled intents beat tuned baselines of equal width?",
            *("sasrec", *CLOSED_FORM, "sasrec-again", "sasrec-deeper", "bert4rec"),
            *("sse-pt", "sse-pt-plain", "lightrec", "rearec-prl", "dtrec", "igr-sr", "igr-sr-no-lid", "igr-sr-texts"),
            *("igr-sr-published", "sasrec-text", "sasrec-long"),
            *("sse-pt-long", "lightrec-long", "rearec-prl-long", "dtrec-long"),
        ),
        _ablation(
            "intent-components",
            "Components of IGR-SR",
            "What does each part contribute: distilled intents (against learned ones that are the same for everybody, "
            "and profiles of item texts), cross-attention, consistency, a frozen encoder, items that start from the "
            "encoder's, and the two ways over positions?",
            *("igr-sr", "igr-sr-no-lid", "igr-sr-concat", "igr-sr-no-icr", "igr-sr-unfrozen", "igr-sr-own-items"),
            *("igr-sr-bare", "igr-sr-drops", "igr-sr-rows", "igr-sr-published", "igr-sr-texts"),
        ),
        _ablation(
            "intent-tokens",
            "Numbers of intents, prefix vectors and masks",
            "How many intents and prefix vectors are worth their cost, and how much should be masked? One setting is "
            "changed at a time.",
            *("igr-sr", "igr-sr-m-1", "igr-sr-m-2", "igr-sr-m-3", "igr-sr-m-5"),
            *("igr-sr-k-2", "igr-sr-k-8", "igr-sr-k-16"),
            *(f"igr-sr-m-{m}-k-{k}" for m in (1, 2) for k in (2, 8)),
            *("igr-sr-mask-0.1", "igr-sr-mask-0.5"),
        ),
        _ablation(
            "intent-encoders",
            "Which encoder to freeze",
            "Do intents of other encoders serve as well?",
            *("igr-sr", "igr-sr-gru4rec", "igr-sr-hstu", "igr-sr-bert4rec"),
        ),
        _ablation(
            "training-noise",
            "Noise in what is trained on",
            "What does it cost if a fifth of all interactions in the training part, targets among them, are noise? "
            "Test histories are clean. The paper does not say whether its 20% were of training or of test.",
            *("sasrec", "sasrec-noisy", "rearec-prl", "rearec-prl-noisy", "igr-sr", "igr-sr-noisy"),
        ),
        _ablation(
            "input-noise",
            "Strangers in the histories that are trained on",
            "What if, in training, a share of each history's items is replaced by others, drawn anew in each batch, "
            "and what is to be named stays? What these keep of their quality under noise is on the page of `noise`.",
            "sasrec",
            *(f"{name}-input-noise-{share}" for name, shares in INPUT_NOISE.items() for share in shares),
        ),
        _ablation(
            "later-targets",
            "Later items as targets",
            "What if, in training, the item after the next has a part of the target, and the two after that a part as "
            "much smaller each (`--later-targets`): the later items of REG4Rec's MSRA as targets, in the place of "
            "rewards? The paper's w is 0.8. Each other method stands before its own row.",
            *(row for name, shares in LATER_TARGETS.items() for row in (name, *(f"{name}-later-{w}" for w in shares))),
            about="-later-",
        ),
        _ablation(
            "evidence",
            "Features of items and evidence of crowds beside a sequence model",
            "What are texts, categories and co-occurrence worth, in the item vectors and beside the scores, and should "
            "the weights of what stands beside be fitted afterwards or trained along? What everybody must beat stands "
            "first.",
            *("sasrec", *CLOSED_FORM, "sasrec-co", "sasrec-ease", "sasrec-evidence"),
            *("sasrec-features", "sasrec-features-co", "sasrec-full", "sasrec-evidence-trained"),
            *("sasrec-full-trained", "sasrec-full-both", "sasrec-full-gate"),
            *("sasrec-long", "sasrec-full-long", "sasrec-again-full", "sasrec-full-input-noise-0.1"),
        ),
        _ablation(
            "reasoning-on-evidence",
            "Reasoning on a base that knows items and crowds",
            "Does any method that thinks before it recommends add to a SASRec with the same features, evidence, rounds "
            "and input noise?",
            *("sasrec-full", "sasrec-deeper-full", "rearec-prl-full"),
            *(f"rearec-prl-prior{n}-full" for n in PRIORS),
            *("dtrec-full", "lares-full"),
            *("sasrec-again-full", "igr-sr-full", "igr-sr-no-lid-full", "igr-sr-texts-full"),
            *(f"{name}-full-input-noise-0.1" for name in NOISY_FULL),
        ),
        _ablation(
            "semantic-ids",
            "Recommending by tokens",
            "What are tokens instead of ids worth: named at once (RPG), one after the other in an order of their own "
            "(TIGER), or in the order of confidence (REG4Rec)? Held against a SASRec that reads the same features, "
            "without evidence and with it.",
            *(
                "sasrec-features",
                "sasrec",
                "tiger",
                "tiger-tokens",
                "tiger-tokens-long",
                "rpg",
                "rpg-tokens",
                "rpg-m-8",
                "rpg-m-8-tokens",
            ),
            *("reg4rec", "reg4rec-tokens", "reg4rec-steps-8", "reg4rec-decoder", "reg4rec-no-category"),
            *("sasrec-full", "tiger-full", "rpg-full", "reg4rec-full"),
        ),
        _ablation(
            "tokenizers",
            "What makes the tokens",
            "The same method over tokens of MPQ, OPQ, residual quantisers and chance, with more and fewer of them.",
            *("rpg-m-8", "rpg-m-8-opq", "rpg-m-8-rqkmeans", "rpg-m-8-rqvae", "rpg-m-8-letter", "rpg-m-8-random"),
            "rpg-m-8-soft-index",
            *("rpg-m-4", "rpg-m-16", "rpg", "rpg-m-8-c-64", "rpg-text"),
            *("reg4rec", "reg4rec-opq", "reg4rec-rqvae", "reg4rec-letter", "reg4rec-random"),
            "reg4rec-soft-index",
            *("reg4rec-m-4", "reg4rec-m-16", "reg4rec-m-32", "reg4rec-c-64"),
            *("tiger", "tiger-letter"),
        ),
        _ablation(
            "tokens-of-vectors",
            "Tokens made of a trained model's item vectors",
            "Features join the item vectors of a SASRec (`-from-sasrec`), or of one that reads the features too "
            "(`-from-sasrec-features`), in the place of co-occurrence (`--collaborative-from`): what is that worth to "
            "each method over tokens, and do they come to what the model has whose vectors they are?",
            *("rpg-m-8-from-sasrec-features", "rpg-m-8-from-sasrec", "rpg-m-8"),
            *("reg4rec-from-sasrec-features", "reg4rec-from-sasrec", "reg4rec"),
            *("rpg-from-sasrec-features", "rpg", "reg4rec-m-32-from-sasrec-features", "reg4rec-m-32"),
            *("tiger-from-sasrec-features", "tiger", "reg4rec-full-from-sasrec-features", "reg4rec-full"),
            *("sasrec-features", "sasrec", "sasrec-full"),
        ),
        _ablation(
            "path-components",
            "Components of REG4Rec",
            "What does deciding tokens one after the other add to naming all at once over the same tokens (RPG), and "
            "what does each part contribute: the state that is carried along, MPQ's tokens, the category task, and a "
            "decoder of its own in place of a single stack? And does twice the training part them (`-long`)? Orders of "
            "decoding and pruning are on the page of `token-decoding`.",
            *("reg4rec", "rpg-m-8", "reg4rec-long", "rpg-m-8-long"),
            *("reg4rec-token-alone", "reg4rec-no-category", "reg4rec-decoder"),
            *("reg4rec-steps-8", "reg4rec-tokens", "reg4rec-rqvae", "reg4rec-opq", "reg4rec-random"),
        ),
        _ablation(
            "more-tokens",
            "Deciding 32 tokens one after the other",
            "Over 8 tokens REG4Rec is level with RPG, which names them all at once (`path-components`). Is it over 32?",
            *("rpg", "reg4rec-m-32"),
        ),
        decoding.STUDY,
        path_meaning.STUDY,
        cold_items.STUDY,
        alignment.STUDY,
        feedback.STUDY,
        *layer_precision.STUDIES,
        halting.STUDY,
        clusters.STUDY,
        intent_probing.STUDY,
        length.STUDY,
        difficulty.STUDY,
        noise.study(
            (
                *(*LATENT_REASONING, "sasrec-again", "sse-pt", "lightrec", "igr-sr"),
                *("igr-sr-no-lid", "igr-sr-texts", "igr-sr-no-icr", "sasrec-noisy", "igr-sr-noisy"),
                *(f"{name}-input-noise-{share}" for name, shares in INPUT_NOISE.items() for share in shares),
            )
        ),
    )
}
