"""(method, data) -> a complete run. The only place with numbers that were found by trying; each says how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.config import MethodConfig
from forethought.data.noise import Noise
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.lares import LARES
from forethought.methods.lightrec import LightRec
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.methods.rearec import ReaRec
from forethought.methods.sse_pt import SSEPT
from forethought.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method and how to train it."""

    method: MethodConfig
    training: Training = field(default_factory=Training)
    noise: Noise | None = None
    """On what it is trained on; only studies of noise have any."""


def sasrec() -> Recipe:
    """The defaults themselves, tuned on Beauty's validation part (leave-last-out, ties shuffled)."""
    return Recipe(method=NextItem(backbone=SASRec()))


def gru4rec() -> Recipe:
    """Loss and training as found for SASRec; dropout tried on the same validation part."""
    return Recipe(method=NextItem(backbone=GRU4Rec()))


def bert4rec() -> Recipe:
    """Loss as found for SASRec; a masked epoch supervises fewer positions, so there are more epochs."""
    return Recipe(method=MaskedItem(backbone=BERT4Rec()), training=Training(epochs=40, patience=8))


def hstu() -> Recipe:
    """Loss and training as found for SASRec; not tuned further."""
    return Recipe(method=NextItem(backbone=HSTU()))


def rearec_erl() -> Recipe:
    """Backbone, loss and training as found for SASRec."""
    return Recipe(method=ReaRec(learning="erl"))


def rearec_prl() -> Recipe:
    """Backbone, loss and training as found for SASRec."""
    return Recipe(method=ReaRec(learning="prl"))


def dtrec() -> Recipe:
    """Backbone, loss and training as found for SASRec."""
    return Recipe(method=DTRec())


def lares() -> Recipe:
    """Loss, dropout and training as found for SASRec; layers and first state from four trials on the same part."""
    return Recipe(method=LARES())


def sse_pt() -> Recipe:
    """Loss and training as found for SASRec; norm of inputs and no replaced items from four trials on the same part."""
    return Recipe(method=SSEPT())


def lightrec() -> Recipe:
    """Backbone, loss and training as found for SASRec; the temperature from three trials on the same part."""
    return Recipe(method=LightRec())


def igr_sr() -> Recipe:
    """Encoder, loss, dropout and training as found for SASRec; eight trials bettered nothing else."""
    return Recipe(method=IGRSR())


METHODS: dict[str, Callable[[], Recipe]] = {
    "sasrec": sasrec,
    "gru4rec": gru4rec,
    "bert4rec": bert4rec,
    "hstu": hstu,
    "rearec-erl": rearec_erl,
    "rearec-prl": rearec_prl,
    "dtrec": dtrec,
    "lares": lares,
    "sse-pt": sse_pt,
    "lightrec": lightrec,
    "igr-sr": igr_sr,
}
"""What the command line calls the methods."""

BACKBONES = {
    "sasrec": SASRec(input_norm=True),
    "gru4rec": GRU4Rec(),
    "hstu": HSTU(),
    "bert4rec": BERT4Rec(input_norm=True),
}
"""What the methods that think can be put on."""
THINKERS = ("rearec-erl", "rearec-prl", "dtrec", "igr-sr")


def on_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """The same method on another backbone; what only distils intents is the encoder of that backbone's own recipe."""
    if isinstance(recipe.method, IGRSR):
        own = METHODS[backbone]()
        encoder, epochs = own.method.backbone, own.training.epochs  # type: ignore[union-attr]
        longer = None if epochs == recipe.training.epochs else epochs
        return replace(recipe, method=replace(recipe.method, backbone=encoder, encoder_epochs=longer))
    return replace(recipe, method=replace(recipe.method, backbone=BACKBONES[backbone]))  # type: ignore[arg-type]
