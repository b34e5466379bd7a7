"""A backbone with items of its own that is trained first and then read through, frozen or not.

It is trained here as `next_item` and `masked_item` train theirs, or taken from a run folder of one of them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch
from forethought.data.noise import TRAINING_NOISE
from forethought.data.sources import read_parquet
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.files import first_line, read_json
from forethought.methods.items import ItemLoss, ItemTable
from forethought.run_files import CONFIG_FILE, ITEMS_FILE, MODEL_FILE, read_model
from forethought.thinking.cloze import Cloze

AnyBackbone = SASRec | GRU4Rec | HSTU | BERT4Rec
TRAINERS = ("next_item", "masked_item")  # the methods whose runs hold a bare backbone
DIVIDES = ("split", "ties", "seed", "valid_from", "test_from", "targets")  # of a protocol: who trains on what


class Encoder(nn.Module):
    """An item table and a backbone; one that looks both ways also has a [MASK]."""

    def __init__(self, config: AnyBackbone, n_items: int, loss: ItemLoss, item_std: float) -> None:
        super().__init__()
        self.items = ItemTable(n_items, config.width, loss, item_std)
        self.backbone = config.build()
        self.mask = None if self.backbone.causal else nn.Parameter(torch.randn(config.width) * item_std)
        self.window = config.window - (not self.backbone.causal)  # a slot is the [MASK]'s

    def loss(self, batch: Batch) -> Tensor:
        """The next item at every position (`NextItem`), or hidden items of each row (`MaskedItem`): 3 products."""
        assert batch.targets_BL is not None
        if self.mask is None:
            real_BL = batch.valid_BL()
            states = self.backbone.encode(self.items(batch.items_BL), batch.lengths_B, times=batch.times_BL).states_BLD
            targets_P = batch.targets_BL[real_BL]
            weights_P = self.items.weight.new_full(targets_P.shape, 1.0 / batch.weight)
            return self.items.loss_of(states[real_BL], targets_P, weights_P)
        cloze, lengths_B = Cloze(), batch.lengths_B + 1
        items_BN = torch.cat([batch.items_BL[:, :1], batch.targets_BL], dim=1)
        hidden_BN = cloze.draw(lengths_B, items_BN.shape[1])
        x_BND = torch.where(hidden_BN[..., None], self.mask, self.items(items_BN))
        states_PD = self.backbone.encode(x_BND, lengths_B).states_BLD[hidden_BN]
        weights_B = batch.lengths_B / cloze.expected(lengths_B) / batch.weight
        weights_P = weights_B[:, None].expand_as(hidden_BN)[hidden_BN].to(self.mask.dtype)
        return self.items.loss_of(states_PD, items_BN[hidden_BN], weights_P)

    def user_states(self, batch: Batch) -> Tensor:
        """What it would recommend from by itself, [B, D]."""
        x_BLD, lengths_B = self.items(batch.items_BL), batch.lengths_B
        if self.mask is not None:  # [MASK] behind the history
            x_BLD = torch.cat([x_BLD, torch.zeros_like(x_BLD[:, :1])], dim=1)
            at_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
            x_BLD = torch.where((at_L == lengths_B[:, None])[..., None], self.mask, x_BLD)
            lengths_B = lengths_B + 1
        states = self.backbone.encode(x_BLD, lengths_B, times=batch.times_BL, last_only=True).states_BLD
        return self.items.states(states[:, 0])

    def learn(self, *, pretraining: bool, later: bool) -> None:
        """What of it trains: all while it is pre-trained, what reads histories or nothing at all afterwards."""
        self.requires_grad_(pretraining)
        if not pretraining:
            self.items.weight.requires_grad_(later)
            self.backbone.requires_grad_(later)

    def rest(self) -> None:
        """No unit is dropped; gradients still pass through."""
        self.eval()
        for part in self.modules():
            if isinstance(part, nn.GRU):  # drops nothing either way, and cuDNN's has no gradient in eval mode
                part.train()

    def adopt(self, run: str) -> None:
        """Take the weights of a run folder, which `check_run` has looked at.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = Path(run) / MODEL_FILE
        try:
            tensors, _ = read_model(path.parent)
            mine = {name: tensors[name] for name in self.state_dict() if name != "items.bias"}
            self.load_state_dict(mine, strict=False)
            whole = all(bool(tensor.isfinite().all()) for tensor in mine.values())
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise RunError(f"The encoder's weights in {path} cannot be read ({first_line(error)}): {MEND}") from error
        if not whole:
            raise RunError(f"The encoder's weights in {path} hold NaN or infinity: {MEND}")


MEND = "give the folder of a finished run of sasrec, gru4rec, hstu or bert4rec, or leave encoder_run out."


def check_run(run: str, backbone: AnyBackbone, split: Split) -> None:
    """Whether a run folder holds such a backbone, trained on the training part of this very split.

    Raises:
        RunError: there is no such run, or it is damaged.
        ConfigError: it is of another method, or its backbone is another one.
        DataError: it was trained on other items, data or another split, or with other noise.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise RunError(f"There is no run folder {run!r} to take the encoder from: {MEND}")
    parts = read_json(folder / CONFIG_FILE, MEND.rstrip("."))
    try:
        method, about = parts["config"]["method"], parts["about"]
        kind, theirs = method["type"], dict(method.get("backbone", {}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"{folder / CONFIG_FILE} is damaged: {MEND}") from error
    if kind not in TRAINERS:
        raise ConfigError(f"The run {run!r} is one of {kind!r}, which holds no bare encoder: {MEND}")
    _check_backbone(run, backbone, theirs)
    _check_data(folder, about, split)
    noise, mine = parts["config"].get("noise"), split.protocol.get(TRAINING_NOISE)
    if noise != mine:
        raise DataError(
            f"The encoder in {str(folder)!r} was trained with {_noise(noise)}, and this run is to be with "
            f"{_noise(mine)}: take one that was trained likewise."
        )


def _noise(noise: Any) -> str:
    return f"noise ({', '.join(f'{k} {v}' for k, v in noise.items())})" if noise else "no noise"


def _check_backbone(run: str, backbone: AnyBackbone, theirs: dict[str, Any]) -> None:
    mine = {"type": type(backbone).__name__.lower(), **asdict(backbone)}
    mine.pop("dropout")  # of its training, which is over
    before = {**asdict(type(backbone)()), **theirs}  # options that are newer than the run are as they were
    other = [f"{key} {before.get(key)!r}, not {value!r}" for key, value in mine.items() if before.get(key) != value]
    if theirs.get("type") != mine["type"]:
        other = [f"a {theirs.get('type')}, not a {mine['type']}"]
    if other:
        raise ConfigError(
            f"The encoder in {run!r} is another one ({'; '.join(other)}): give the backbone the run's own settings."
        )


def _check_data(folder: Path, about: Any, split: Split) -> None:
    try:
        ids = read_parquet(folder / ITEMS_FILE, ["item_id"])["item_id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{folder / ITEMS_FILE} cannot be read ({first_line(error)}): {MEND}") from error
    mine = split.data.items.ids
    if len(ids) != len(mine) or ids.dtype.is_integer() != mine.dtype.is_integer() or bool((ids != mine).any()):
        raise DataError(
            f"The encoder in {str(folder)!r} knows {len(ids)} items and the data has {len(mine)}, not the same ones: "
            "take one that was trained on this data."
        )
    if about.get("data_hash") != split.data.data_hash:
        raise DataError(
            f"The encoder in {str(folder)!r} was trained on other interactions ({about.get('data')!r}) of the same "
            "items, and may have seen what is tested here: take one that was trained on this data."
        )
    theirs = about.get("protocol", {})
    other = [key for key in DIVIDES if theirs.get(key) != split.protocol.get(key)]
    if other:
        raise DataError(
            f"The encoder in {str(folder)!r} was trained on another split "
            f"({', '.join(f'{key} {theirs.get(key)!r}, not {split.protocol.get(key)!r}' for key in other)}), and may "
            "have seen what is tested here: take one that was trained on this split."
        )
