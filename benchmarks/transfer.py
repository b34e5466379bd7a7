"""Whether tokens and a model over them carry over to other data: trained on FROM, ranked on TO.

python benchmarks/transfer.py FROM TO OUT [--features text] [--epochs 14] [--few 1] [--codebooks 8] [--size 256]

RPG over tokens of features alone (MPQ without collaborative vectors), so that both data need the same features and
nothing of who meets what is handed on. Rows: the model of FROM with no training on TO, and trained there for a few
epochs; the same method from the start, as long and for few epochs; what everybody must beat; and two controls whose
items bear each other's tokens, without and with the few epochs: what those keep was not in the tokens. All are held
against the one that is trained from the start for all epochs, paired over the users of TO. One seed. What was trained
already lies in OUT and is taken from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import forethought as ft
from forethought.data.features import Features
from forethought.data.prepare import open_prepared, prepared_folder
from forethought.data.splits import Split
from forethought.files import write_json
from forethought.methods.item_tokens import TokenItems
from forethought.run_files import MODEL_FILE as DONE
from forethought.semantic_ids.mpq import MPQ

START = "from the start"


def main() -> None:
    parser = argparse.ArgumentParser(prog="transfer", description=__doc__)
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--features", default="text")
    for name, value in (("epochs", 14), ("few", 1), ("codebooks", 8), ("size", 256), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    evaluations = measured(given)
    compared = ft.compare(evaluations, START, metrics=["recall@10", "ndcg@10"])
    given.out.mkdir(parents=True, exist_ok=True)
    options = {name: value.name if isinstance(value, Path) else value for name, value in vars(given).items()}
    write_json(given.out / "transfer.json", compared.to_json() | {"options": options})
    print(compared.document().text())


def measured(given: argparse.Namespace) -> dict[str, ft.Evaluation]:
    """Every row by its name, evaluated on the test part of TO."""
    source, target = split_of(given.source), split_of(given.target)
    recipe, out = recipe_of(given, given.epochs), given.out
    few = recipe_of(given, given.few)
    of_source = kept(out / "source", lambda folder: ft.train(recipe, source, folder))
    moved = kept(out / "moved", lambda folder: ft.transfer(of_source, target, folder))
    mixed = kept(out / "mixed", lambda folder: with_tokens_of_others(moved, given.seed, folder))
    runs = {
        START: kept(out / "start", lambda folder: ft.train(recipe, target, folder)),
        f"from the start, {given.few} of the epochs": kept(out / "start-few", lambda at: ft.train(few, target, at)),
        "carried over, untrained there": moved,
        f"carried over, {given.few} of the epochs there": kept(
            out / "few", lambda at: ft.train(few, target, at, start=out / "moved")
        ),
        "carried over, tokens of others": mixed,
        f"tokens of others, {given.few} of the epochs there": kept(
            out / "mixed-few", lambda at: ft.train(few, target, at, start=out / "mixed")
        ),
        "popularity": kept(out / "popular", lambda folder: ft.train(ft.recipe("popular"), target, folder)),
        "itemknn": kept(out / "itemknn", lambda folder: ft.train(ft.recipe("itemknn"), target, folder)),
    }
    return {name: ft.evaluate(run, target) for name, run in runs.items()}


def recipe_of(given: argparse.Namespace, epochs: int) -> ft.Recipe:
    plain = ft.recipe("rpg")
    tokenizer = MPQ(codebooks=given.codebooks, size=given.size, collaborative="none")
    return replace(
        plain,
        method=replace(plain.method, tokenizer=tokenizer),
        training=replace(plain.training, epochs=epochs, device="cpu"),
        features=Features(use=given.features),
        seed=given.seed,
    )


def with_tokens_of_others(run: ft.Recommender, seed: int, folder: Path) -> ft.Recommender:
    """The same run, whose items bear each other's tokens: everything else is as it was."""
    mixed = ft.load(run.folder, device="cpu")  # not what the caller holds
    draw = torch.Generator().manual_seed(seed)
    for part in mixed.method.modules():
        if isinstance(part, TokenItems):
            part.codes_NM.copy_(part.codes_NM[torch.randperm(part.n_items, generator=draw)])
    mixed.save(folder)
    return ft.load(folder, device="cpu")


def kept(folder: Path, make: Callable[[Path], ft.Recommender]) -> ft.Recommender:
    """What lies there, or what is made there now."""
    if (folder / DONE).is_file():
        return ft.load(folder, device="cpu")
    print(f"{folder.name} ..", flush=True)
    return make(folder)


def split_of(data: Path) -> Split:
    """A prepared folder as it was split; of any other table the last item of each user, ties shuffled."""
    if prepared_folder(data) is not None:
        return open_prepared(data)
    return ft.leave_last_out(ft.read(data), ties="shuffle")


if __name__ == "__main__":
    main()
