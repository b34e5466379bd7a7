"""Hostile sentence encoders: modules of their own, pickles in every disguise, code to be trusted, damaged parts."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attack import attempts
from attack.cases import Case
from attack.ground import Lane, own_all

KIND = "hostile encoders"
EVIL = "open({canary!r}, 'w').write('executed')\n\nclass Evil:\n    pass\n"
PLACES = ("", "1_Pooling", "2_Dense", "2_Dense/deep", "0_Transformer")
PICKLES = ("pytorch_model.bin", "model.pth", "model.pt", "weights.pkl", "model.ckpt", "x.bin", "adapter_model.bin")
DECOYS = ("model.safetensors", "x.safetensors", ".safetensors")
WORDS = ("embed", "shop/items.parquet", "--model", "evil", "--out", "out.npy")


def cases() -> list[Case]:
    if find_spec("sentence_transformers") is None:
        return []
    return [*_modules(), *_pickles(), *_code(), *_damaged()]


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo executed > {self.canary}",)


def _case(name: str, source: str, change: Callable[[Path, str], Any], *, must_fail: bool = False) -> Case:
    """Call `embed` with a copy of an encoder that was changed; the canary is a file that must not appear."""

    def prepare(lane: Lane) -> None:
        lane.take("shop", (source, "evil"))
        change(lane.case / "evil", str(lane.folder / "tmp" / "canary"))
        own_all(lane.case)

    return attempts.case(
        KIND, f"{source}: {name}", WORDS, prepare=prepare, outputs=("out.npy",), must_fail=must_fail, always=True
    )


def _modules() -> Iterator[Case]:
    """`modules.json` names what is to be imported."""
    names = ("evil.Evil", "evil", "modeling_evil.Evil", "evil.sub.Evil", "..evil.Evil", "/evil.Evil", "os.system")
    names += ("subprocess.Popen", "builtins.exec", "torch.nn.Linear", "torch.load", "pickle.loads", "", "x", "a.b.c.d")
    names += ("sentence_transformers.models.WordEmbeddings", "sentence_transformers.models.LSTM", "runpy.run_path")
    for source in ("encoder", "transformer"):
        for name in names:
            for at in (0, -1):

                def change(folder: Path, canary: str, name: str = name, at: int = at) -> None:
                    for file in ("evil.py", "modeling_evil.py", "__init__.py", "evil/__init__.py", "evil/sub.py"):
                        (folder / file).parent.mkdir(exist_ok=True)
                        (folder / file).write_text(EVIL.format(canary=canary))
                    parts = json.loads((folder / "modules.json").read_text())
                    parts[at]["type"] = name
                    (folder / "modules.json").write_text(json.dumps(parts))

                yield _case(f"module {at} is {name!r}", source, change, must_fail=True)
        for value in ([], {}, None, "x", [1], [[]], [{}], [{"idx": 0, "name": "0", "path": "../../..", "type": "x.Y"}]):

            def whole(folder: Path, canary: str, value: Any = value) -> None:
                (folder / "modules.json").write_text(json.dumps(value))

            yield _case(f"modules.json is {value!r}", source, whole)
        for path in ("..", "/", "/etc", "../../precious", "missing", "x\0y", "\ud800", 1, None, ["x"]):

            def moved(folder: Path, canary: str, path: Any = path) -> None:
                parts = json.loads((folder / "modules.json").read_text())
                parts[-1]["path"] = path
                (folder / "modules.json").write_text(json.dumps(parts))

            yield _case(f"a module lies at {path!r}", source, moved)


def _pickles() -> Iterator[Case]:
    """Weights that would be unpickled, alone, beside decoys and behind links."""
    for place in PLACES:
        for name in PICKLES:
            for decoy in (None, *DECOYS):

                def change(folder: Path, canary: str, place: str = place, name: str = name, decoy: Any = decoy) -> None:
                    at = folder / place
                    at.mkdir(parents=True, exist_ok=True)
                    for weights in at.glob("*.safetensors"):
                        weights.rename(at / f"{weights.name}.away") if decoy != weights.name else None
                    (at / name).write_bytes(_pickled(canary))
                    if decoy and not (at / decoy).exists():
                        (at / decoy).write_bytes(struct.pack("<Q", 2) + b"{}")

                yield _case(f"{place or 'top'}/{name} beside {decoy}", "transformer", change)
    for name in ("pytorch_model.bin", "model.safetensors"):
        for place in ("2_Dense", "1_Pooling"):

            def linked(folder: Path, canary: str, name: str = name, place: str = place) -> None:
                away = folder.parent / "elsewhere"
                (folder / place).rename(away)
                for weights in away.glob("*.safetensors"):
                    weights.unlink()
                (away / name).write_bytes(_pickled(canary))
                (folder / place).symlink_to(away)

            yield _case(f"{place} is a link to {name}", "transformer", linked, must_fail=place == "2_Dense")

    def renamed(folder: Path, canary: str) -> None:
        (folder / "model.safetensors").write_bytes(_pickled(canary))

    def torch_zip(folder: Path, canary: str) -> None:
        import zipfile

        with zipfile.ZipFile(folder / "2_Dense" / "pytorch_model.bin", "w") as archive:
            archive.writestr("archive/data.pkl", _pickled(canary))
            archive.writestr("archive/version", "3\n")
        (folder / "2_Dense" / "model.safetensors").unlink()

    yield _case("a pickle called model.safetensors", "transformer", renamed, must_fail=True)
    yield _case("a torch archive in 2_Dense", "transformer", torch_zip, must_fail=True)


def _pickled(canary: str) -> bytes:
    return pickle.dumps(Bomb(canary))


def _code() -> Iterator[Case]:
    """Code that a configuration asks to be trusted."""
    for file in (
        "config.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ):
        for key, value in {
            "auto_map": {
                "AutoModel": "evil.Evil",
                "AutoTokenizer": ["evil.Evil", "evil.Evil"],
                "AutoConfig": "evil.Evil",
            },
            "trust_remote_code": True,
            "model_args": {"trust_remote_code": True},
            "tokenizer_args": {"trust_remote_code": True},
            "config_args": {"trust_remote_code": True},
            "model_type": "evil",
            "architectures": ["Evil"],
            "tokenizer_class": "Evil",
            "activation_function": "evil.Evil",
            "similarity_fn_name": "evil",
            "transformer_task": "evil",
            "quantization_config": {"quant_method": "evil"},
            "backend": "onnx",
        }.items():

            def change(folder: Path, canary: str, file: str = file, key: str = key, value: Any = value) -> None:
                (folder / "evil.py").write_text(EVIL.format(canary=canary))
                parts = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
                extra = {"trust_remote_code": True} if key == "auto_map" else {}
                (folder / file).write_text(json.dumps({**parts, key: value, **extra}))

            yield _case(f"{file} has {key}", "transformer", change)
    for name in ("evil.Evil", "os.system", "torch.nn.Tanh", "torch.load", "builtins.print", "", 1):

        def dense(folder: Path, canary: str, name: Any = name) -> None:
            (folder / "evil.py").write_text(EVIL.format(canary=canary))
            parts = json.loads((folder / "2_Dense/config.json").read_text())
            (folder / "2_Dense/config.json").write_text(json.dumps(parts | {"activation_function": name}))

        yield _case(f"the dense layer's function is {name!r}", "transformer", dense)


def _damaged() -> Iterator[Case]:
    """Every file missing, empty, cut, of another kind, or with numbers that are absurd."""
    spoiled: dict[str, Callable[[Path], Any]] = {
        "missing": Path.unlink,
        "empty": lambda path: path.write_bytes(b""),
        "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "an object": lambda path: path.write_bytes(b"{}"),
        "a list": lambda path: path.write_bytes(b"[]"),
        "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
        "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    }
    files = {
        "encoder": ("tokenizer.json", "model.safetensors", "modules.json", "config_sentence_transformers.json"),
        "transformer": ("config.json", "tokenizer.json", "model.safetensors", "2_Dense/config.json", "modules.json"),
    }
    for source, names in files.items():
        for name in names:
            for what, spoil in spoiled.items():
                yield _case(f"{name} is {what}", source, lambda folder, _, n=name, s=spoil: s(folder / n))
    for key in ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "num_attention_heads"):
        for value in (0, -1, 2**31, 2**63, 1e308, "x", None, [1], float("nan")):

            def grown(folder: Path, canary: str, key: str = key, value: Any = value) -> None:
                parts = json.loads((folder / "config.json").read_text())
                (folder / "config.json").write_text(json.dumps(parts | {key: value}))

            yield _case(f"config.json has {key}={value!r}", "transformer", grown)
