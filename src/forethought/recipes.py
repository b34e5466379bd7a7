"""(method, data) -> a complete run: numbers that were found by trying, each says how, or that authors published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args, get_type_hints

from forethought import plugins
from forethought.backbones.all import BACKBONES
from forethought.backbones.interface import BackboneConfig
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.errors import ConfigError, nearest
from forethought.methods import all as methods
from forethought.methods.configuration import MethodConfig
from forethought.methods.items import ItemLoss
from forethought.methods.lares import Reinforcement
from forethought.methods.rearec import Learning
from forethought.semantic_ids.mpq import MPQ
from forethought.settings import check
from forethought.training.settings import Training

Effort = Literal["fast", "default", "best"]
EPOCHS: dict[Effort, int] = {"fast": 1, "default": 2, "best": 3}
"""How many times the epochs and the patience of a recipe an effort takes, in one schedule.
Of SASRec these are 14, 28 and 42 epochs."""
WIDE = 256
"""Width from which inputs are normalised: without that SASRec of this width has a fifth less NDCG@10 on Beauty, with it
5% more than at width 64 (docs/results/width.md). Nothing in between was tried."""
SMALL, SHORT, SPARSE_DROPOUT = 50_000, 20.0, 0.5
"""Where dropout is raised: few interactions, in short histories; in long ones it costs (docs/results/tuning.md)."""

TRAINING = {
    "bert4rec": Training(epochs=40, patience=8),  # a masked epoch supervises fewer positions, so there are more epochs
}
"""Of backbones alone that are not trained as the defaults say."""


def alone(name: str) -> Recipe:
    """A backbone trained by itself.

    The defaults are SASRec's, tuned on Beauty's validation part (leave-last-out, ties shuffled). Loss and training of
    the others are as found for it; GRU4Rec's dropout was tried on the same part, HSTU is not tuned further. BSARec's
    alpha, frequencies and layers are from six trials on MovieLens-100K's validation part, its rest SASRec's.
    """
    return Recipe(method=BACKBONES[name](), training=TRAINING.get(name, Training()))


PLAIN = Training(
    learning_rate=1e-3,
    schedule="constant",
    warmup_steps=0,
    beta2=0.999,
    clip_norm=0.0,
    patience=10,
    precision="32",
)
"""Adam as it comes, at one rate: how authors' codes train."""


def rearec_authors(learning: Learning) -> Recipe:
    """ReaRec on SASRec as its authors' code has it by default; what they chose for each data set is not known.

    Their batch has as many prefixes as ours has positions, and they stop by NDCG@20, we by NDCG@10.
    """
    backbone = SASRec(
        width=256,
        layers=2,
        heads=2,
        ffn_width=300,
        window=50,
        dropout=0.5,
        input_dropout=0.2,
        ffn_dropout=0.0,
        attention_dropout=0.5,
        activation="gelu",
        norm_first=False,
        input_norm=True,
        norm_epsilon=1e-12,
        count_from="start",
    )
    method = methods.ReaRec(
        backbone=backbone,
        loss=ItemLoss(cosine=False, temperature=0.07),
        learning=learning,
        steps=2,
        reasoning_dropout=True,
        draw_step=False,
        item_std=0.02,
    )
    if learning == "erl":
        method = replace(method, divergence_weight=0.05)
    else:
        method = replace(
            method,
            step_weights="mean",
            progressive_weight=1.0,
            temperature_scale=5.0,
            contrast_weight=1.0,
            contrast_noise=0.01,
            contrast_from=2,
            contrast_negatives="all",
            contrast_rereads=True,
        )
    return Recipe(method=method, training=replace(PLAIN, epochs=300, batch_positions=2048))


def lares_authors() -> Recipe:
    """LARES as its first author's port to RecBole 3 has it; the settings of the paper's own runs are not known.

    The port draws T_0 when it recommends too (`state_init="normal"`), so that no answer comes twice: here it is zero.
    """
    method = methods.LARES(
        width=64,
        pre_layers=2,
        core_layers=2,
        heads=2,
        window=20,
        ffn_width=256,
        dropout=0.5,
        attention_dropout=0.5,
        embedding_norm=True,
        closing_norms=False,
        norm_epsilon=1e-12,
        count_from="start",
        loss=ItemLoss(cosine=False, temperature=1.0),
        combine="add",
        state_scale=3.0,
        sigma=1.0,
        mean_recurrence=3,
        trajectory_weight=0.2,
        step_weight=0.1,
        align_temperature=1.0,
        align_views="three",
        align_step="batch",
        align_negatives="all",
        reinforcement=Reinforcement(epochs=100, rate=1.0, filter_top=0),
    )
    return Recipe(method=method, training=replace(PLAIN, epochs=100, batch_positions=256, weight_decay=0.01))


def sse_pt_authors() -> Recipe:
    """SSE-PT as its authors' code has it, replacing as often as in their example for MovieLens-1M.

    What they chose for other data sets is not known. They train to the end: nothing stops early.
    """
    backbone = SASRec(
        width=100,
        layers=2,
        heads=1,
        ffn_width=100,
        window=50,
        dropout=0.5,
        attention_dropout=0.5,
        activation="relu",
        norm_epsilon=1e-8,
    )
    method = methods.SSEPT(
        backbone=backbone,
        loss=ItemLoss(kind="bce", negatives=1, cosine=False, temperature=1.0),
        user_width=50,
        replace_user=0.92,
        replace_item=0.1,
        labels_too=True,
        scale_inputs=True,
    )
    training = replace(PLAIN, epochs=2001, patience=2001, batch_positions=6400, beta2=0.98, all_windows=False)
    return Recipe(method=method, training=training)


def sse_pt_plus_plus() -> Recipe:
    """SSE-PT with the paper's rule for histories longer than the window; all else as found for `sse-pt`.

    The paper's chances are not known to us: 0.3 is a first guess.
    """
    return Recipe(method=methods.SSEPT(), training=Training(all_windows=False, earlier_windows=0.3))


def lightrec_authors() -> Recipe:
    """LightRec as its authors' code has it for MovieLens-10M, where a history takes the place of a user.

    A batch has 1,024 positions, as theirs has interactions. Their sum of squares counts each of some 70,000 users and
    6,144 items of a batch 1e-9 times; of the mean that is taken here, that is 0.43. Theirs trains to the end.
    """
    method = methods.LightRec(
        backbone=SASRec(width=32),
        loss=ItemLoss(kind="bpr", negatives=5, cosine=False, temperature=1.0, l2=1e-3),
        codebooks=4,
        codewords=256,
        selection="bilinear",
        selection_temperature=0.9,
        pretrained=True,
        distillation=0.43,
    )
    return Recipe(method=method, training=replace(PLAIN, epochs=101, patience=101, batch_positions=1024))


# Backbone, loss, dropout and training as found for SASRec unless said otherwise; trials are on the same part.
METHODS: dict[str, Callable[[], Recipe]] = {
    **{name: partial(alone, name) for name in BACKBONES},
    "rearec-erl": lambda: Recipe(method=methods.ReaRec(learning="erl")),
    "rearec-prl": lambda: Recipe(method=methods.ReaRec(learning="prl")),
    "rearec-erl-authors": partial(rearec_authors, "erl"),
    "rearec-prl-authors": partial(rearec_authors, "prl"),
    "dtrec": lambda: Recipe(method=methods.DTRec()),
    "lares": lambda: Recipe(method=methods.LARES()),  # layers and first state from four trials
    "lares-authors": lares_authors,
    "sse-pt": lambda: Recipe(method=methods.SSEPT()),  # norm of inputs and no replaced items from four trials
    "sse-pt-authors": sse_pt_authors,
    "sse-pt-plus-plus": sse_pt_plus_plus,
    "lightrec": lambda: Recipe(method=methods.LightRec()),  # the temperature from three trials
    "lightrec-authors": lightrec_authors,
    "igr-sr": lambda: Recipe(method=methods.IGRSR()),  # eight trials bettered nothing else
    # the paper's loss, tokens, spends its epochs on learning which tuples there are: 12% less on Beauty, one seed
    "tiger": lambda: Recipe(method=methods.TIGER(loss="items"), features=Features()),
    # as many codebooks as the authors have on Beauty: of 8 and 32, tried once each, the more
    "rpg": lambda: Recipe(method=methods.RPG(tokenizer=MPQ(codebooks=32)), features=Features()),
    # two tokens leave a handful of ten thousand items, and each step costs as much as an epoch of RPG; a token without
    # the state before it is hardly used, and a heavier loss of tokens takes from that of items (one trial each)
    "reg4rec": lambda: Recipe(
        method=methods.REG4Rec(steps=2, carries_state=True, token_weight=0.05), features=Features()
    ),
    "popular": lambda: Recipe(method=methods.Popular()),
    "itemknn": lambda: Recipe(method=methods.ItemKNN()),
    "ease": lambda: Recipe(method=methods.EASE()),  # five of lambda, six of recency
}
"""What the command line calls the methods."""
AUTHORS = tuple(name for name in METHODS if name.endswith("-authors"))
"""Those with the settings that a paper's authors published, not ours."""


def is_of(recipe: Recipe, name: str) -> bool:
    """Whether a recipe is one of the method that the command line calls so, with whatever settings."""
    own, method = named(name).method, recipe.method
    same = type(own) is type(method) and getattr(own, "learning", None) == getattr(method, "learning", None)
    return same and (name not in BACKBONES or type(own.backbone) is type(method.backbone))  # type: ignore[attr-defined]


def named(name: str) -> Recipe:
    """The recipe of a name on the command line: one of `METHODS`, of an installed package, or an import path.

    Raises:
        ConfigError: there is none, or it is neither a backbone nor a method.
    """
    if name in METHODS:
        return METHODS[name]()
    own = own_class(name, "method", (BackboneConfig, MethodConfig))
    if own is None:
        known = [*METHODS, *plugins.entry_points("forethought.backbones"), *plugins.entry_points("forethought.methods")]
        raise ConfigError(f"There is no method {name!r}; the methods are {', '.join(known)}.{nearest(name, known)}")
    return Recipe(method=own())


def own_class(name: str, what: str, kinds: tuple[type, ...]) -> type | None:
    """Somebody's own class by the name that its package gives it, or by its import path; None: there is none.

    Raises:
        ConfigError: it cannot be imported, or is something else.
    """
    groups = plugins.GROUPS if what == "method" else plugins.GROUPS[:1]
    path = next((path for group in groups if (path := plugins.entry_points(group).get(name))), name)
    if not plugins.is_path(path):
        return None
    cls = plugins.named(path, what)
    if not (isinstance(cls, type) and issubclass(cls, kinds)):
        wanted = " or ".join(f"ft.{kind.__name__}" for kind in kinds)
        raise ConfigError(f"{path} is no {what}: a {what} of one's own is a class derived from {wanted}.")
    return cls


def backbones_of(name: str) -> tuple[str, ...]:
    """The backbones that a method can be put on; none where it has no choice, or is a backbone by itself."""
    if name in BACKBONES:
        return ()
    kinds = get_args(get_type_hints(type(named(name).method)).get("backbone"))
    return tuple(key for key, cls in BACKBONES.items() if cls in kinds)


def _backbone(name: str) -> BackboneConfig:
    """A backbone by its name here or in its package, or by its import path, as methods that reason stand on it."""
    cls = BACKBONES.get(name) or own_class(name, "backbone", (BackboneConfig,))
    if cls is None:
        known = [*BACKBONES, *plugins.entry_points("forethought.backbones")]
        raise ConfigError(f"--backbone is {name!r}, but must be one of {', '.join(known)}.{nearest(name, known)}")
    return cls().for_reasoning()


def on_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """The same method on another backbone; what only extracts intents is the encoder of that backbone's own recipe."""
    if isinstance(recipe.method, methods.IGRSR) and backbone in BACKBONES:
        own = alone(backbone)
        encoder, epochs = own.method.backbone, own.training.epochs  # type: ignore[attr-defined]
        longer = None if epochs == recipe.training.epochs else epochs
        return replace(recipe, method=replace(recipe.method, backbone=encoder, encoder_epochs=longer))
    return replace(recipe, method=replace(recipe.method, backbone=_backbone(backbone)))  # type: ignore[type-var]


def usual_effort(recipe: Recipe, name: str) -> Effort:
    """The effort where none is said: `fast`, which changes nothing, for what has no epochs or settings of others."""
    settled = recipe.method.closed_form or name not in METHODS or name in AUTHORS  # type: ignore[union-attr]
    return "fast" if settled else "default"


def recipe(method: str, split: Split | None = None, *, effort: Effort | None = None) -> Recipe:
    """What `forethought train METHOD --effort EFFORT` trains where nothing else is said.

    Args:
        method: its name on the command line.
        split: what it is to be trained on; with an effort beyond `fast`, settings are chosen by its size. None: they
            are those found on Beauty.
        effort: how much time it may take: `fast` (the recipe as it is), `default` (twice the epochs) or `best` (three
            times, with features and evidence wherever the data has some). None: `default`, except where authors chose
            the settings, or there are no epochs.

    Raises:
        ConfigError: there is no such method, or it has no epochs.
    """
    check(method, str, "method")
    plain = named(method)
    check(effort, Effort | None, "effort")
    effort = effort or usual_effort(plain, method)
    return fitted(plain if effort == "fast" else with_effort(plain, effort, method), effort, split)


def fitted(recipe: Recipe, effort: Effort, split: Split | None) -> Recipe:
    """The recipe with settings that fit this data, where the effort chooses them."""
    if effort == "fast" or split is None:
        return recipe
    return with_settings(recipe, settings_for(recipe, split))


def with_effort(recipe: Recipe, effort: Effort, name: str) -> Recipe:
    """The recipe with the epochs of an effort, and for the best one all that may be known of items.

    Raises:
        ConfigError: it has no epochs.
    """
    if recipe.method.closed_form:  # type: ignore[union-attr]
        raise ConfigError(
            f"{name} is fitted in closed form and has no epochs, so effort would change nothing: leave it out."
        )
    times, training = EPOCHS[effort], recipe.training
    training = replace(training, epochs=times * training.epochs, patience=times * training.patience)
    if effort != "best":
        return replace(recipe, training=training)
    return replace(recipe, training=training, features=Features(), evidence=Evidence())


def settings_for(recipe: Recipe, split: Split) -> dict[str, Any]:
    """Settings of its encoder in which this recipe should differ on this data, by width and by size and density."""
    data, encoder = split.data, _encoder(recipe)
    dropout = dropout_for(len(data), len(data) / max(data.n_users, 1))
    better = {"dropout": max(dropout, getattr(encoder, "dropout", 0.0)), "input_norm": True}
    if getattr(encoder, "width", 0) < WIDE:
        del better["input_norm"]
    return {key: value for key, value in better.items() if getattr(encoder, key, value) != value}


def dropout_for(interactions: int, mean_history: float) -> float:
    """The least dropout that fits data of this size; 0 where a recipe's own will do."""
    return SPARSE_DROPOUT if interactions < SMALL and mean_history < SHORT else 0.0


def with_settings(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with these settings of its encoder."""
    encoder = replace(_encoder(recipe), **settings)
    method = replace(recipe.method, backbone=encoder) if hasattr(recipe.method, "backbone") else encoder  # type: ignore[type-var]
    return replace(recipe, method=method)


def described(recipe: Recipe, effort: Effort) -> str:
    """What an effort came to, in a sentence."""
    epochs = recipe.training.epochs
    parts = [f"{epochs} epoch{'' if epochs == 1 else 's'} at most"]
    if (dropout := getattr(_encoder(recipe), "dropout", None)) is not None:
        parts.append(f"dropout {dropout:g}")
    if getattr(_encoder(recipe), "width", 0) >= WIDE:
        parts.append(f"inputs {'' if getattr(_encoder(recipe), 'input_norm', False) else 'not '}normalised")
    parts += [f"{name} {part.use}" for name in ("features", "evidence") if (part := getattr(recipe, name)) is not None]
    return f"Effort {effort}: {', '.join(parts)}."


def _encoder(recipe: Recipe) -> Any:
    """What holds the settings of what reads histories: the backbone, or a method that has none (LARES)."""
    return getattr(recipe.method, "backbone", recipe.method)
