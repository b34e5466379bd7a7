"""The `README.md` of an export: what lies in the folder, and an example that runs as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forethought.escaping import markdown

OPEN = {
    "onnx": ("import onnxruntime", 'program = onnxruntime.InferenceSession("model.onnx")'),
    "torch": ("import torch", 'program = torch.export.load("model.pt2").module()'),
}


def program_readme(about: Mapping[str, Any]) -> str:
    """Of a folder with a program, from its metadata."""
    check, k, window = about["check"], about["k"], about["window"]
    tried = "of its data" if check["real_histories"] else "drawn"
    file, needs = ("model.onnx", "ONNX Runtime") if about["to"] == "onnx" else ("model.pt2", "PyTorch")
    times = ["| `times` | int64 [B, L] | Unix seconds of each item |"] if about["reads_times"] else []
    listed = "the history left out" if about["exclude_history"] else "the history among the candidates"
    outputs = (
        ["| `scores` | float32 [B, N] | the score of each item, row by row, the history's own items too |"]
        if k is None
        else [
            f"| `best` | int64 [B, {k}] | rows of the best items, best first, {listed} |",
            f"| `scores` | float32 [B, {k}] | their scores; -3.4e38 where candidates ran out |",
        ]
    )
    added = ["Evidence beside the model is part of the scores."] if about["evidence"] else []
    return "\n".join(
        [
            f"# {markdown(about['run'])}, exported for {needs}",
            "",
            f"**{markdown(about['method'])}** over {about['items']:,} items, as `forethought recommend` scores them. "
            + " ".join(added),
            "",
            f"- `{file}`: the program; any number of histories B, of any length L from 1 to {window}.",
            "- `items.json`: the ids, row by row; `items.parquet` has titles too, where they are known.",
            "- `metadata.json`: where it came from, how it was checked and how fast it is.",
            "",
            "| input | type | what |",
            "|---|---|---|",
            "| `items` | int64 [B, L] | rows of items, oldest first; behind the end of a history any row |",
            f"| `lengths` | int64 [B] | how many are real, from 1 to {window}: give the last {window} of more |",
            *times,
            "",
            "| output | type | what |",
            "|---|---|---|",
            *outputs,
            "",
            f"Checked on {check['histories']} histories ({tried}): scores differ by {check['max_abs_difference']:.1e} "
            f"at most from the library's, and the ten best items are the same{_swaps(check)}.",
            "",
            "```python",
            *_example(about),
            "```",
            "",
        ]
    )


def _swaps(check: Mapping[str, Any]) -> str:
    swapped = check["swapped_lists"]
    return f", but for the order of as good as equal ones in {swapped}" if swapped else ""


def _example(about: Mapping[str, Any]) -> list[str]:
    """Code that needs numpy and the program's own package alone."""
    module, opened = OPEN[about["to"]]
    names = ["items", "lengths", *(["times"] if about["reads_times"] else [])]
    onnx, k = about["to"] == "onnx", about["k"]
    feed = "{" + ", ".join(f'"{name}": {name}' for name in names) + "}"
    if onnx:
        called = [f"outputs = program.run(None, {feed})"]
    else:
        handed = ", ".join(f"{name}=torch.from_numpy({name})" for name in names)
        called = ["with torch.inference_mode():", f"    outputs = program({handed})"]
    first = "outputs[0]" if onnx or k is not None else "outputs"
    rows = f"{first}" if k is not None else f"(-{first}).argsort()[:, :10]"
    return [
        "import json",
        "",
        "import numpy as np",
        module,
        "",
        opened,
        'ids = json.load(open("items.json", encoding="utf-8"))',
        "row_of = {item_id: row for row, item_id in enumerate(ids)}",
        "",
        "histories = [ids[:2], ids[1:2]]  # of item ids, oldest first",
        f"rows = [[row_of[i] for i in history if i in row_of][-{about['window']}:] for history in histories]",
        "lengths = np.array([len(row) for row in rows])  # 1 at least: leave histories without a known item out",
        "items = np.zeros((len(rows), lengths.max()), np.int64)",
        "for at, row in enumerate(rows):",
        "    items[at, : len(row)] = row",
        *(["times = np.full(items.shape, 1_700_000_000)  # Unix seconds of each item"] if about["reads_times"] else []),
        "",
        *called,
        f"for best in {rows}.tolist():",
        "    print([ids[row] for row in best])",
    ]


def vectors_readme(about: Mapping[str, Any]) -> str:
    """Of a folder with vectors, from its metadata."""
    bias = " The last coordinate is the item's bias, and 1 in every query." if about["bias"] else ""
    beside = (
        ["", "**Evidence** adds to the scores of this run beside the vectors; an inner product does not have it."]
        if about["evidence"]
        else []
    )
    queries = (
        ["- `queries.parquet`: the histories, each with its `vector`; empty where no item is known."]
        if "queries" in about
        else []
    )
    kinds = ", ".join(f"{markdown(kind)} ({count:,})" for kind, count in about["neighbours"].items())
    return "\n".join(
        [
            f"# {markdown(about['run'])}, exported as vectors",
            "",
            f"Of **{markdown(about['method'])}** over {about['items']:,} items.",
            "",
            f"- `items.parquet`: `row`, `item_id`, perhaps `title`, and `vector`, {about['dimensions']} numbers.{bias}",
            f"- `neighbours.parquet`: pairs of items by kind: {kinds}. `value` is a cosine, or what the evidence says.",
            *queries,
            "- `metadata.json`: where it came from.",
            "",
            "The inner product of a query and an item's vector is the item's score: choose *inner product* (dot, IP) "
            "in the database, not cosine or Euclidean distance.",
            *beside,
            "",
        ]
    )
