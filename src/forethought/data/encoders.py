"""Sentence encoders from anybody, loaded without running anything of theirs (extra `text`).

sentence-transformers gets a folder of links to those files of the encoder that hold neither code nor pickles, so that
it cannot find any others, whatever stands beside them. What may name code elsewhere is looked at before: the modules,
which must be some of its own, and the configurations.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.devices import Device, resolve_device
from forethought.errors import ConfigError, MissingExtraError
from forethought.escaping import printable
from forethought.files import BESIDE, first_line, temporary, to_the_end

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

READ = ("*.json", "*.txt", "*.model", "*.safetensors")  # no code, nothing pickled
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # what is loaded before anything pickled
MODULES = (
    *("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "StaticEmbedding"),
    *("CNN", "LSTM", "BoW", "WordWeights", "WeightedLayerPooling"),
)
MODULE = re.compile(rf"sentence_transformers(\.\w+)*\.({'|'.join(MODULES)})")
LAYERS, DEEPEST = re.compile(r"layers?$"), 10_000  # as many would be built before they are missed in the weights
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PLACE = re.compile(r"(\w[\w.-]*)?")  # of a module: the encoder's folder itself, or one in it


def load_encoder(model: str, device: Device = "auto") -> SentenceTransformer:
    """A sentence encoder, from a folder or by its name on the hub, whence it is fetched once.

    Raises:
        ConfigError: it cannot be loaded, or only by running code or unpickling.
        RunError: there is no such device.
        MissingExtraError: sentence-transformers is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "text", "Making text vectors") from error
    where = resolve_device(device)
    try:
        folder = Path(model if os.path.exists(model) else snapshot_download(model, allow_patterns=list(READ)))
        with _harmless(folder, model) as links, _printable_logs():
            return SentenceTransformer(
                str(links),
                device=str(where),
                model_kwargs={"use_safetensors": True},
                trust_remote_code=False,
                local_files_only=True,
            )
    except ConfigError:
        raise
    except Exception as error:  # whatever a broken or absent model raises, in packages that are not ours
        raise ConfigError(
            f"The sentence encoder {model!r} cannot be loaded ({first_line(error).rstrip('.')}): give a folder that "
            "holds one, or a name that the hub knows and this machine can reach."
        ) from error


@contextmanager
def _harmless(folder: Path, model: str) -> Iterator[Path]:
    """A folder of links to what may be read of the encoder, which goes when it is loaded.

    What a killed process left of such folders is removed by whoever makes the next one.
    """
    with temporary(Path(tempfile.gettempdir())) as part:
        links = part.with_suffix(BESIDE)
        try:
            links.mkdir(mode=0o700)
            places = _places(folder, model)
            for place in dict.fromkeys(("", *places)):  # its own folder first, where what concerns all modules lies
                files = [file for file in sorted((folder / place).glob("*")) if file.is_file()]
                if place in places:
                    _refuse_pickles(files, folder, model)
                Path(links, place).mkdir(exist_ok=True)
                for file in files:
                    if any(fnmatchcase(file.name, kind) for kind in READ):
                        _check_harmless(file, model)
                        Path(links, place, file.name).symlink_to(file.resolve())
            yield links
        finally:
            to_the_end(lambda: shutil.rmtree(links, ignore_errors=True))


@contextmanager
def _printable_logs() -> Iterator[None]:
    """What transformers says of an encoder's weights is plain text: no colour, and nothing a terminal obeys."""

    def plain(record: logging.LogRecord) -> bool:
        record.msg = "\n".join(map(printable, COLOUR.sub("", record.getMessage()).expandtabs(1).split("\n")))
        record.args = ()
        return True

    handlers = list(logging.getLogger("transformers").handlers)
    for handler in handlers:
        handler.addFilter(plain)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(plain)


def _places(folder: Path, model: str) -> list[str]:
    """Where the modules of an encoder lie in its folder, all of them known ones."""
    if not (folder / "modules.json").is_file():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError("it has neither modules.json nor config.json")
        return [""]  # a bare Transformer
    places = []
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        kind, place = str(module["type"]), str(module["path"])
        if not MODULE.fullmatch(kind):
            raise ConfigError(
                f"The sentence encoder {model!r} has the module {kind!r}, which is none of those that are known to run "
                "no code of others: choose an encoder without it."
            )
        if not PLACE.fullmatch(place):
            raise ConfigError(
                f"The sentence encoder {model!r} has a module outside its folder, {place!r}: choose another."
            )
        places.append(place)
    return places


def _refuse_pickles(files: list[Path], folder: Path, model: str) -> None:
    """Refuse weights of a module that are there as a pickle only, whatever other safetensors lie beside them."""
    pickled = [file for file in files if file.suffix.lower() in PICKLED]
    if pickled and not any(file.name in WEIGHTS for file in files):
        raise ConfigError(
            f"The sentence encoder {model!r} holds {str(pickled[0].relative_to(folder))!r}, which would have to be "
            "unpickled: choose one whose weights are saved as safetensors."
        )


def _check_harmless(file: Path, model: str) -> None:
    """Refuse a configuration that leads to code, or to other files than those beside it."""
    reason = "the weights of another model" if file.name == "adapter_config.json" else None
    if file.name.endswith(("config.json", ".index.json")):
        reason = reason or _leading_out(json.loads(file.read_text(encoding="utf-8")))
    if reason is not None:
        raise ConfigError(
            f"The sentence encoder {model!r} asks in {file.name} for {reason}, which is not loaded: choose another."
        )


def _leading_out(config: Any) -> str | None:
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            nodes += node.values()
            if node.get("auto_map") or node.get("trust_remote_code"):
                return "code of its own (auto_map, trust_remote_code)"
            deep = next(
                (key for key, n in node.items() if LAYERS.search(key) and n.__class__ is int and n > DEEPEST), None
            )
            if deep is not None:
                return f"{node[deep]:,} layers ({deep})"
            activation = str(node.get("activation_function", ""))
            if "." in activation and not activation.startswith("torch.nn."):
                return f"the code {activation!r}"
            shards = node.get("weight_map", {})
            for shard in shards.values() if isinstance(shards, dict) else ():
                if not re.fullmatch(r"\w[\w.-]*\.safetensors", str(shard)):
                    return f"the weights in {shard!r}"
    return None
