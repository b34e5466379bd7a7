"""What float8 layers take beside bfloat16 and float32 ones, on CUDA: a layer alone, and steps of a whole encoder.

python benchmarks/float8.py --device cuda --seconds 60 [--out OUT.json] [--widths 256 1024 4096] [--dry]

Two tables. `layers`: a layer from a width to four times as many, forward and backward, activations bfloat16 (float32
for fp32 and tf32). `steps`: two blocks of the library's causal Transformer, forward, backward and AdamW, weights in
float32, everything but the layers under autocast to bfloat16 (fp32 and tf32: none).

    fp32    float32, no TF32                    tf32     the same, TF32 allowed
    bf16    plain nn.Linear under autocast      layer_bf16   our bfloat16 layers
    fp8     e4m3 forward, e5m2 gradients        fp8_fast     the same, sums of the forward product in fewer bits
    fp8_compiled   fp8, casts through torch.compile (left out with its error where that does not work)

`agreement` holds the real float8 products against the emulated ones. Times are medians in milliseconds, taken in turns:
each round measures all formats one after the other. `--dry` is for a CPU: small sizes, emulated products, times that
mean nothing. One JSON goes to standard output, or to OUT.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forethought.nn.transformer import Transformer
from forethought.precision import products
from forethought.precision.formats import to_float8
from forethought.precision.linear import PrecisionLinear, is_available, make_precise

FORMATS = ("fp32", "tf32", "bf16", "layer_bf16", "fp8", "fp8_fast", "fp8_compiled")
ROWS, LENGTH = 256, 64  # histories of a step and their length: 16,384 positions
WARM = 3
Run = Callable[[], object]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all timings together, roughly")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args(arguments)
    if not args.dry and not (args.device.startswith("cuda") and torch.cuda.is_available()):
        sys.exit(f"There is no {args.device} here that float8 could be timed on: --dry tries the script on a CPU.")
    device = torch.device("cpu" if args.dry else args.device)
    widths, rows = ([32], 2) if args.dry else (args.widths, args.rows)

    def keep(report: dict[str, Any]) -> None:
        """As far as it has come: what is stopped by a time limit has not been for nothing."""
        if args.out is not None:
            args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    report = measure(device, widths, rows, args.seconds, keep)
    if args.out is None:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")


def measure(
    device: torch.device,
    widths: list[int],
    rows: int,
    seconds: float,
    keep: Callable[[dict[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """Both tables and the agreement; what fails is told by its first line and the rest goes on.

    Args:
        keep: called with all figures there are after each table.
    """
    each = seconds / (2 * len(widths))
    report: dict[str, Any] = {"machine": described(device), "positions": rows * LENGTH, "layers": {}, "steps": {}}
    report["agreement"] = tried(lambda: agreement(device))
    for width in widths:
        for name, cases in (("layers", layer_cases), ("steps", step_cases)):
            sys.stderr.write(f"{name}, width {width}\n")
            report[name][str(width)] = tried(lambda w=width, c=cases: in_turns(c(w, rows, device), device, each))
            keep(report)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return report


def described(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "float8_in_hardware": is_available("fp8", device),
    }


def tried(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # one table that fails must not cost the others
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def in_turns(cases: dict[str, Run], device: torch.device, seconds: float) -> dict[str, Any]:
    """Median milliseconds of each case, and errors of those that fail."""
    figures: dict[str, Any] = {}
    for name, run in list(cases.items()):
        warmed = tried(lambda run=run: [run() for _ in range(WARM)] and None)
        if warmed is not None:
            figures[name] = warmed
            del cases[name]
    times: dict[str, list[float]] = {name: [] for name in cases}
    until = time.perf_counter() + seconds
    while cases and (time.perf_counter() < until or len(next(iter(times.values()))) < WARM):
        for name, run in cases.items():
            times[name].append(milliseconds(run, device))
    for name, each in times.items():
        figures[name] = {"ms": statistics.median(each), "least_ms": min(each), "runs": len(each)}
    if "bf16" in times:
        base = figures["bf16"]["ms"]
        for name in times:
            figures[name]["over_bf16"] = figures[name]["ms"] / base
    return figures


def milliseconds(run: Run, device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return (time.perf_counter() - begin) * 1e3
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end)


# ---- what is timed


def layer_cases(width: int, rows: int, device: torch.device) -> dict[str, Run]:
    cases = {}
    for name in FORMATS:
        layer = nn.Linear(width, 4 * width, device=device)
        set_precision(layer, name, device)
        dtype = torch.float32 if name in ("fp32", "tf32") else torch.bfloat16
        x = torch.randn(rows * LENGTH, width, device=device, dtype=dtype, requires_grad=True)
        g = torch.randn(rows * LENGTH, 4 * width, device=device, dtype=dtype)

        def run(layer: nn.Linear = layer, x: Tensor = x, g: Tensor = g, name: str = name) -> None:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            with surroundings(name):
                with autocast(name, device):
                    y = layer(x)
                y.backward(g)

        cases[name] = run
    return cases


def step_cases(width: int, rows: int, device: torch.device) -> dict[str, Run]:
    return {name: step_case(name, width, rows, device) for name in FORMATS}


def step_case(name: str, width: int, rows: int, device: torch.device) -> Run:
    torch.manual_seed(0)
    model = Transformer(
        width=width,
        layers=2,
        heads=max(1, width // 64),
        ffn_width=4 * width,
        dropout=0.0,
        activation="gelu",
        norm_first=True,
        causal=True,
    ).to(device)
    set_precision(model, name, device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    x = torch.randn(rows, LENGTH, width, device=device)
    lengths = torch.full((rows,), LENGTH, device=device)

    def run() -> None:
        with surroundings(name):
            with autocast(name, device):
                loss = model(x, lengths)[0].float().square().mean()
            loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return run


def set_precision(module: nn.Module, name: str, device: torch.device) -> None:
    if name in ("fp32", "tf32", "bf16"):
        return
    holder = nn.ModuleList([module])
    for layer in make_precise(holder).values():
        layer.precision = "bf16" if name == "layer_bf16" else "fp8"
        layer.fast_accumulation = name == "fp8_fast"
        layer.backend = "auto" if device.type == "cuda" else "emulate"


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    return nullcontext() if name in ("fp32", "tf32") else torch.autocast(device.type, torch.bfloat16)


@contextmanager
def surroundings(name: str) -> Iterator[None]:
    """TF32 and compiled casts as a format has them, forward and backward."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    products.to_float8 = compiled_casts() if name == "fp8_compiled" else to_float8
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, products.to_float8 = before, to_float8


_compiled: list[Any] = []


def compiled_casts() -> Any:
    if not _compiled:
        _compiled.append(torch.compile(to_float8, dynamic=True))
    return _compiled[0]


def agreement(device: torch.device) -> dict[str, float]:
    """Largest difference between real and emulated float8 products, over the largest number: outputs and gradients."""
    torch.manual_seed(0)
    backend = "auto" if device.type == "cuda" else "scaled_mm"
    layer = PrecisionLinear(512, 256, device=device)
    x, g = torch.randn(300, 512, device=device), torch.randn(300, 256, device=device)
    layer.precision, outcomes = "fp8", []
    for each in (backend, "emulate"):
        layer.backend, inputs = each, x.clone().requires_grad_()
        y = layer(inputs)
        outcomes.append((y.detach(), *torch.autograd.grad(y, (inputs, layer.weight), g)))
    names = ("outputs", "input_gradients", "weight_gradients")
    return {name: float((a - b).abs().max() / b.abs().max()) for name, a, b in zip(names, *outcomes, strict=True)}


if __name__ == "__main__":
    main()
