"""Every variant that a study trains, by name: a recipe, or one with a setting changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from forethought.recipes import METHODS, Recipe, on_backbone


def changed(name: str, **settings: Any) -> Callable[[], Recipe]:
    """A recipe whose method has other settings; `backbone` is a dict of settings to change in it."""

    def make() -> Recipe:
        recipe = METHODS[name]()
        method, given = recipe.method, dict(settings)
        if "backbone" in given:
            given["backbone"] = replace(method.backbone, **given["backbone"])  # type: ignore[union-attr]
        return replace(recipe, method=replace(method, **given))  # type: ignore[arg-type]

    return make


def on(name: str, backbone: str) -> Callable[[], Recipe]:
    return lambda: on_backbone(METHODS[name](), backbone)


VARIANTS: dict[str, Callable[[], Recipe]] = {
    **METHODS,
    "dtrec-exact": changed("dtrec", sight="exact"),
    "dtrec-fine": changed("dtrec", sight="fine"),
    "dtrec-fixed-k": changed("dtrec", supervision="fixed"),
    "dtrec-no-hps": changed("dtrec", supervision="none"),
    **{f"dtrec-warmup-{n}": changed("dtrec", warmup_epochs=n) for n in (0, 5, 10, 15)},
    **{f"dtrec-k0-{n}": changed("dtrec", first_clusters=n) for n in (16, 32, 64, 128)},
    **{f"dtrec-kupper-{n}": changed("dtrec", most_clusters=n) for n in (512, 1024, 3000)},
    **{f"dtrec-alpha-{n}": changed("dtrec", cluster_speed=n) for n in (0.3, 0.5, 1.0, 2.0)},
    **{f"dtrec-head-{n}": changed("dtrec", halting_width=n) for n in (4, 16, 64)},
    "dtrec-gru4rec": on("dtrec", "gru4rec"),
    "dtrec-bert4rec": on("dtrec", "bert4rec"),
    "sasrec-wide": changed("sasrec", backbone={"width": 256, "ffn_width": 1024}),
    "dtrec-wide": changed("dtrec", max_steps=8, backbone={"width": 256, "ffn_width": 1024}),
    "sasrec-deeper": changed("sasrec", backbone={"layers": 2}),
}


def canonical(name: str) -> str:
    """The first name of the same recipe, so that none is trained twice."""
    recipe = VARIANTS[name]()
    return next(other for other, make in VARIANTS.items() if make() == recipe)
