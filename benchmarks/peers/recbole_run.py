"""Measures RecBole's SASRec: its own data set, loader, `Trainer._train_epoch` and `Trainer.evaluate`."""

# ruff: noqa: E402 - the peer is imported late, so that its import can be timed

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

ARGUMENTS = measure.parse_arguments("RecBole", batch_size=2048)  # RecBole's default

IMPORT_BEGAN = time.perf_counter()
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_logger, init_seed

IMPORT_S = time.perf_counter() - IMPORT_BEGAN


def write_atomic_file(data: Path, folder: Path) -> None:
    """RecBole splits a table itself, so it gets all three parts in one; its time column is our position."""
    (folder / "beauty").mkdir()
    with (folder / "beauty" / "beauty.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for part in ("train", "valid", "test"):
            rows = (data / f"{part}.csv").read_text().splitlines()[1:]
            file.writelines(row.replace(",", "\t") + "\n" for row in rows)


def configuration(folder: Path) -> Config:
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": measure.WINDOW,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG", "Recall"],
        "topk": [measure.TOP_K],
        "valid_metric": f"NDCG@{measure.TOP_K}",
        "hidden_size": measure.WIDTH,
        "n_layers": measure.LAYERS,
        "n_heads": measure.HEADS,
        "hidden_dropout_prob": measure.DROPOUT,
        "attn_dropout_prob": measure.DROPOUT,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "learning_rate": measure.LEARNING_RATE,
        "train_batch_size": ARGUMENTS.batch_size,
        "use_gpu": False,
        "show_progress": False,
        "state": "WARNING",
    }
    return Config(model="SASRec", dataset="beauty", config_dict=settings)


class TimedLoader:
    """RecBole's training loader, which tells the stopwatch of every batch and ends after `limit` of them."""

    def __init__(self, loader: Any, stopwatch: measure.Stopwatch) -> None:
        self.loader = loader
        self.stopwatch = stopwatch

    def __iter__(self) -> Iterator[Interaction]:
        for count, batch in enumerate(self.loader):
            if count == self.stopwatch.limit:
                return
            self.stopwatch.batch_starts()
            yield batch


def train(trainer: Trainer, loader: Any, stopwatch: measure.Stopwatch) -> None:
    def loss(batch: Interaction) -> torch.Tensor:
        value = trainer.model.calculate_loss(batch)
        stopwatch.losses.append(value.item())
        return value

    timed = TimedLoader(loader, stopwatch)
    for epoch in range(stopwatch.passes):
        stopwatch.epoch_starts()
        trainer._train_epoch(timed, epoch, loss_func=loss)
        stopwatch.epoch_ends()


def single_user_request(model: SASRec, histories: list[list[int]]) -> measure.Request:
    """Top-10 of one history by the model's own full-ranking prediction, from a plain list of RecBole's item codes."""

    @torch.no_grad()
    def request(user: int) -> torch.Tensor:
        history = histories[user]
        items = torch.zeros(1, measure.WINDOW, dtype=torch.int64)
        items[0, : len(history)] = torch.tensor(history)
        batch = Interaction({model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: torch.tensor([len(history)])})
        scores = model.full_sort_predict(batch).view(1, -1)
        scores[:, 0] = -torch.inf
        return torch.topk(scores, measure.TOP_K).indices

    return request


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    users = json.loads((ARGUMENTS.data / "meta.json").read_text())["users"]
    folder = Path(tempfile.mkdtemp(prefix="recbole-"))
    os.chdir(folder)  # RecBole writes logs into the working directory
    write_atomic_file(ARGUMENTS.data, folder)

    config = configuration(folder)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    train_data, _, test_data = data_preparation(config, create_dataset(config))
    model = SASRec(config, train_data.dataset).to(config["device"])
    trainer = Trainer(config, model)
    stopwatch = measure.Stopwatch(ARGUMENTS, epoch_rows=len(train_data.dataset))
    train(trainer, train_data, stopwatch)
    training = stopwatch.result()

    trainer.eval_collector.data_collect(train_data)
    evaluation = measure.repeat(lambda: trainer.evaluate(test_data, load_best_model=False), ARGUMENTS.repetitions)

    test = test_data.dataset.inter_feat
    assert len(test) == users
    lengths = test[model.ITEM_SEQ_LEN].tolist()
    histories = [row[:length] for row, length in zip(test[model.ITEM_SEQ].tolist(), lengths, strict=True)]
    model.eval()
    latency = measure.latency_ms(single_user_request(model, histories), range(users), ARGUMENTS.requests)

    measure.write_result(
        ARGUMENTS,
        package="recbole",
        import_s=IMPORT_S,
        training=training,
        evaluation=evaluation,
        latency=latency,
        protocol={
            "rows": "one per prefix, padded to the window",
            "history_excluded": False,
            "inner_size": config["inner_size"],
            "eval_batch_size": config["eval_batch_size"],
            "dropout": measure.DROPOUT,
        },
    )
    os.chdir("/")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
