"""One table: this machine's floor, us, and three peers, all in the same run.

    make bench            everything; writes benchmarks/results/latest.md and latest.json
    make bench QUICK=1    us and the floor only, within two minutes; the peers stay as last measured, and are so marked

No timing is a test. Figures are medians; ratios compare what ran in turns on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from export import export
from peers import markdown, run_peers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BEAUTY = ROOT.parent / "shared" / "data" / "amazon_beauty_2014"
WORK = ROOT / ".bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--data", type=Path, help="data folder; Amazon Beauty where it is at hand, else a simulated shop"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--whole-epoch", action="store_true", help="time whole epochs of the peers, not a tenth")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    data = args.data or (BEAUTY if BEAUTY.is_dir() else _shop())
    about = {"machine": _machine(args.threads), "commit": _commit(), "date": time.strftime("%Y-%m-%d")}
    result: dict[str, Any] = {"data": data.name, **about}
    repetitions = min(args.repetitions, 3) if args.quick else args.repetitions
    result |= _measured("ours", data, repetitions, args.threads)
    share = ["--share", "0.04" if args.quick else "0.1"]
    result["thinking"] = _measured("thinking", data, min(args.repetitions, 3), args.threads, *share)
    result["intents"] = _measured("intents", data, min(args.repetitions, 3), args.threads, *share)
    if not args.quick:
        export(data, WORK / "data")
        result["peers"] = run_peers(
            WORK / "data",
            WORK / "peers",
            args.repetitions,
            whole_epoch=args.whole_epoch,
            threads=args.threads,
            environments=WORK,
        )
        result["peers_measured"] = about
    else:
        result |= _peers_as_last_measured(args.out / "latest.json", data.name)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "latest.json").write_text(json.dumps(result, indent=2) + "\n")
    text = _page(result)
    (args.out / "latest.md").write_text(text)
    print(text)


def _peers_as_last_measured(path: Path, data: str) -> dict[str, Any]:
    """What the last full run on the same data said of the peers, if there was one."""
    last = json.loads(path.read_text()) if path.is_file() else {}
    return {key: last[key] for key in ("peers", "peers_measured") if key in last and last["data"] == data}


def _measured(what: str, data: Path, repetitions: int, threads: int, *more: str) -> dict[str, Any]:
    """Our figures, from a process that has done nothing else."""
    out = WORK / f"{what}.json"
    command = [sys.executable, str(HERE / f"{what}.py"), str(data), str(out)]
    command += ["--repetitions", str(repetitions), "--threads", str(threads), *more]
    subprocess.run(
        command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    )
    return json.loads(out.read_text())


def _shop() -> Path:
    """A simulated shop of Beauty's size, for machines without the real data."""
    from forethought.data.shop import Shop

    folder = WORK / "shop"
    Shop(users=22_363, items=12_101, interactions_per_user=9, min_interactions=5).write(folder, overwrite=True)
    return folder


def _page(r: dict[str, Any]) -> str:
    latency = r["latency_ms"]
    lines = [
        f"# Benchmark: SASRec, full cross-entropy, width 64, 2 layers, window 50, {r['data']}",
        "",
        f"{r['users']:,} users, {r['items']:,} items, {r['positions']:,} training positions. {r['machine']}. "
        f"Commit {r['commit']}, {r['date']}. Medians of at least 3 repetitions.",
        "",
        "| what | measured | floor (bare products) | ratio |",
        "|---|---|---|---|",
        f"| training epoch | {r['epoch_s']:.2f} s | {r['floor_epoch_s']:.2f} s | **{r['epoch_over_floor']:.2f}** |",
        f"| full ranking of {r['test_cases']:,} users | {r['eval_s']:.2f} s | {r['floor_eval_s']:.2f} s "
        f"| **{r['eval_over_floor']:.2f}** |",
        f"| top-20 lists of all users | {r['lists_s']:.2f} s | | |",
        f"| one history to top 10 | p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms | | |",
        f"| `import forethought` | {r['import_s']:.3f} s | | |",
        f"| peak memory | {r['peak_rss_mb']:,.0f} MB, of which {r['base_rss_mb']:,.0f} MB interpreter and torch | | |",
    ]
    lines += _thinking(r["thinking"])
    lines += _intents(r["intents"])
    if "peers" in r:
        then = r["peers_measured"]
        same_run = all(then[key] == r[key] for key in then)
        when = "same run" if same_run else f"not this run but that of {then['date']}, commit {then['commit']}"
        lines += ["", f"## Peers, same data and objective, {when}", "", markdown(r["peers"]), _ratios(r)]
    return "\n".join(lines) + "\n"


def _thinking(t: dict[str, float]) -> list[str]:
    """Epochs of the methods that think, scaled from a share of one."""
    prl, dtrec, all_steps = (
        f"{t[f'{name}_epoch_s']:.1f} s | {t[f'{name}_floor_epoch_s']:.1f} s | **{t[f'{name}_over_floor']:.2f}**"
        for name in ("prl", "dtrec", "dtrec_all_steps")
    )
    return [
        "",
        "## Thinking, same data and backbone",
        "",
        "| training epoch | measured | floor (bare products) | ratio |",
        "|---|---|---|---|",
        f"| ReaRec-PRL with contrast, K = 2, all steps of each position | {prl} |",
        f"| the same, one step of each position drawn (default) | {t['prl_drawn_epoch_s']:.1f} s | | |",
        f"| DTRec, T = 3, one step of each position drawn (default) | {dtrec} |",
        f"| DTRec, T = 3, all steps of each position | {all_steps} |",
        f"| the same, exact indicators | {t['dtrec_all_steps_exact_epoch_s']:.1f} s | | |",
        f"| the same, without HPS | {t['dtrec_all_steps_without_hps_epoch_s']:.1f} s | | |",
        "| the same PRL, a row per prefix padded to 50, 256 rows and their noisy twins, all logits "
        f"| {t['rows_epoch_s']:.0f} s | | |",
        "",
        f"A chain behind every position is **{t['rows_over_prl']:.1f} x** faster than a row per prefix, and "
        f"**{t['rows_over_prl_drawn']:.1f} x** with drawn steps, the same loss on average. Of DTRec's epoch with "
        f"all steps HPS takes {t['hps_share']:.0%}, HPS and exact indicators together {t['hps_and_exact_share']:.0%}.",
    ]


def _intents(t: dict[str, float]) -> list[str]:
    """Epochs of IGR-SR's second stage."""
    what = {
        "causal": "IGR-SR, second stage, intents of the prefix up to each item (default)",
        "rows": "the same, a row per prefix (the paper)",
        "learned": "the same, learned intents in place of distilled ones",
    }
    rows = [f"| {text} | {t[f'{n}_epoch_s']:.1f} s | **{t[f'{n}_over_sasrec']:.2f}** |" for n, text in what.items()]
    return [
        "",
        "## Intents, same data",
        "",
        "| training epoch | measured | over SASRec of equal width |",
        "|---|---|---|",
        f"| SASRec | {t['sasrec_epoch_s']:.1f} s | |",
        *rows,
    ]


def _ratios(r: dict[str, Any]) -> str:
    """How much longer the fastest peer takes."""
    ran = {name: peer for name, peer in r["peers"].items() if "error" not in peer}
    if not ran:
        return "No peer could be run."
    parts = []
    for what, key in (("epoch", "epoch_s"), ("full ranking", "eval_s")):
        name = min(ran, key=lambda peer: ran[peer][key])
        parts.append(f"{what}: the fastest peer ({name}) takes **{ran[name][key] / r[key]:.1f} x** our time")
    return "; ".join(parts) + "."


def _machine(threads: int) -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{model}, {threads} threads, load {load:.1f} at the start, Python {platform.python_version()}"


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
