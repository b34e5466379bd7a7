"""A run as a `torch.export` program whose batch and histories may have any size."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from forethought.data.batches import Batch, lists_batch
from forethought.errors import ConfigError
from forethought.exporting.check import Program
from forethought.exporting.histories import inputs_of
from forethought.exporting.program import ScoringProgram
from forethought.files import first_line, short_of_memory

ROWS, LONGEST = 3, 7  # of the example, whose sizes mean nothing


def traced(program: ScoringProgram) -> ExportedProgram:
    """The program that PyTorch makes of it.

    Raises:
        ConfigError: PyTorch cannot follow it.
    """
    method = program.method
    example = inputs_of(_example(method.window, times=method.inputs.times))
    batch = Dim("batch")
    dynamic = {0: batch, 1: Dim("length", max=method.window)} if method.window > 1 else {0: batch}
    shapes = {name: dynamic if tensor.dim() > 1 else {0: batch} for name, tensor in example.items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(program, (), example, dynamic_shapes=shapes)
    except Exception as error:
        if short_of_memory(error):
            raise
        if str(error).startswith("Constraints violated"):
            raise ConfigError(
                "This run's code fixes the size of a batch or the length of histories as a number, as len() and "
                "range() of a tensor do: take tensor.shape and torch.arange there, or serve the run."
            ) from error
        raise ConfigError(
            f"PyTorch {torch.__version__} cannot make a program of this run ({first_line(error).rstrip('.')}): try a "
            "newer one, or serve the run."
        ) from error


def _example(window: int, *, times: bool) -> Batch:
    length = min(window, LONGEST)
    batch = lists_batch([torch.zeros(length, dtype=torch.int64).numpy()] * ROWS, window)
    return Batch(batch.items_BL, batch.lengths_B, times_BL=batch.items_BL.clone() if times else None)


def saved(exported: ExportedProgram, path: Path) -> None:
    """Write it as a .pt2 file."""
    torch.export.save(exported, path)


def opened(path: Path) -> Program:
    """The program in a file, as it can be called.

    Raises:
        ConfigError: PyTorch cannot read what it wrote.
    """
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        if short_of_memory(error):
            raise
        raise ConfigError(
            f"PyTorch {torch.__version__} cannot read the program that it made of this run "
            f"({first_line(error).rstrip('.')}): try a newer one, export to onnx, or serve the run."
        ) from error

    def call(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():  # each of some hundred small operations is cheaper than without gradients alone
            outputs = module(**inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return call
