"""(method, data) -> a complete run. The only place with numbers that were found by trying; each says how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args, get_type_hints

from forethought.backbones.all import BACKBONES
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.methods import all as methods
from forethought.training.settings import Training

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


# Backbone, loss, dropout and training as found for SASRec unless said otherwise; trials are on the same part.
METHODS: dict[str, Callable[[], Recipe]] = {
    **{name: partial(alone, name) for name in BACKBONES},
    "rearec-erl": lambda: Recipe(method=methods.ReaRec(learning="erl")),
    "rearec-prl": lambda: Recipe(method=methods.ReaRec(learning="prl")),
    "dtrec": lambda: Recipe(method=methods.DTRec()),
    "lares": lambda: Recipe(method=methods.LARES()),  # layers and first state from four trials
    "sse-pt": lambda: Recipe(method=methods.SSEPT()),  # norm of inputs and no replaced items from four trials
    "lightrec": lambda: Recipe(method=methods.LightRec()),  # the temperature from three trials
    "igr-sr": lambda: Recipe(method=methods.IGRSR()),  # eight trials bettered nothing else
    "tiger": lambda: Recipe(method=methods.TIGER(), features=Features()),
    "rpg": lambda: Recipe(method=methods.RPG(), features=Features()),
    "reg4rec": lambda: Recipe(method=methods.REG4Rec(), features=Features()),
    "popular": lambda: Recipe(method=methods.Popular()),
    "itemknn": lambda: Recipe(method=methods.ItemKNN()),
    "ease": lambda: Recipe(method=methods.EASE()),  # five of lambda, six of recency
}
"""What the command line calls the methods."""


def backbones_of(name: str) -> tuple[str, ...]:
    """The backbones that a method can be put on; none where it has no choice, or is a backbone by itself."""
    kinds = get_args(get_type_hints(type(METHODS[name]().method)).get("backbone"))
    return tuple(key for key, cls in BACKBONES.items() if cls in kinds and name not in BACKBONES)


def on_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """The same method on another backbone; what only extracts intents is the encoder of that backbone's own recipe."""
    if isinstance(recipe.method, methods.IGRSR):
        own = alone(backbone)
        encoder, epochs = own.method.backbone, own.training.epochs  # type: ignore[attr-defined]
        longer = None if epochs == recipe.training.epochs else epochs
        return replace(recipe, method=replace(recipe.method, backbone=encoder, encoder_epochs=longer))
    return replace(recipe, method=replace(recipe.method, backbone=BACKBONES[backbone]().for_reasoning()))  # type: ignore[type-var]
