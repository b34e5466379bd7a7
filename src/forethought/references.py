"""What a method's configuration refers to, resolved into tensors before the method is built or trained.

Another run's encoder and text vectors of items are files, and no method opens a file: here they are found, held against
the split that is to be trained on, read, and recorded with their checksums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from torch import Tensor

from forethought.backbones.all import BACKBONES
from forethought.backbones.interface import BackboneConfig
from forethought.config import ABOUT, to_json
from forethought.data.evidence import Evidence, EvidenceTable, read_evidence
from forethought.data.features import AUTO, Feature, Features, FeatureScale, feature_shape, read_features
from forethought.data.later import is_later
from forethought.data.neighbours import co_occurrence
from forethought.data.sources import read_parquet
from forethought.data.splits import DIVIDES, Split
from forethought.data.texts import item_texts
from forethought.data.times import moment
from forethought.devices import Device
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation.storage import plain
from forethought.explaining.categories import Categories
from forethought.files import first_line, read_json
from forethought.methods.configuration import MethodConfig
from forethought.methods.item_tokens import kept_tokens, reads_tokens
from forethought.methods.outside import References, SideInformation, SoftTargets, TokensAndCategories
from forethought.recommender import Recommender, load
from forethought.run_files import CONFIG_FILE, ITEMS_FILE, MODEL_FILE, read_model
from forethought.semantic_ids.inputs import COLLABORATIVE, Collaborative, input_scales
from forethought.semantic_ids.item_tokens import ItemTokens, fit_tokens
from forethought.semantic_ids.storage import read_about, read_tokens
from forethought.settings import check, check_keys
from forethought.teaching import soft_targets
from forethought.tensor_files import checksum
from forethought.untrained import SEEN_UNTIL

LEAST_OF_A_CATEGORY = 30  # items, fewer in small catalogues; rarer ones count to the category above
TOKEN_SEED = 0  # items have the same tokens whatever the seed of a run
TRAINERS = ("next_item", "masked_item")  # the methods whose runs hold a bare backbone
MEND = f"give the folder of a finished run of {', '.join(BACKBONES)}, or leave encoder_run out."


def resolve(
    method: MethodConfig,
    split: Split,
    features: Features | None = None,
    evidence: Evidence | None = None,
    *,
    scales: Mapping[str, FeatureScale] | None = None,
    start: Recommender | None = None,
    collaborative: Collaborative | None = None,
    device: Device = "auto",
) -> SideInformation:
    """All that a method takes from outside of its training histories.

    Args:
        method: its configuration.
        split: as training sees it, noise included.
        features: of the items, which it is to read.
        evidence: beside its scores.
        scales: what features are made with by name, where weights were trained with such; None: with their own.
        start: the run whose weights are begun with, and whose tokens the items it knows therefore keep.
        collaborative: vectors of another run that tokens are to be made of, in the place of co-occurrence.
        device: where a teacher is asked.

    Raises:
        RunError: there is no such run, or it is damaged.
        ConfigError: it is of another method, its backbone is another one, or text vectors have another width.
        DataError: it was trained on other items, data or another split, or with other noise or features; or there are
            no text vectors or features, or they do not fit.
    """
    asked, hashes = method.references(), dict[str, str]()
    encoder = texts = taught = None
    if scales is None and asked.tokens is not None:  # what made them may have been fitted to other data
        scales = input_scales(read_about(Path(asked.tokens))["tokens"]["inputs"])
    known = () if features is None else read_features(split.data, features, scales)
    if asked.encoder_run is not None and asked.backbone is not None:
        about = _check_run(asked.encoder_run, asked.backbone, split)
        _check_features(asked.encoder_run, about.get("features", []), known)
        encoder, hashes["encoder_run"] = _weights(asked.encoder_run)
    if asked.texts:
        texts = _texts(asked, split)
        hashes["texts"] = checksum({"texts": texts})
    if asked.teacher_run is not None:
        taught, hashes["teacher_run"] = _taught(asked.teacher_run, asked.teacher_items, split, device)
    hashes |= _feature_hashes(known)
    if start is None:
        tokens = _tokens(asked, split, known, collaborative)
    else:
        rows = torch.from_numpy(split.data.items.index_of(start.items.ids).copy())
        tokens = kept_tokens(start.method, rows, split.data.n_items, known)
    if tokens is not None:
        hashes["tokens"] = tokens.tokens.checksum
    if collaborative is not None:
        hashes["collaborative_from"] = str(collaborative.of["weights"])
    tables = () if evidence is None else read_evidence(split, evidence)
    hashes |= _evidence_hashes(tables)
    near = co_occurrence(split.train, split.data.n_items, most=asked.neighbours) if asked.neighbours else None
    if near is not None:
        hashes["neighbours"] = checksum({"items": torch.from_numpy(near.items_NK)})
    targets = replace(split.train, starts=np.minimum(split.train.starts + 1, split.train.ends))  # none names the first
    counts_N = torch.from_numpy(targets.item_counts(split.data.n_items))
    return SideInformation(
        target_counts_N=counts_N,
        encoder=encoder,
        item_texts_NE=texts,
        features=known,
        evidence=tables,
        taught=taught,
        tokens=tokens,
        near=near,
        hashes=hashes,
    )


def _feature_hashes(features: tuple[Feature, ...]) -> dict[str, str]:
    hashes = {}
    for each in features:
        tensors = {"values": torch.from_numpy(each.values), "known": torch.from_numpy(each.known_N)}
        hashes[f"features.{each.shape.name}"] = checksum(tensors)
    return hashes


def _evidence_hashes(tables: Sequence[EvidenceTable]) -> dict[str, str]:
    """Of the tables, and of the vectors that some were made of."""
    hashes = {}
    for each in tables:
        arrays = {"items": each.table.items_NK, "values": each.table.values_NK}
        hashes[f"evidence.{each.shape.name}"] = checksum({name: torch.from_numpy(a) for name, a in arrays.items()})
        if each.vectors_sum is not None:
            hashes[f"vectors.{each.shape.name}"] = each.vectors_sum
    return hashes


def _tokens(
    asked: References, split: Split, features: tuple[Feature, ...], collaborative: Collaborative | None
) -> TokensAndCategories | None:
    """Tokens of the items, made or read, and their categories."""
    if asked.tokenizer is None:
        return None
    if asked.tokens is None:
        tokens = fit_tokens(split, features, asked.tokenizer, TOKEN_SEED, collaborative=collaborative)
    else:
        tokens = read_tokens(asked.tokens, split)
        _check_token_features(asked.tokens, tokens, features)
    names, category_N = _categories(split)
    return TokensAndCategories(tokens=tokens, categories=names, category_N=torch.from_numpy(category_N))


def _categories(split: Split) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the categories and that of each item; none where the items tell of none, or all of the same."""
    n_items, read = split.data.n_items, Categories.read(split.data.item_table)
    least = min(LEAST_OF_A_CATEGORY, max(2, n_items // 50))
    names, category_N = ([], np.zeros(n_items, np.int64)) if read is None else read.classes(n_items, least)
    if len(np.unique(category_N)) < 2:
        return (), np.zeros(n_items, np.int64)
    return tuple(names), category_N.astype(np.int64)


def _check_token_features(folder: str, tokens: ItemTokens, features: tuple[Feature, ...]) -> None:
    """New items are tokenised by the features that the run reads, so these are those that the tokens were made of."""
    theirs = [str(each["name"]) for each in tokens.inputs if each["kind"] != COLLABORATIVE]
    mine = [feature.shape.name for feature in features]
    if theirs != mine:
        raise DataError(
            f"The tokens in {folder!r} were made of the features {', '.join(theirs) or 'none'}, and this run is to "
            f"read {', '.join(mine) or 'none'}: give the same (on the command line --features)."
        )


def _taught(run: str, k: int, split: Split, device: Device) -> tuple[SoftTargets, str]:
    """What a teacher says of the training part, and the checksum of its weights."""
    teacher = load(run, device=device)
    if teacher.config.method.closed_form:  # type: ignore[union-attr]
        raise ConfigError(
            f"The teacher in {run!r} is one of {type(teacher.config.method).__name__}, whose scores are no "
            "log-probabilities: choose one that was trained with a softmax."
        )
    _check_data(Path(run), teacher.about, split, "teacher")
    return soft_targets(teacher.method, split.train, k), str(teacher.weights_sum)


def _texts(asked: References, split: Split) -> Tensor:
    vectors = item_texts(split.data, asked.texts_file)
    if vectors.shape[1] != asked.text_width:
        raise ConfigError(
            f"The text vectors have {vectors.shape[1]} numbers, not {asked.text_width}: set text_width to it."
        )
    return torch.from_numpy(vectors)


def _weights(run: str) -> tuple[Mapping[str, Tensor], str]:
    """An encoder's tensors and their checksum.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = Path(run) / MODEL_FILE
    try:
        tensors, total = read_model(path.parent)
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise RunError(f"The encoder's weights in {path} cannot be read ({first_line(error)}): {MEND}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise RunError(f"The encoder's weights in {path} hold NaN or infinity: {MEND}")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("evidence.")}, total


def _check_run(run: str, backbone: BackboneConfig, split: Split) -> dict[str, Any]:
    """What a run folder tells of itself, if it holds such a backbone, trained on the training part of this very split.

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
        check_keys(about, ABOUT, "about")
        about["features"] = [feature_shape(each)._asdict() for each in about.get("features", [])]
        check(noise := parts["config"].get("noise"), dict | None, "noise")
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise RunError(f"{folder / CONFIG_FILE} is damaged: {MEND}") from error
    if kind not in TRAINERS:
        raise ConfigError(f"The run {run!r} is one of {kind!r}, which holds no bare encoder: {MEND}")
    _check_backbone(run, backbone, theirs)
    _check_data(folder, about, split)
    mine = None if split.noise is None else asdict(split.noise)
    if noise != mine:
        raise DataError(
            f"The encoder in {str(folder)!r} was trained with {_noise(noise)}, and this run is to be with "
            f"{_noise(mine)}: take one that was trained likewise."
        )
    return about


def _check_features(run: str, theirs: Any, known: Sequence[Feature]) -> None:
    """The encoder's items are made of ids and the same features, else its weights would mean something else."""
    mine = [feature.shape._asdict() for feature in known]
    if theirs != mine:
        read, asked = (", ".join(str(each["name"]) for each in shapes) or "none" for shapes in (theirs, mine))
        raise DataError(
            f"The encoder in {run!r} was trained with other features of the items ({read}) than this run is to read "
            f"({asked}): take one that was trained likewise."
        )


def _noise(noise: Any) -> str:
    return f"noise ({', '.join(f'{k} {v}' for k, v in noise.items())})" if noise else "no noise"


def _check_backbone(run: str, backbone: Any, theirs: dict[str, Any]) -> None:
    mine = to_json(backbone)
    mine.pop("dropout")  # of its training, which is over
    before = {**asdict(type(backbone)()), **theirs}  # options that are newer than the run are as they were
    other = [f"{key} {before.get(key)!r}, not {value!r}" for key, value in mine.items() if before.get(key) != value]
    if theirs.get("type") != mine["type"]:
        other = [f"a {theirs.get('type')}, not a {mine['type']}"]
    if other:
        raise ConfigError(
            f"The encoder in {run!r} is another one ({'; '.join(other)}): give the backbone the run's own settings."
        )


def _check_data(folder: Path, about: Any, split: Split, what: str = "encoder") -> None:
    try:
        ids = read_parquet(folder / ITEMS_FILE, ["item_id"])["item_id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{folder / ITEMS_FILE} cannot be read ({first_line(error)}): {MEND}") from error
    mine = split.data.items.ids
    if len(ids) != len(mine) or ids.dtype.is_integer() != mine.dtype.is_integer() or bool((ids != mine).any()):
        raise DataError(
            f"The {what} in {str(folder)!r} knows {len(ids)} items and the data has {len(mine)}, not the same ones: "
            "take one that was trained on this data."
        )
    if about.get("data_hash") != split.data.data_hash:
        raise DataError(
            f"The {what} in {str(folder)!r} was trained on other interactions ({about.get('data')!r}) of the same "
            "items, and may have seen what is tested here: take one that was trained on this data."
        )
    theirs = about.get("protocol", {})
    other = [key for key in DIVIDES if theirs.get(key) != split.protocol.get(key)]
    if other:
        raise DataError(
            f"The {what} in {str(folder)!r} was trained on another split "
            f"({', '.join(f'{key} {theirs.get(key)!r}, not {split.protocol.get(key)!r}' for key in other)}), and may "
            "have seen what is tested here: take one that was trained on this split."
        )


def check_same_split(model: Recommender, split: Split, *, or_later: bool = False) -> None:
    """Refuse a split other than the one the run was trained on.

    Args:
        or_later: what came after the training is as good.
    """
    check(split, Split, "split")
    theirs, ours = split.data.items.ids, model.items.ids
    if len(theirs) != len(ours) or theirs.dtype.is_integer() != ours.dtype.is_integer() or (theirs != ours).any():
        if model.about.get("extended"):
            raise DataError(
                f"The run was extended to {len(ours)} items, which are more than it was trained on "
                f"({model.about['data']!r}) and not the {len(theirs)} of the data: evaluate the run that it was "
                "extended from, or this one on what came later (later_split; on the command line --since)."
            )
        raise DataError(
            f"The data has {len(theirs)} items and the run was trained on {len(ours)} "
            f"({model.about['data']!r}), not the same ones: evaluate on the data it was trained on."
        )
    if or_later and is_later(split):
        check_unseen(model, split.protocol["since"])
        return
    if model.method.inputs.users and split.data.data_hash != model.about["data_hash"]:
        raise DataError(
            f"The run keeps a vector for each user of its data (hash {model.about['data_hash']}) and would mistake the "
            f"users of other data ({split.data.data_hash}) for them: evaluate it on the data it was trained on."
        )
    trained_on, asked = model.about["protocol"], plain(split.protocol)
    other = [key for key in {**trained_on, **asked} if trained_on.get(key) != asked.get(key)]
    if other:
        raise DataError(
            f"The run was trained on another split ({', '.join(f'{k} {trained_on.get(k)!r}' for k in other)}; given "
            f"{', '.join(f'{k} {asked.get(k)!r}' for k in other)}), so its training may hold these very targets: "
            "evaluate it on its own split."
        )


def check_unseen(model: Recommender, since: str) -> None:
    """Refuse a moment up to which the run has seen interactions; one that does not say is taken at any.

    Raises:
        DataError: it has seen what came then.
        RunError: what it says is no time.
    """
    seen = model.about.get(SEEN_UNTIL)
    if seen is None:
        return
    try:
        last = moment(seen, SEEN_UNTIL)
    except DataError as error:
        raise RunError(f"The run's config.json is damaged ({first_line(error)}): copy or train it again.") from error
    if moment(since, "since") <= last:
        raise DataError(
            f"The run has seen interactions until {seen}, and since is {since}, so that it may have been trained on "
            "what is to be found: choose a later moment."
        )


def features_of_auto(run: Recommender) -> str | None:
    """What is said where nobody named the features."""
    if run.config.features is None or run.config.features.use != "auto":
        return None
    if run.about["features"]:
        named = ", ".join(each["name"] for each in run.about["features"])
        return f"Tokens are made of {named}." if reads_tokens(run.method) else f"Beside its id each item has {named}."
    return (
        "The data has no features of items that auto knows, neither text vectors nor a column "
        f"{' or '.join(AUTO)} in its item table, so nothing is known of items but who meets them."
    )
