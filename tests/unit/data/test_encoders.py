"""Encoders from anybody: what they would run or unpickle is never loaded, whatever else they hold."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.data import encoders
from forethought.data.encoders import load_encoder
from forethought.errors import ConfigError

WORDS = ["[UNK]", "red", "pen"]


class Pwned:
    """Writes a file when it is unpickled."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> Any:
        return Path.touch, (self.at,)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of words, their mean, and a dense layer on it, as sentence-transformers saves them."""
    st = pytest.importorskip("sentence_transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32)
    modules = st.sentence_transformer.modules
    parts = [modules.StaticEmbedding(words, embedding_weights=vectors), modules.Dense(4, 3)]
    folder = tmp_path_factory.mktemp("encoder")
    st.SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    return folder


@pytest.fixture
def theirs(sound: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "theirs"))


def dense(folder: Path) -> Path:
    return folder / next(m["path"] for m in json.loads((folder / "modules.json").read_text()) if "Dense" in m["type"])


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def vectors(model: Path) -> np.ndarray:
    return load_encoder(str(model)).encode(["red pen"], show_progress_bar=False)


def test_a_sound_encoder_is_loaded_as_it_is(sound: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    wanted = st.SentenceTransformer(str(sound), device="cpu").encode(["red pen"], show_progress_bar=False)
    np.testing.assert_array_equal(vectors(sound), wanted)


@pytest.mark.parametrize("bare", [False, True])
def test_a_transformer_is_loaded_with_and_without_modules(bare: bool, tmp_path: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "pen"]))
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=7, **shape))
    for part in (tokenizer, bert):
        part.save_pretrained(tmp_path / "bare")
    whole = st.SentenceTransformer(str(tmp_path / "bare"), device="cpu")
    whole.save(str(tmp_path / "whole"))
    wanted = whole.encode(["red pen"], show_progress_bar=False)
    np.testing.assert_allclose(vectors(tmp_path / ("bare" if bare else "whole")), wanted, atol=1e-6)


@pytest.mark.parametrize("ending", [".bin", ".BIN", ".pt", ".Pkl"])
def test_a_pickle_beside_a_decoy_is_not_unpickled(ending: str, theirs: Path, tmp_path: Path) -> None:
    at = dense(theirs)
    (at / "model.safetensors").rename(at / "decoy.safetensors")
    (at / f"pytorch_model{ending}").write_bytes(pickle.dumps(Pwned(tmp_path / "owned")))
    with pytest.raises(
        ConfigError, match=rf"holds '{at.name}/pytorch_model{ending}', which would have to be unpickled"
    ):
        load_encoder(str(theirs))
    assert not (tmp_path / "owned").exists()


def test_a_pickle_behind_a_link_is_not_unpickled(theirs: Path, tmp_path: Path) -> None:
    at = dense(theirs)
    at.rename(tmp_path / "elsewhere")
    at.symlink_to(tmp_path / "elsewhere")
    assert vectors(theirs).shape == (1, 3)  # a link by itself is no harm
    (tmp_path / "elsewhere" / "model.safetensors").unlink()
    (tmp_path / "elsewhere" / "pytorch_model.bin").write_bytes(pickle.dumps(Pwned(tmp_path / "owned")))
    with pytest.raises(ConfigError, match="would have to be unpickled"):
        load_encoder(str(theirs))
    assert not (tmp_path / "owned").exists()


def test_what_is_not_read_does_no_harm(theirs: Path, tmp_path: Path, sound: Path) -> None:
    """Pickles and code beside sound weights are left where they are, as in many an encoder of the hub."""
    for place in (theirs, dense(theirs), theirs / "checkpoint-5"):
        place.mkdir(exist_ok=True)
        (place / "pytorch_model.bin").write_bytes(pickle.dumps(Pwned(tmp_path / "owned")))
        (place / "modeling.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    np.testing.assert_array_equal(vectors(theirs), vectors(sound))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "kind",
    [
        "evil.Evil",
        "os.system",
        "sentence_transformers.Evil",
        "sentence_transformers.models.WordEmbeddings",  # which imports whatever class its configuration names
        "sentence_transformers.base.modules.router.Router",  # which holds modules of its own
    ],
)
def test_a_module_of_their_own_is_not_imported(
    kind: str, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (theirs, tmp_path):
        (place / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Evil: ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = json.loads((theirs / "modules.json").read_text())
    (theirs / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": kind}]))
    with pytest.raises(ConfigError, match=f"has the module '{kind}', which is none of those"):
        load_encoder(str(theirs))
    assert "evil" not in sys.modules
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("place", ["../other", "/etc", "..", "a/../../b", "2_Dense/.."])
def test_a_module_outside_the_folder_is_not_loaded(place: str, theirs: Path) -> None:
    modules = json.loads((theirs / "modules.json").read_text())
    modules[1]["path"] = place
    (theirs / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="has a module outside its folder"):
        load_encoder(str(theirs))


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}, "code of its own"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.Evil", None]}}, "code of its own"),
        ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}, "code of its own"),
        ("config.json", {"activation_function": "evil.Evil"}, "the code 'evil.Evil'"),
        ("adapter_config.json", {"base_model_name_or_path": "somebody/else"}, "weights of another model"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../pytorch_model.bin"}}, "the weights in"),
        ("model.safetensors.index.json", {"weight_map": {"a": "pytorch_model.bin"}}, "the weights in"),
    ],
)
def test_a_configuration_that_leads_to_code_is_refused(
    file: str, values: dict[str, Any], said: str, theirs: Path
) -> None:
    for place in (theirs, dense(theirs)):
        before = (place / file).read_bytes() if (place / file).exists() else None
        (place / file).write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=rf"asks in {file} for .*{said}") as error:
            load_encoder(str(theirs))
        assert "\n" not in str(error.value)
        (place / file).unlink() if before is None else (place / file).write_bytes(before)
    assert vectors(theirs).shape == (1, 3)


@pytest.mark.parametrize("modules", ["{", "5", "[5]", "[{}]", '[{"type": 5, "path": 5}]'])
def test_a_broken_list_of_modules_is_one_sentence(modules: str, theirs: Path) -> None:
    (theirs / "modules.json").write_text(modules)
    with pytest.raises(ConfigError) as error:
        load_encoder(str(theirs))
    assert "\n" not in str(error.value)


def test_nothing_is_left_of_the_links(theirs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoders.tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    vectors(theirs)
    (theirs / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(str(theirs))
    assert sorted(tmp_path.iterdir()) == before


def test_a_version_that_runs_modules_of_others_is_not_installed() -> None:
    """Before 6.0 a folder on this machine was trusted."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["text"] == ["sentence-transformers>=6"]


def test_links_that_a_killed_process_left_are_swept(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    kill = "import os, sys; from pathlib import Path; from forethought.data import encoders\n"
    kill += f"import tempfile; tempfile.tempdir = {str(tmp_path / 'tmp')!r}\n"
    kill += f"with encoders._harmless(Path({str(theirs)!r}), ''): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", kill], timeout=60, check=False).returncode == -9
    assert len(list((tmp_path / "tmp").iterdir())) == 2
    assert vectors(theirs).shape == (1, 3)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("layers", [10_001, 2**31, 2**63])
def test_layers_without_end_are_not_built(layers: int, theirs: Path) -> None:
    (theirs / "config.json").write_text(json.dumps({"text_config": {"num_hidden_layers": layers}}))
    with pytest.raises(ConfigError, match=rf"asks in config.json for {layers:,} layers .num_hidden_layers., which"):
        load_encoder(str(theirs))


def test_what_is_said_of_weights_has_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    logger = transformers.utils.logging.get_logger("transformers.modeling_utils")
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("transformers").addHandler(handler)
    try:
        with encoders._printable_logs():
            logger.warning("\x1b[1mLOAD %s\x1b[0m\n- MISSING:\t\x1b]0;title\x07", "REPORT")
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert capsys.readouterr().err == "LOAD REPORT\n- MISSING: \\x1b]0;title\\x07\n"
