"""One table: this machine's floor, us, and three peers, all in the same run.

    make bench            everything
    make bench QUICK=1    our defaults and the floors only, shares of epochs; no variants, no peers, no memory
    make bench OUT=DIR    writes latest.md and latest.json into DIR; WRITE=1: into benchmarks/results, which is tracked

Without OUT and WRITE the table is printed, and both files lie in the system's folder for temporary files. No timing is
a test. Figures are medians; ratios compare what ran in turns on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from export import export
from peers import markdown, run_peers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BEAUTY = ROOT.parent / "shared" / "data" / "amazon_beauty_2014"
RESULTS = HERE / "results"
WORK = ROOT / ".bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the peers, memory, and variants")
    parser.add_argument(
        "--data", type=Path, help="data folder; Amazon Beauty where it is at hand, else a simulated shop"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--whole-epoch", action="store_true", help="time whole epochs of the peers, not a tenth")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "forethought-bench")
    where.add_argument("--write", action="store_const", const=RESULTS, dest="out", help=f"into {RESULTS}")
    args = parser.parse_args()
    data = args.data or (BEAUTY if BEAUTY.is_dir() else _shop())
    about = {"machine": _machine(args.threads), "commit": _commit(), "date": time.strftime("%Y-%m-%d")}
    result: dict[str, Any] = {"data": data.name, **about}
    repetitions = min(args.repetitions, 3) if args.quick else args.repetitions
    quick = ["--quick"] if args.quick else []
    result |= _measured("ours", data, repetitions, args.threads, "--share", "0.2" if args.quick else "1", *quick)
    share = ["--share", "0.04" if args.quick else "0.1", *quick]
    result["reasoning"] = _measured("reasoning", data, min(args.repetitions, 3), args.threads, *share)
    result["intents"] = _measured("intents", data, min(args.repetitions, 3), args.threads, *share)
    result["decoding"] = _measured("decoding", data, min(args.repetitions, 3), 1, *quick)
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
        result |= _peers_as_last_measured(RESULTS / "latest.json", data.name)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "latest.json").write_text(json.dumps(result, indent=2) + "\n")
    text = _page(result)
    (args.out / "latest.md").write_text(text)
    print(f"{text}\nWritten to {args.out}.")


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
        *_epochs(r),
        "",
        "| what | measured | floor (bare products) | ratio |",
        "|---|---|---|---|",
        f"| full ranking of {r['test_cases']:,} users | {r['eval_s']:.2f} s | {r['floor_eval_s']:.2f} s "
        f"| **{r['over']['eval_s/floor_eval_s']:.2f}** |",
        f"| top-20 lists of all users | {r['lists_s']:.2f} s | | |",
        f"| one history to top 10 | p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms | | |",
        f"| `import forethought` | {r['import_s']:.3f} s | | |",
    ]
    if "peak_rss_mb" in r:
        torch = f"{r['base_rss_mb']:,.0f} MB interpreter and torch"
        lines.append(f"| peak memory | {r['peak_rss_mb']:,.0f} MB, of which {torch} | | |")
    lines += _reasoning(r["reasoning"])
    lines += _intents(r["intents"])
    lines += _decoding(r["decoding"])
    if "peers" in r:
        then = r["peers_measured"]
        same_run = all(then[key] == r[key] for key in then)
        when = "same run" if same_run else f"not this run but that of {then['date']}, commit {then['commit']}"
        lines += ["", f"## Peers, same data and objective, {when}", "", markdown(r["peers"]), _ratios(r)]
    return "\n".join(lines) + "\n"


def _epochs(r: dict[str, Any]) -> list[str]:
    """Epochs in each precision over each floor."""
    floors = {"floor_32_s": "float32", "floor_bf16_s": "bfloat16 over the items, float32 in the encoder"}
    floors = {key: f"{name}: {r[key]:.2f} s" for key, name in floors.items() if key in r}
    lines = ["| training epoch | measured |" + "".join(f" over the floor in {name} |" for name in floors.values())]
    lines.append("|---|---|" + "---|" * len(floors))
    for key, name in {"epoch_32_s": "precision 32", "epoch_s": "precision bf16 (auto)"}.items():
        if key in r:
            ratios = "".join(f" **{r['over'][f'{key}/{floor}']:.2f}** |" for floor in floors)
            lines.append(f"| {name} | {r[key]:.2f} s |{ratios}")
    if "epoch_s" in r:
        lines += ["", f"bf16 takes **{r['over']['epoch_s/epoch_32_s']:.2f}** of the time of float32."]
    return lines


def _reasoning(t: dict[str, float]) -> list[str]:
    """Epochs of the methods that think, scaled from a share of one."""
    floors = {"prl": "prl", "dtrec": "dtrec", "dtrec_32": "dtrec", "dtrec_all_steps": "dtrec_all_steps"}
    rows = {
        "prl": "ReaRec-PRL with contrast, K = 2, all steps of each position",
        "prl_drawn": "the same, one step of each position drawn (default)",
        "dtrec": "DTRec, T = 3, one step of each position drawn (default)",
        "dtrec_32": "the same, float32",
        "dtrec_all_steps": "DTRec, T = 3, all steps of each position",
        "dtrec_all_steps_exact": "the same, exact indicators",
        "dtrec_all_steps_without_hps": "the same, without HPS",
        "rows": "the same PRL, a row per prefix padded to 50, 256 rows and their noisy twins, all logits",
    }
    lines = [
        "",
        "## Thinking, same data and backbone",
        "",
        "| training epoch | measured | floor (bare products, float32) | ratio |",
        "|---|---|---|---|",
    ]
    for name, text in rows.items():
        if f"{name}_epoch_s" in t:
            over = (
                f"{t[f'{floors[name]}_floor_epoch_s']:.1f} s | **{t[f'{name}_over_floor']:.2f}**"
                if name in floors
                else "|"
            )
            lines.append(f"| {text} | {t[f'{name}_epoch_s']:.1f} s | {over} |")
    if "rows_over_prl" in t:
        lines += [
            "",
            f"A chain behind every position is **{t['rows_over_prl']:.1f} x** faster than a row per prefix, and "
            f"**{t['rows_over_prl_drawn']:.1f} x** with drawn steps, the same loss on average. Of DTRec's epoch "
            f"with all steps HPS takes {t['hps_share']:.0%}, HPS and exact indicators together "
            f"{t['hps_and_exact_share']:.0%}.",
        ]
    return lines


def _intents(t: dict[str, float]) -> list[str]:
    """Epochs of IGR-SR's second stage."""
    what = {
        "causal": "IGR-SR, second stage, intents of the prefix up to each item (default)",
        "rows": "the same, a row per prefix (the paper)",
        "learned": "the same, learned intents in place of distilled ones",
    }
    what["causal_32"] = f"{what['causal']}, float32"
    rows = [
        f"| {text} | {t[f'{n}_epoch_s']:.1f} s | **{t[f'{n}_over_sasrec']:.2f}** | **{t[f'{n}_over_sasrec_32']:.2f}** |"
        for n, text in what.items()
        if f"{n}_epoch_s" in t
    ]
    return [
        "",
        "## Intents, same data",
        "",
        "| training epoch | measured | over SASRec of equal width | over SASRec in float32 |",
        "|---|---|---|---|",
        f"| SASRec | {t['sasrec_epoch_s']:.1f} s | | |",
        f"| SASRec, float32 | {t['sasrec_32_epoch_s']:.1f} s | | |",
        *rows,
    ]


def _decoding(t: dict[str, dict[str, float]]) -> list[str]:
    """Tables of tokens against all items."""
    rows = [
        f"| {int(n):,} | **{f['top10_tables_per_s']:,.0f}** | {f['ranks_tables_per_s']:,.0f} "
        f"| {f['one_user_tables_per_s']:,.0f} | {f['floor_tables_per_s']:,.0f} | **{f['top10_over_floor']:.1f}** "
        f"| **{f['gathered_over_top10']:.1f}** |"
        for n, f in t.items()
    ]
    return [
        "",
        "## All items by token tables, 8 x 256 tokens, 8 paths a user, tables a second of one thread",
        "",
        "| items | top 10 | ranks | top 10 of one user alone | floor (bare look-ups) | top 10 over the floor "
        "| gathered item by item over it |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def _ratios(r: dict[str, Any]) -> str:
    """How much longer the fastest peer takes."""
    ran = {name: peer for name, peer in r["peers"].items() if "error" not in peer}
    if not ran:
        return "No peer could be run."
    parts = []
    ways = {"epoch_s": "epoch", "epoch_32_s": "epoch, ours in float32 as theirs", "eval_s": "full ranking"}
    for key, what in ways.items():
        theirs = "eval_s" if key == "eval_s" else "epoch_s"
        if key in r:
            name = min(ran, key=lambda peer: ran[peer][theirs])
            parts.append(f"{what}: the fastest peer ({name}) takes **{ran[name][theirs] / r[key]:.1f} x** our time")
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
