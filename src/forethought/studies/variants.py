"""Every variant that a study trains, by name: a recipe, or one with a setting changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from forethought.aligning import aligned
from forethought.alignment.settings import Alignment
from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.noise import Noise
from forethought.methods.reg4rec import REG4Rec
from forethought.precision.settings import LADQ
from forethought.recipes import METHODS, on_backbone
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.random_tokens import RandomTokens
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.rq_vae import RQVAE
from forethought.semantic_ids.tokenizer import TokenizerConfig
from forethought.studies.aligned_variants import ALIGNED


def changed(name: str, **settings: Any) -> Callable[[], Recipe]:
    """A recipe whose method has other settings; a dict stands for settings of a part, such as its backbone."""

    def make() -> Recipe:
        recipe = METHODS[name]()
        parts = {key: replace(getattr(recipe.method, key), **v) for key, v in settings.items() if isinstance(v, dict)}
        return replace(recipe, method=replace(recipe.method, **settings | parts))  # type: ignore[arg-type]

    return make


def noisy(name: str) -> Callable[[], Recipe]:
    """Trained where a fifth of all positions hold items that nobody met."""
    return lambda: replace(METHODS[name](), noise=Noise(kind="replace", share=0.2))


def trained(name: str, **settings: Any) -> Callable[[], Recipe]:
    """A variant with other settings of the training loop."""

    def make() -> Recipe:
        recipe = VARIANTS[name]()
        return replace(recipe, training=replace(recipe.training, **settings))

    return make


def knowing(name: str, features: Features | None, evidence: Evidence | None) -> Callable[[], Recipe]:
    """A recipe that reads features of the items, and has evidence beside its scores."""
    return lambda: replace(VARIANTS[name](), features=features, evidence=evidence)


def text_alone(name: str) -> Callable[[], Recipe]:
    """A recipe that reads the texts of the items, and no other feature."""
    return knowing(name, Features(use="text"), None)


def lasting(name: str, epochs: int, **training: Any) -> Callable[[], Recipe]:
    """One schedule over so many epochs."""

    def make() -> Recipe:
        recipe = VARIANTS[name]()
        return replace(recipe, training=replace(recipe.training, epochs=epochs, **training))

    return make


def like(name: str, other: str) -> Callable[[], Recipe]:
    """A recipe on the backbone, with the loss and the training of another method's."""

    def make() -> Recipe:
        recipe, model = METHODS[name](), METHODS[other]()
        alike = {part: getattr(model.method, part) for part in ("backbone", "loss", "item_std")}
        return replace(model, method=replace(recipe.method, **alike))  # type: ignore[arg-type]

    return make


def on(name: str, backbone: str) -> Callable[[], Recipe]:
    return lambda: on_backbone(METHODS[name](), backbone)


def level(name: str, epochs: int = 12, **settings: Any) -> Callable[[], Recipe]:
    """A recipe of width 32 that trains for so many epochs whatever the validation part says, as all others do."""

    def make() -> Recipe:
        recipe = changed(name, **settings)()
        return replace(recipe, training=replace(recipe.training, epochs=epochs, patience=epochs))

    return make


def with_layers(name: str, settings: dict[str, Any], **method: Any) -> Callable[[], Recipe]:
    """A small model of two layers whose linear layers are narrowed so; everything else is float32.

    Batches are small, so that the fourteen epochs of a small shop have several samplings.
    """

    def make() -> Recipe:
        recipe = changed(name, backbone=TWO_NARROW, **method)()
        ladq = LADQ(force=True, **settings) if settings else LADQ()
        return replace(recipe, training=replace(recipe.training, batch_positions=256, precision="32", ladq=ladq))

    return make


def in_small_batches(name: str, **settings: Any) -> Callable[[], Recipe]:
    """For shops of a thousand users, so that fourteen epochs are some hundred steps."""

    def make() -> Recipe:
        recipe = changed(name, **settings)()
        return replace(recipe, training=replace(recipe.training, batch_positions=256))

    return make


def longer_prototypes(**settings: Any) -> Callable[[], Recipe]:
    """DTRec with prototypes under their full weight for 15 epochs of 30 or more, seen by indicators of their own.

    A run of 14 epochs has hardly warmed up, and says nothing of prototypes; coarse indicators see the first step's
    prototypes, so that another k_0 would also change when rows halt.
    """

    def make() -> Recipe:
        recipe = changed("dtrec", indicator_clusters=32, **settings)()
        return replace(recipe, training=replace(recipe.training, epochs=PROTOTYPE_EPOCHS, patience=PROTOTYPE_EPOCHS))

    return make


NARROW = {"width": 32, "ffn_width": 128}
TWO_NARROW = {**NARROW, "layers": 2, "window": 16}
LAYERS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"assign": "bf16"},
    "fp8": {"assign": "fp8"},
    "tolerance": {"assign": "tolerance"},
    "budget": {"assign": "budget", "budget": 0.4},  # of bits: between bfloat16's half and float8's quarter
    **{f"tolerance-every-{n}": {"assign": "tolerance", "every": n} for n in (100, 400)},  # 200, halved and doubled
}
"""Precision of linear layers: one format, or adapted; all are forced."""
PROTOTYPE_EPOCHS = 30
PONDER = 0.05  # weight of the prior that holds p_halt near a half, so that neither end takes all
PROTOTYPES: dict[str, dict[str, Any]] = {
    **{f"dtrec-long-warmup-{n}": {"warmup_epochs": n} for n in (10, 0, 5, 15)},
    "dtrec-long-no-hps": {"supervision": "none"},
    "dtrec-long-fixed-k": {"supervision": "fixed"},
    "dtrec-long-nearest": {"prototype_choice": "nearest"},
    "dtrec-long-sharp": {"prototype_temperature": 0.5},
    **{f"dtrec-long-k0-{n}": {"first_clusters": n} for n in (16, 128)},
    **{f"dtrec-long-kupper-{n}": {"most_clusters": n} for n in (512, 3000)},
}
"""DTRec trained long enough for its prototypes to count; the first one is as the paper has it."""

LETTER: dict[str, Any] = {"collaborative_weight": 0.1, "diversity_weight": 0.1}
"""What makes RQ-VAE LETTER's tokenizer, at weights that docs/tokenize.md has figures of."""

TOKENIZERS: dict[str, TokenizerConfig] = {
    "opq": OPQ(),
    "rqkmeans": RQKMeans(codebooks=8),
    "rqvae": RQVAE(codebooks=8),
    "letter": RQVAE(codebooks=8, **LETTER),
    "soft-index": MPQ(behaviour_weight=0.1),
    "random": RandomTokens(),
}
"""In place of plain MPQ."""

INPUT_NOISE = {
    "sasrec": (0.1, 0.2, 0.3),
    "sasrec-again": (0.1,),
    "rearec-prl": (0.1,),
    "igr-sr": (0.1, 0.2),
    "igr-sr-no-lid": (0.1,),
    "igr-sr-texts": (0.1, 0.2),
}

PRIORS = ("", "-0.1", "-1.0")  # weights of the prior of neighbours: .3, and those
LATER_TARGETS = {
    "sasrec": (0.1, 0.2, 0.3, 0.5, 0.8),
    **dict.fromkeys(("gru4rec", "rearec-prl", "dtrec", "lares", "igr-sr", "rpg-m-8", "reg4rec"), (0.2,)),
    **dict.fromkeys(("sasrec-features", "sasrec-full"), (0.2,)),
}
"""What a later item has of the share of the one before it in the target, by variant."""
NOISY_FULL = ("sasrec", "rearec-prl", "dtrec", "lares", "igr-sr-no-lid")
FULL = (
    "sasrec",
    "sasrec-again",
    "sasrec-deeper",
    "rearec-prl",
    "dtrec",
    "lares",
    "igr-sr",
    "igr-sr-no-lid",
    "igr-sr-texts",
)
"""What is tried with all that is known of items and crowds."""

VARIANTS: dict[str, Callable[[], Recipe]] = {
    **METHODS,
    "sasrec-as-rearec-authors": like("sasrec", "rearec-prl-authors"),
    "rearec-prl-contrast": changed("rearec-prl", contrast_weight=1.0, temperature_scale=5.0, reasoning_dropout=True),
    "rearec-prl-prior": changed("rearec-prl", prior={"weight": 0.3}),
    **{f"rearec-prl-prior-{n}": changed("rearec-prl", prior={"weight": n}) for n in (0.1, 1.0)},
    "lares-four-layers": changed("lares", pre_layers=2, core_layers=2, state_scale=3.0),
    "dtrec-exact": changed("dtrec", indicator_source="exact"),
    "dtrec-last": changed("dtrec", readout="last"),
    "dtrec-weighted": changed("dtrec", readout="weighted"),
    "dtrec-fine": changed("dtrec", indicator_source="fine"),
    "dtrec-fixed-k": changed("dtrec", supervision="fixed"),
    "dtrec-no-hps": changed("dtrec", supervision="none"),
    **{f"dtrec-warmup-{n}": changed("dtrec", warmup_epochs=n) for n in (0, 5, 10, 15)},
    **{f"dtrec-k0-{n}": changed("dtrec", first_clusters=n) for n in (16, 32, 64, 128)},
    **{f"dtrec-kupper-{n}": changed("dtrec", most_clusters=n) for n in (512, 1024, 3000)},
    **{f"dtrec-alpha-{n}": changed("dtrec", cluster_speed=n) for n in (0.3, 0.5, 1.0, 2.0)},
    **{f"dtrec-head-{n}": changed("dtrec", halting_width=n) for n in (4, 16, 64)},
    "dtrec-gru4rec": on("dtrec", "gru4rec"),
    "dtrec-bert4rec": on("dtrec", "bert4rec"),
    "sasrec-norm": changed("sasrec", backbone={"input_norm": True}),  # what the methods that think stand on
    "sasrec-wide-norm": changed("sasrec", backbone={"width": 256, "ffn_width": 1024, "input_norm": True}),
    "rearec-prl-wide": changed("rearec-prl", backbone={"width": 256, "ffn_width": 1024}),
    "sasrec-wide": changed("sasrec", backbone={"width": 256, "ffn_width": 1024}),
    "dtrec-wide": changed("dtrec", max_steps=8, backbone={"width": 256, "ffn_width": 1024}),
    "dtrec-refined": changed("dtrec", indicator_source="refined"),
    "dtrec-per-step": changed("dtrec", halting_inputs="per_step"),
    "dtrec-ponder": changed("dtrec", ponder_weight=PONDER),
    "dtrec-per-step-ponder": changed("dtrec", halting_inputs="per_step", ponder_weight=PONDER),
    "dtrec-nearest": changed("dtrec", prototype_choice="nearest"),
    "dtrec-exit-0": changed("dtrec", halting={"min_steps": 0}),
    "dtrec-wide-exit-0": changed("dtrec", halting={"min_steps": 0}, backbone={"width": 256, "ffn_width": 1024}),
    "dtrec-contrast": changed("dtrec", contrast_weight=1.0),
    "dtrec-tau": changed("dtrec", temperature_scale=2.0),
    "dtrec-tau-no-hps": changed("dtrec", temperature_scale=2.0, supervision="none"),
    **{name: longer_prototypes(**settings) for name, settings in PROTOTYPES.items()},
    "sse-pt-plain": changed("sse-pt", replace_item=0.1, backbone={"input_norm": False}),
    "sasrec-again": changed("sasrec", rounds=2),
    "sasrec-deeper": changed("sasrec", backbone={"layers": 2}),
    **{f"{m}-{n}": changed(m, backbone={"window": n}) for m in ("sasrec", "igr-sr") for n in (200, 1000)},
    **{f"{name}-noisy": noisy(name) for name in ("sasrec", "rearec-prl", "igr-sr")},
    **{
        f"{name}-input-noise-{share}": trained(name, input_noise=share)
        for name, shares in INPUT_NOISE.items()
        for share in shares
    },
    "igr-sr-rows": changed("igr-sr", over="rows"),
    # the paper's scores are plain products; its contrast is of all positions
    "igr-sr-published": changed(
        "igr-sr", over="rows", loss={"cosine": False, "temperature": 1.0}, consistency={"at": "all"}
    ),
    "igr-sr-texts": changed("igr-sr", intents="texts"),
    "igr-sr-no-lid": changed("igr-sr", intents="learned"),
    "igr-sr-bare": changed("igr-sr", intents="learned", consistency={"weight": 0.0}),
    "igr-sr-drops": changed("igr-sr", encoder_dropout=True),
    "igr-sr-concat": changed("igr-sr", reasoner={"fusion": "concat"}),
    "igr-sr-no-icr": changed("igr-sr", consistency={"weight": 0.0}),
    "igr-sr-unfrozen": changed("igr-sr", freeze=False),
    "igr-sr-own-items": changed("igr-sr", reasoner={"items": "random"}),
    **{f"igr-sr-m-{n}": changed("igr-sr", slots=n) for n in (1, 2, 3, 4, 5)},
    **{f"igr-sr-k-{n}": changed("igr-sr", prefix=n) for n in (2, 4, 8, 16)},
    **{f"igr-sr-m-{m}-k-{k}": changed("igr-sr", slots=m, prefix=k) for m in (1, 2) for k in (2, 8)},
    **{f"igr-sr-mask-{n}": changed("igr-sr", consistency={"mask_share": n}) for n in (0.1, 0.3, 0.5)},
    **{f"igr-sr-{name}": on("igr-sr", name) for name in ("gru4rec", "hstu", "bert4rec")},
    "sasrec-co": knowing("sasrec", None, Evidence(use="co_occurrence")),
    "sasrec-ease": knowing("sasrec", None, Evidence(use="ease")),
    "sasrec-evidence": knowing("sasrec", None, Evidence()),
    "sasrec-features": knowing("sasrec", Features(), None),
    "sasrec-text": text_alone("sasrec"),
    "sasrec-features-co": knowing("sasrec", Features(), Evidence(use="co_occurrence")),
    **{f"{name}-full": knowing(name, Features(), Evidence()) for name in FULL},
    **{f"rearec-prl-prior{n}-full": knowing(f"rearec-prl-prior{n}", Features(), Evidence()) for n in PRIORS},
    "sasrec-evidence-trained": knowing("sasrec", None, Evidence(fit="training")),
    "sasrec-full-trained": knowing("sasrec", Features(), Evidence(fit="training")),
    "sasrec-full-both": knowing("sasrec", Features(), Evidence(fit="both")),
    "sasrec-full-gate": knowing("sasrec", Features(), Evidence(fit="training", gate=True)),
    "tiger-tokens": changed("tiger", loss="tokens"),
    # the paper's own training is a hundred times as long; while the rate is high, validation wavers too much to stop by
    "tiger-tokens-long": lasting("tiger-tokens", 60, patience=60),
    "tiger-letter": changed("tiger", tokenizer=LETTER),
    "rpg-tokens": changed("rpg", loss="tokens"),
    **{f"rpg-m-{n}": changed("rpg", tokenizer={"codebooks": n}) for n in (4, 8, 16)},
    **{f"rpg-m-8-{name}": changed("rpg", tokenizer=made) for name, made in TOKENIZERS.items()},
    **{f"reg4rec-m-{n}": changed("reg4rec", tokenizer={"codebooks": n}) for n in (4, 16, 32)},
    "reg4rec-narrow": in_small_batches("reg4rec", backbone=NARROW, tokenizer=OPQ(codebooks=4, size=64)),
    "reg4rec-c-64": changed("reg4rec", tokenizer={"size": 64}),
    # tokens of features alone, so that an item that nobody met lacks nothing
    **{
        f"rpg-m-8-c-{size}-apart": changed("rpg", tokenizer={"codebooks": 8, "size": size, "collaborative": "none"})
        for size in (16, 64)
    },
    "reg4rec-c-64-apart": changed("reg4rec", tokenizer={"size": 64, "collaborative": "none"}),
    "rpg-m-8-c-64": changed("rpg", tokenizer={"codebooks": 8, "size": 64}),
    "rpg-m-8-tokens": changed("rpg", tokenizer={"codebooks": 8}, loss="tokens"),
    "rpg-text": text_alone("rpg"),
    **{f"reg4rec-{name}": changed("reg4rec", tokenizer=made) for name, made in TOKENIZERS.items()},
    "reg4rec-tokens": changed("reg4rec", loss="tokens", token_weight=REG4Rec.token_weight),
    "reg4rec-token-alone": changed("reg4rec", carries_state=False),
    "reg4rec-steps-8": changed("reg4rec", steps=8),
    **{f"reg4rec-epochs-{n}": lasting("reg4rec", n) for n in (2, 5)},  # less well taught heads
    **{f"{name}-long": lasting(name, 28) for name in ("reg4rec", "rpg-m-8")},
    "reg4rec-decoder": changed("reg4rec", decoder_layers=1),
    "reg4rec-no-category": changed("reg4rec", category_weight=0.0),
    **{f"{name}-full": knowing(name, Features(), Evidence()) for name in ("tiger", "rpg", "reg4rec")},
    "sasrec-long": lasting("sasrec", 28),
    "sasrec-full-long": lasting("sasrec-full", 28),
    # as many epochs as both stages of IGR-SR have
    **{f"{name}-long": lasting(name, 28) for name in ("sse-pt", "lightrec", "rearec-prl", "dtrec")},
    **{f"{name}-level": level(name, backbone=NARROW) for name in ("sasrec", "rearec-prl", "dtrec")},
    "sasrec-deep-level": level("sasrec", backbone={**NARROW, "layers": 4}),  # as many as a layer and three steps
    "sasrec-long-level": level("sasrec", epochs=48, backbone=NARROW),  # four times, as LARES takes in FLOPs
    # its second stage would be epochs more than the others have
    "lares-level": level("lares", **NARROW, reinforcement={"epochs": 0}),
    **{f"{name}-full-input-noise-0.1": trained(f"{name}-full", input_noise=0.1) for name in NOISY_FULL},
    **{f"sasrec-layers-{way}": with_layers("sasrec", settings) for way, settings in LAYERS.items()},
    **{
        f"reg4rec-layers-{way}": with_layers("reg4rec", settings, tokenizer=OPQ(codebooks=4, size=64))
        for way, settings in LAYERS.items()
    },
}


def after(name: str, **settings: Any) -> Callable[[], Recipe]:
    """A run of a variant aligned with rewards; `path_rewards` and the like stand for settings of theirs."""

    def make() -> Recipe:
        plain = Alignment()
        parts = {key: replace(getattr(plain, key), **v) for key, v in settings.items() if isinstance(v, dict)}
        return aligned(VARIANTS[name](), replace(plain, **settings | parts))

    return make


VARIANTS |= {name: after(of, **settings) for name, (of, settings) in ALIGNED.items()}

VARIANTS |= {
    f"{name}-later-{share}": trained(name, later_targets=share)
    for name, shares in LATER_TARGETS.items()
    for share in shares
}

MADE_OF: dict[str, tuple[str, str]] = {
    **{f"{name}-from-{run}": (name, run) for name in ("rpg-m-8", "reg4rec") for run in ("sasrec", "sasrec-features")},
    **{
        f"{name}-from-sasrec-features": (name, "sasrec-features")
        for name in ("rpg", "reg4rec-m-32", "tiger", "reg4rec-full")
    },
}
"""Runs whose tokens are made of another run's item vectors, in the place of co-occurrence: the recipe, and that run."""
VARIANTS |= {name: VARIANTS[of] for name, (of, _) in MADE_OF.items()}


def canonical(names: Iterable[str]) -> dict[str, str]:
    """The first name of the same recipe for each name, so that none is trained twice."""
    recipes = {name: make() for name, make in VARIANTS.items()}

    def first(name: str) -> str:
        if name in MADE_OF:
            return name
        return next(other for other, recipe in recipes.items() if recipe == recipes[name])

    return {name: first(name) for name in names}
