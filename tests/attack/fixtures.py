"""What every attack starts from: shops, prepared folders, trained, stopped and evaluated runs, encoders."""

from __future__ import annotations

import importlib
import pkgutil
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attack import calls
from attack.calls import Call, Stop
from attack.ground import Lane, own_all

WORDS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "red", "blue", "pen", "brand", "acme", "categories", ">", ".", ":"]
SHOP = ("--users", "40", "--items", "24", "--interactions-per-user", "6", "--seed", "5")
SIZE = ("--width", "8", "--window", "6", "--epochs", "2", "--batch-positions", "64", "--checkpoint-every-s", "1e-9")
OWN_SIZE = {
    "igr-sr": ("--encoder-epochs", "1", "--reasoner.width", "8"),
    "lares": ("--reinforcement.epochs", "1"),
    "sse-pt": ("--user-width", "4"),
    "sse-pt-authors": ("--user-width", "4"),
    "sse-pt-plus-plus": ("--user-width", "4", "--window", "4"),  # it trains on what is before a window
    "dtrec": ("--first-clusters", "2", "--most-clusters", "4"),
}
CLOSED_FORM = ("popular", "itemknn", "ease")  # fitted at once
STAGED, STOPPED = ("sasrec", "igr-sr", "lares"), "stopped"
EVIDENCE = ("--evidence", "co_occurrence,repeat")  # of the run `evidence`


def import_all() -> None:
    """Everything that calls need, so that a fork has it; nothing is computed in this process."""
    import forethought

    for module in pkgutil.walk_packages(forethought.__path__, "forethought."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "duckdb",
        "pyarrow.parquet",
        "faiss",
        "matplotlib.pyplot",
        "sklearn.manifold",
        "sentence_transformers",
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed: what needs it is attacked without it.")


def methods() -> list[str]:
    from forethought.recipes import METHODS

    return list(METHODS)


def train(method: str, out: str, *more: str, data: str = "shop") -> list[str]:
    """The words that train a method, tiny; what is fitted in closed form is as large as the data."""
    size = () if method in CLOSED_FORM else (*SIZE, *OWN_SIZE.get(method, ()))
    return ["train", method, "--data", data, "--out", out, *size, "--quiet", *more]


def build(lane: Lane, say: Callable[[str], None]) -> None:
    """Make `master/`, with the command line itself, in the lane that is then emptied."""
    lane.clear()
    (lane.folder / "case").rmdir()
    lane.master.mkdir(exist_ok=True)
    (lane.root / "matplotlib").mkdir(exist_ok=True)
    (lane.folder / "case").symlink_to(lane.master)  # so that runs know their data by its place in master
    own_all(lane.master)
    own_all(lane.root / "matplotlib")
    say("a shop, and a prepared folder")
    _do(lane, ["simulate", "--out", "shop", *SHOP])
    _do(lane, ["simulate", "--out", "other", *SHOP[:-1], "6"])
    _do(lane, ["prepare", "shop", "--out", "prep", "--name", "prep"])
    for method in methods():
        say(f"a run of {method}")
        _do(lane, train(method, f"runs/{method}"))
        _do(lane, ["evaluate", f"runs/{method}", "--resamples", "50"])
    _do(lane, train("sasrec", "runs/seed1", "--seed", "1"))
    _do(lane, ["evaluate", "runs/seed1", "--resamples", "50"])
    _do(lane, ["recommend", "runs/sasrec", "--history", "i00001", "--approximate"])
    _do(lane, train("sasrec", "runs/prepared", data="prep"))
    _do(lane, train("sasrec", "runs/evidence", *EVIDENCE))
    _do(lane, ["evaluate", "runs/evidence", "--resamples", "50"])
    for method in STAGED:
        say(f"a stopped run of {method}")
        _stopped(lane, method)
    say("a study")
    variant = ["--only", "dtrec", "--results", "study/results", "--runs", "study/runs", "--quiet"]
    _do(lane, ["study", "hps", "--data", "shop", *variant])
    calls.make(lane, histories)
    calls.make(lane, encoders)


def _do(lane: Lane, words: Sequence[str]) -> None:
    outcome = calls.run(Call(words, limit_s=120), lane)
    if outcome.code:
        raise RuntimeError(f"forethought {' '.join(words)} failed, so nothing can be attacked: {outcome.err[-1500:]}")


def _stopped(lane: Lane, method: str) -> None:
    """A training that was killed half-way between its first state and its end."""
    whole = calls.run(Call(train(method, f"{STOPPED}/whole-{method}"), limit_s=120), lane)
    stop = Stop(operation=whole.operations * 2 // 3)
    outcome = calls.run(Call(train(method, f"{STOPPED}/{method}"), limit_s=120), lane, stop)
    if outcome.code != -signal.SIGKILL:
        raise RuntimeError(f"A training of {method} could not be stopped: {outcome.err[-1500:]}")


def histories() -> None:
    """Tables for `recommend --input`, and text vectors of before for `embed --overwrite`."""
    import numpy as np
    import polars as pl

    np.save("older.npy", np.ones((3, 4), np.float16))

    draw = random.Random(0)
    ids = pl.read_parquet("shop/items.parquet")["item_id"].to_list()
    rows = [draw.sample(ids, draw.randint(1, 6)) for _ in range(60)]
    times = [[1_600_000_000 + 86_400 * n for n in range(len(row))] for row in rows]
    pl.DataFrame({"who": range(60), "history": rows, "times": times}).write_parquet("histories.parquet")
    pl.DataFrame({"who": range(60), "history": rows[::-1], "times": times[::-1]}).write_parquet("others.parquet")
    Path("histories.txt").write_text("\n".join(ids[:10]) + "\n", encoding="utf-8")


def encoders() -> None:
    """Two sentence encoders: a mean of word vectors, and a small Transformer with pooling and a dense layer."""
    try:
        import sentence_transformers as st
        import tokenizers
        import transformers
        from sentence_transformers.sentence_transformer import modules
    except ImportError:
        return
    import numpy as np
    import torch

    torch.manual_seed(0)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    static = modules.StaticEmbedding(words, embedding_weights=vectors)
    st.SentenceTransformer(modules=[static], device="cpu").save("encoder")
    config: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "vocab_size": len(WORDS), "max_position_embeddings": 32}
    transformers.BertModel(transformers.BertConfig(**config)).save_pretrained("bert")
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained("bert")
    parts = [modules.Transformer("bert"), modules.Pooling(8, "mean"), modules.Dense(8, 8)]
    st.SentenceTransformer(modules=parts, device="cpu").save("transformer")
