"""Measures RePlay's SasRec: its ParquetModule, Lightning module, metrics callback and default transforms."""

# ruff: noqa: E402 - the peer is imported late, so that its import can be timed

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path

import measure

ARGUMENTS = measure.parse_arguments("RePlay", batch_size=128)  # RePlay has no default; this is the SASRec paper's

IMPORT_BEGAN = time.perf_counter()
import lightning
import polars as pl
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet.parquet_module import ParquetModule
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import ComputeMetricsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential.sasrec import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms

IMPORT_S = time.perf_counter() - IMPORT_BEGAN
ITEM = "item_id"


class Timer(measure.LightningTimer, lightning.Callback):
    """The stopwatch as a callback of RePlay's Lightning."""


def write_sequences(data: Path, folder: Path) -> list[list[int]]:
    """Write RePlay's input (a list of 0-based item codes per user) and return the histories of the test."""
    train, valid, test = (pl.read_csv(data / f"{part}.csv") for part in ("train", "valid", "test"))
    codes = pl.concat([train, valid, test]).select(pl.col(ITEM).unique().sort()).with_row_index("code")

    def sequences(table: pl.DataFrame, name: str) -> pl.DataFrame:
        coded = table.join(codes, on=ITEM).sort("user_id", "position")
        return coded.group_by("user_id", maintain_order=True).agg(pl.col("code").cast(pl.Int64).alias(name))

    histories = sequences(pl.concat([train, valid]), ITEM)
    sequences(train, ITEM).write_parquet(folder / "train.parquet")
    # The history is truncated to the window for the model, but all of it is excluded from the candidates.
    histories.join(sequences(test, "ground_truth"), on="user_id").with_columns(seen_ids=ITEM).write_parquet(
        folder / "test.parquet"
    )
    return histories[ITEM].to_list()


def schema_for(items: int) -> TensorSchema:
    return TensorSchema(
        TensorFeatureInfo(
            ITEM,
            feature_type=FeatureType.CATEGORICAL,
            is_seq=True,
            feature_hint=FeatureHint.ITEM_ID,
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
            cardinality=items,
            padding_value=items,
            embedding_dim=measure.WIDTH,
        )
    )


def data_module(folder: Path, schema: TensorSchema, items: int, longest: int) -> ParquetModule:
    window = measure.WINDOW
    return ParquetModule(
        batch_size=ARGUMENTS.batch_size,
        metadata={
            "train": {ITEM: {"shape": window + 1, "padding": items}},
            "test": {
                ITEM: {"shape": window, "padding": items},
                "ground_truth": {"shape": 1, "padding": -1},
                "seen_ids": {"shape": longest, "padding": -1},
            },
        },
        transforms=make_default_sasrec_transforms(schema),
        train_path=str(folder / "train.parquet"),
        test_path=str(folder / "test.parquet"),
    )


def single_user_request(model: LightningModule, items: int, histories: list[list[int]]) -> measure.Request:
    """Top-10 of one history, from a plain list of codes, by the model's inference and RePlay's filter of seen items."""
    seen = SeenItemsFilter(items)

    @torch.no_grad()
    def request(user: int) -> torch.Tensor:
        history = torch.tensor([histories[user]])
        recent = history[:, -measure.WINDOW :]
        codes = torch.full((1, measure.WINDOW), items)
        codes[:, measure.WINDOW - recent.shape[1] :] = recent
        batch = {"feature_tensors": {ITEM: codes}, "padding_mask": codes != items, "seen_ids": history}
        scores = seen.on_prediction(batch, model(batch)["logits"])
        return torch.topk(scores, measure.TOP_K, dim=1).indices

    return request


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(ARGUMENTS.threads)
    meta = json.loads((ARGUMENTS.data / "meta.json").read_text())
    items, users = meta["items"], meta["users"]
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        histories = write_sequences(ARGUMENTS.data, folder)
        schema = schema_for(items)
        data = data_module(folder, schema, items, max(map(len, histories)))
        torch.manual_seed(1)
        network = SasRec.from_params(
            schema=schema,
            embedding_dim=measure.WIDTH,
            num_heads=measure.HEADS,
            num_blocks=measure.LAYERS,
            max_sequence_length=measure.WINDOW,
            dropout=measure.DROPOUT,
        )
        model = LightningModule(network, OptimizerFactory(learning_rate=measure.LEARNING_RATE))
        stopwatch = measure.Stopwatch(ARGUMENTS, epoch_rows=users)
        metrics = ComputeMetricsCallback(
            metrics=["ndcg", "recall"], ks=[measure.TOP_K], postprocessors=[SeenItemsFilter(items)], verbose=False
        )
        trainer = lightning.Trainer(
            max_epochs=stopwatch.passes,
            limit_train_batches=stopwatch.limit,
            limit_val_batches=0,
            callbacks=[Timer(stopwatch), metrics],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            devices=1,
        )
        trainer.fit(model, datamodule=data)
        training = stopwatch.result()
        evaluation = measure.repeat(
            lambda: trainer.test(model, datamodule=data, verbose=False)[0], ARGUMENTS.repetitions
        )

    model.eval()
    latency = measure.latency_ms(single_user_request(model, items, histories), range(users), ARGUMENTS.requests)
    measure.write_result(
        ARGUMENTS,
        package="replay-rec",
        import_s=IMPORT_S,
        training=training,
        evaluation=evaluation,
        latency=latency,
        protocol={
            "rows": "one per user, padded to the window",
            "history_excluded": True,
            "eval_batch_size": ARGUMENTS.batch_size,
            "dropout": measure.DROPOUT,
        },
    )


if __name__ == "__main__":
    main()
