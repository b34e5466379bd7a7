"""The runs behind docs/results/spine.md: train, evaluate, and keep one small JSON each, from which one can go on.

    python benchmarks/spine.py run [NAME ...]     missing runs (all, or those named); finished ones are skipped
    python benchmarks/spine.py table              write docs/results/spine.md from the JSON at hand

A run's name is METHOD-DATA-TIES-SEED, such as sasrec-beauty-shuffle-0.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "docs" / "results"
FOLDERS = {"beauty": "amazon_beauty_2014", "sports": "amazon_sports_2014", "ml1m": "ml_1m"}
NAMES = {"beauty": "Amazon Beauty 2014", "sports": "Amazon Sports 2014", "ml1m": "MovieLens-1M, 5-core"}
PLAN = [
    *(f"sasrec-beauty-shuffle-{seed}" for seed in range(3)),
    *(f"sasrec-beauty-file-{seed}" for seed in range(3)),
    "sasrec-sports-file-0",
    *(f"gru4rec-beauty-shuffle-{seed}" for seed in range(3)),
    *(f"bert4rec-beauty-shuffle-{seed}" for seed in range(3)),
    "sasrec-ml1m-file-0",
    "hstu-beauty-shuffle-0",
    "gru4rec-ml1m-file-0",
    "bert4rec-ml1m-file-0",
]
OPTIONS = {"ml1m": ["--window", "200", "--epochs", "30"], "sports": ["--epochs", "20"]}
METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10", "mrr@10")


def run(name: str) -> None:
    """One run from the command line to its JSON; a second call finds it done."""
    out = RESULTS / "spine" / f"{name}.json"
    if out.is_file():
        print(f"{name}: done")
        return
    method, data, ties, seed = name.split("-")
    folder = ROOT / "runs" / name
    source = _source(data)
    train = ["train", method, "--data", str(source), "--out", str(folder), "--seed", seed]
    train += [] if source.name.endswith("5core") else ["--ties", ties]
    train += OPTIONS.get(data, [])
    resume = ["--resume"] if (folder / "state" / "state.json").is_file() else ["--overwrite"]
    begin = time.time()
    outcome = json.loads(_forethought([*train, *resume, "--quiet", "--json"]))
    wall_s = time.time() - begin
    evaluation = json.loads(_forethought(["evaluate", str(folder), "--json"]))
    valid = json.loads(_forethought(["evaluate", str(folder), "--part", "valid", "--json"]))
    result = {
        "name": name,
        "command": "forethought " + " ".join(train).replace(str(DATA), "shared/data").replace(f"{ROOT}/", ""),
        "commit": _commit(),
        "config": json.loads((folder / "config.json").read_text())["config"],
        "seed": int(seed),
        "protocol": evaluation["protocol"],
        "metrics": evaluation["metrics"],
        "lists": evaluation["lists"],
        "valid": {key: valid["metrics"][key]["mean"] for key in METRICS},
        "training": {**outcome, "run": folder.name, "wall_s": wall_s, "resumed": resume == ["--resume"]},
        "machine": _machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{name}: ndcg@10 {result['metrics']['ndcg@10']['mean']:.4f} in {wall_s:.0f} s", flush=True)


def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _machine() -> str:
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, load {os.getloadavg()[0]:.1f} at the end"


def _source(data: str) -> Path:
    """The data folder; MovieLens-1M is cut to its 5-core first, as the literature does."""
    if data != "ml1m":
        return DATA / FOLDERS[data]
    made = ROOT / "data" / "ml-1m-5core"
    if not made.is_dir():
        _forethought(["prepare", str(DATA / FOLDERS[data]), "--out", str(made), "--k-core", "5", "5"])
    return made


def _forethought(arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "forethought", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"forethought {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def table() -> None:
    """docs/results/spine.md, from whatever JSON is there; the number of seeds stands in every row."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / "spine").glob("*.json"))]
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in found:
        method, data, ties, _ = result["name"].split("-")
        rows.setdefault((data, ties, method), []).append(result)
    lines = [(RESULTS / "spine.head.md").read_text().rstrip(), ""]
    for data in FOLDERS:
        for ties in ("shuffle", "file"):
            here = {m: runs for (d, t, m), runs in rows.items() if (d, t) == (data, ties)}
            if here:
                lines += _section(f"{NAMES[data]}, ties {'shuffled' if ties == 'shuffle' else 'in file order'}", here)
    lines += ["## Every run", "", "| run | command | commit | wall | best epoch |", "|---|---|---|---|---|"]
    lines += [
        f"| [{r['name']}](spine/{r['name']}.json) | `{r['command']}` | {r['commit'][:7]} "
        f"| {r['training']['wall_s']:.0f} s | {r['training']['best_epoch']} of {r['training']['epochs']} |"
        for r in found
    ]
    (RESULTS / "spine.md").write_text("\n".join(lines) + "\n")


def _section(title: str, methods: dict[str, list[dict[str, Any]]]) -> list[str]:
    p = next(iter(methods.values()))[0]["protocol"]
    lines = [f"## {title}", ""]
    lines += [
        f"Leave-last-out, full ranking of {p['n_items']:,} items for {p['n_cases']:,} users, history "
        f"{'excluded' if p['history_excluded'] else 'not excluded'}, data hash {p['data_hash']}, window {p['window']}.",
        "",
        "| method | seeds | " + " | ".join(METRICS) + " | valid ndcg@10 |",
        "|---|---|" + "---|" * (len(METRICS) + 1),
    ]
    for method, runs in methods.items():
        cells = [_cell([r["metrics"][m] for r in runs]) for m in METRICS]
        valid = statistics.mean(r["valid"]["ndcg@10"] for r in runs)
        lines.append(f"| {method} | {len(runs)} | " + " | ".join(cells) + f" | {valid:.4f} |")
    return [*lines, ""]


def _cell(estimates: list[dict[str, Any]]) -> str:
    """Mean over seeds with their standard deviation, and the mean of the 95% bounds over users."""
    means = [e["mean"] for e in estimates]
    low, high = (statistics.mean(e["ci95"][side] for e in estimates) for side in (0, 1))
    spread = f" ± {statistics.stdev(means):.4f}" if len(means) > 1 else ""
    return f"**{statistics.mean(means):.4f}**{spread} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        for each in sys.argv[2:] or PLAN:
            run(each)
    elif sys.argv[1:] == ["table"]:
        table()
    else:
        sys.exit(__doc__)
