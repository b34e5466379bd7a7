"""A program as an ONNX file, and that file in ONNX Runtime."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from forethought.errors import ConfigError
from forethought.exporting.check import Program
from forethought.files import first_line, short_of_memory

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Whether all is there that writes and tries an ONNX file.

    Raises:
        ConfigError: a package is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"ONNX needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            'pip install "forethought[export]", or export with --to torch.'
        )


def write_onnx(exported: ExportedProgram, path: Path, inputs: list[str], outputs: list[str]) -> int:
    """Write it with the weights inside, beside it where they are beyond 2 GB; the opset that it needs.

    Raises:
        ConfigError: PyTorch has no ONNX for some of its operations.
    """
    try:
        with _quiet():
            program = torch.onnx.export(
                exported, dynamo=True, input_names=inputs, output_names=outputs, verbose=False, optimize=True
            )
            assert program is not None
            program.save(path)
        return program.model.opset_imports[""]
    except Exception as error:
        if short_of_memory(error):
            raise
        cause = error.__cause__ or error
        raise ConfigError(
            f"PyTorch {torch.__version__} cannot write this run as ONNX ({first_line(cause).rstrip('.')}): export it "
            "with --to torch, or serve the run."
        ) from error


def open_onnx(path: Path) -> Program:
    """The file in ONNX Runtime on the CPU, with as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        arrays = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return tuple(map(torch.from_numpy, arrays))

    return call


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
