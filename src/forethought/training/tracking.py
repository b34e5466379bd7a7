"""Where figures go while training: always `log.jsonl`; TensorBoard, MLflow or Weights & Biases when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from forethought.errors import ConfigError, MissingExtraError, RunError, nearest, shown
from forethought.files import first_line, refuse_special, replace_file
from forethought.run_files import CARD_FILE, CONFIG_FILE, ITEMS_FILE, LOG_FILE, MODEL_FILE

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
KEPT = (CONFIG_FILE, ITEMS_FILE, MODEL_FILE, CARD_FILE, LOG_FILE)  # what `load` reads, and what is for people

MOST_PARAMETERS = 100  # that MLflow takes at once


class Tracker(Protocol):
    """Made before anything is written, so that a missing package costs nothing; started with the run."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None: ...
    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def finish(self) -> None: ...


class JsonLines:
    """One JSON object a line; a resumed run goes on in the same file, dropping lines of steps it will repeat."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.path = folder / LOG_FILE
        refuse_special(self.path)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`, so that no epoch stands there twice."""
        if self.path.is_file():
            text = self.path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines() if _step_of(line) <= step]
            text = "".join(line + "\n" for line in lines)
            replace_file(self.path, lambda part: part.write_text(text, encoding="utf-8"))

    def log(self, figures: Mapping[str, Any], step: int) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**figures, "step": step}) + "\n")
        except OSError as error:
            raise RunError(f"{self.path} could not be written ({first_line(error)}): make room.") from error

    def mark(self) -> dict[str, Any]:
        """How far the file goes, and the checksum of all that: `check_log` finds out whether it is still there."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def finish(self) -> None:
        """Nothing is kept open."""


def check_log(folder: Path, mark: Mapping[str, Any]) -> None:
    """Whether the log of a run still begins with what it held when its state was saved; it may also be gone.

    Raises:
        RunError: it was changed.
    """
    path = folder / LOG_FILE
    if not path.is_file():
        return
    with path.open("rb") as file:
        content = file.read(int(mark["bytes"]))
    if hashlib.sha256(content).hexdigest() != mark["sha256"]:
        raise RunError(f"{path} is damaged (it was changed since the state was saved): remove it, and resume again.")


class TensorBoard:
    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "track", "Tracking with TensorBoard") from error
        self.make = SummaryWriter

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.writer = self.make(str(folder / "tensorboard"))
        self.writer.add_text("config", json.dumps(config, indent=2))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self.writer.close()


class MLflow:
    def __init__(self) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("mlflow", None, "Tracking with MLflow") from error
        self.mlflow = mlflow

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.mlflow.start_run(run_name=folder.name)
        self.mlflow.log_dict(dict(config), "config.json")
        settings = list(_flat(config).items())
        for n in range(0, len(settings), MOST_PARAMETERS):
            self.mlflow.log_params(dict(settings[n : n + MOST_PARAMETERS]))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        plain = {name.replace("@", "_at_"): value for name, value in figures.items()}  # it refuses "@"
        self.mlflow.log_metrics(plain, step=step)

    def keep(self, files: Sequence[Path]) -> None:
        for path in files:
            self.mlflow.log_artifact(str(path), artifact_path="run")

    def finish(self) -> None:
        self.mlflow.end_run()


class WandB:
    def __init__(self) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("wandb", None, "Tracking with Weights & Biases") from error
        self.wandb = wandb

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.run = self.wandb.init(project="forethought", name=folder.name, dir=str(folder), config=dict(config))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def keep(self, files: Sequence[Path]) -> None:
        artifact = self.wandb.Artifact(f"run-{self.run.id}", type="model")
        for path in files:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def finish(self) -> None:
        self.run.finish()


def _flat(config: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Each setting by its whole name, such as method.backbone.width, as runs are told apart in a table."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{within}{name}.") if isinstance(value, Mapping) else {f"{within}{name}": value}
    return flat


ADAPTERS: dict[TrackerName, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class Trackers:
    """The run's own log and whatever else was asked for, told together."""

    def __init__(self, names: Sequence[TrackerName] = (), *, keep_model: bool = False) -> None:
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConfigError(f"track is {shown(names)}, but must be a list of trackers, of {', '.join(ADAPTERS)}.")
        for name in names:
            if not isinstance(name, str) or name not in ADAPTERS:
                known = ", ".join(ADAPTERS)
                raise ConfigError(f"There is no tracker {name!r}; the trackers are {known}.{nearest(name, ADAPTERS)}")
        keepers = [name for name, adapter in ADAPTERS.items() if hasattr(adapter, "keep")]
        if keep_model and not {*names} & {*keepers}:
            raise ConfigError(
                f"Keeping the model with a tracker needs one that keeps files: track {' or '.join(keepers)}, or leave "
                "track_model out."
            )
        self.keep_model = keep_model
        self.lines = JsonLines()
        self.all: list[Tracker] = [self.lines, *(ADAPTERS[name]() for name in names)]

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        for tracker in self.all:
            tracker.start(folder, config)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for tracker in self.all:
            tracker.log(figures, step)

    def keep(self, folder: Path) -> None:
        """Where that was asked for, the files of a run that is whole go to all trackers that keep files.

        Raises:
            RunError: one of them did not take them; the run is whole all the same.
        """
        files = [path for name in KEPT if (path := folder / name).is_file()]
        for tracker in self.all if self.keep_model else ():
            if (keep := getattr(tracker, "keep", None)) is None:
                continue
            try:
                keep(files)
            except Exception as error:  # of whatever package, server or disk it is
                raise RunError(
                    f"The run in {folder} is whole, but {type(tracker).__name__} did not take its files "
                    f"({first_line(error)}): send them by hand, or the same command with resume (--resume) tries again."
                ) from error

    def warn(self, sentences: Sequence[str], step: int) -> None:
        """Warnings go into the run's own log only."""
        if sentences:
            self.lines.log({"warnings": list(sentences)}, step)

    def finish(self) -> None:
        for tracker in self.all:
            tracker.finish()


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 1 << 62  # a line cut short by a kill
