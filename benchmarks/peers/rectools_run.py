"""Measures RecTools' SASRec: `fit` with its own loader and Lightning module, `recommend`, `calc_metrics`."""

# ruff: noqa: E402 - the peer is imported late, so that its import can be timed

from __future__ import annotations

import time
import warnings
from typing import Any

import measure

ARGUMENTS = measure.parse_arguments("RecTools", batch_size=128)  # RecTools' default

IMPORT_BEGAN = time.perf_counter()
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, Recall, calc_metrics
from rectools.models import SASRecModel

IMPORT_S = time.perf_counter() - IMPORT_BEGAN


class Timer(measure.LightningTimer, Callback):
    """The stopwatch as a callback of RecTools' Lightning."""


def read(part: str) -> pd.DataFrame:
    table = pd.read_csv(ARGUMENTS.data / f"{part}.csv")
    table = table.rename(columns={"user_id": Columns.User, "item_id": Columns.Item})
    table[Columns.Weight] = 1.0
    # Any increasing time will do: RecTools only sorts by it.
    table[Columns.Datetime] = pd.to_datetime(table.pop("position"), unit="s")
    return table


def trainer_for(stopwatch: measure.Stopwatch) -> Trainer:
    """The trainer RecTools makes when it is given none, with the stopwatch and a limit on the batches."""
    return Trainer(
        max_epochs=stopwatch.passes,
        min_epochs=stopwatch.passes,
        limit_train_batches=stopwatch.limit,
        callbacks=[Timer(stopwatch)],
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        devices=1,
    )


def recommend(model: SASRecModel, dataset: Dataset, users: Any) -> pd.DataFrame:
    return model.recommend(users=users, dataset=dataset, k=measure.TOP_K, filter_viewed=True)


def main() -> None:
    torch.set_num_threads(ARGUMENTS.threads)
    train, valid, test = read("train"), read("valid"), read("test")
    users = train[Columns.User].unique()
    stopwatch = measure.Stopwatch(ARGUMENTS, epoch_rows=len(users))
    torch.manual_seed(1)
    model = SASRecModel(
        n_factors=measure.WIDTH,
        n_blocks=measure.LAYERS,
        n_heads=measure.HEADS,
        session_max_len=measure.WINDOW,
        dropout_rate=measure.DROPOUT,
        loss="softmax",
        lr=measure.LEARNING_RATE,
        batch_size=ARGUMENTS.batch_size,
        get_trainer_func=lambda: trainer_for(stopwatch),
    )
    model.fit(Dataset.construct(train))
    # RecTools trains with a deep copy of its trainer, stopwatch included.
    stopwatch = next(c.stopwatch for c in model.fit_trainer.callbacks if isinstance(c, Timer))
    training = stopwatch.result()

    warnings.filterwarnings("ignore")
    known = pd.concat([train, valid])
    dataset = Dataset.construct(known)
    # By default RecTools divides DCG by that of k hits; with one target a user, this is the NDCG of the others.
    ndcg, recall = NDCG(k=measure.TOP_K, divide_by_achievable=True), Recall(k=measure.TOP_K)
    metrics = {f"ndcg@{measure.TOP_K}": ndcg, f"recall@{measure.TOP_K}": recall}

    def evaluate() -> dict[str, float]:
        return calc_metrics(metrics, reco=recommend(model, dataset, users), interactions=test)

    evaluation = measure.repeat(evaluate, ARGUMENTS.repetitions)

    # A request brings its own history, as in serving; building the data set of that one user is part of the request.
    # To recommend one user out of the data set of all is not faster.
    histories = dict(iter(known.groupby(Columns.User)))
    latency = measure.latency_ms(
        lambda user: recommend(model, Dataset.construct(histories[user]), [user]), users, ARGUMENTS.requests
    )

    measure.write_result(
        ARGUMENTS,
        package="rectools",
        import_s=IMPORT_S,
        training=training,
        evaluation=evaluation,
        latency=latency,
        protocol={
            "rows": "one per user, padded to the window",
            "history_excluded": True,
            "recommend_batch_size": model.recommend_batch_size,
            "dropout": measure.DROPOUT,
        },
    )


if __name__ == "__main__":
    main()
