"""Aligned runs of the studies: of which variant, and how.

`-long` is what `align` does by default. All others but those of halting are pinned to what it did by default when they
ran: a few hundred updates at a tenth of the rate.
"""

from __future__ import annotations

from typing import Any

from forethought.alignment.rewards import PARS

SHORT: dict[str, Any] = {"rate": 0.03, "kl_weight": 0.05, "batches": 50, "epochs": 6, "patience": 3}
LONG: dict[str, Any] = {"rate": 0.3, "kl_weight": 0.05, "batches": 100, "epochs": 15, "patience": 15}
CONTROL: dict[str, Any] = {"policy_weight": 0.0, "kl_weight": 0.0}
HELD_OUT: dict[str, Any] = {"cases": "held_out", "rate": 0.1}

OF_PATHS: dict[str, dict[str, Any]] = {
    "": {},
    "-control": CONTROL,
    "-no-anchor": {"anchor": 0.0},
    **{f"-only-{name}": {"path_rewards": {other: 0.0 for other in PARS if other != name}} for name in PARS},
    "-first-2": {"path_rewards": dict.fromkeys(PARS[2:], 0.0)},  # 3: the one without path
    **{f"-no-{name}": {"path_rewards": {name: 0.0}} for name in PARS},
    **{f"-h-{h}": {"path_rewards": {"future": h}} for h in (1, 5)},
    **{f"-w-{w}": {"path_rewards": {"decay": w}} for w in (0.4, 1.0)},
    **{f"-g-{g}": {"group": g} for g in (4, 64)},
    **{f"-mu-{n}": {"updates": n} for n in (1, 4)},
    "-learned-weights": {"learn_weights": True},
    # beside the other four: what they are worth to it is asked, and alone it knows no truth to begin with
    "-learned-reward": {"path_rewards": {"learned": 1.0}},
    "-held-out": HELD_OUT,
    "-held-out-control": {**HELD_OUT, **CONTROL},
    "-fast": {"rate": 0.3},
    "-fast-control": {"rate": 0.3, **CONTROL},
    "-long": LONG,
    "-long-control": {**LONG, **CONTROL},
    "-long-h-1": {**LONG, "path_rewards": {"future": 1}},
    **{f"-long-no-{name}": {**LONG, "path_rewards": {name: 0.0}} for name in PARS},
    "-long-only-step_hit": {**LONG, "path_rewards": dict.fromkeys(PARS[1:], 0.0)},
    **{f"-long-rate-{rate}": {**LONG, "rate": rate} for rate in (0.1, 1.0)},
    "-long-no-anchor": {**LONG, "anchor": 0.0},
    "-long-learned-weights": {**LONG, "learn_weights": True},
    "-long-held-out": {**LONG, "cases": "held_out"},
    "-long-held-out-control": {**LONG, "cases": "held_out", **CONTROL},
}
OF_HALTING: dict[str, dict[str, Any]] = {
    "": {},
    "-free": {"halting_rewards": {"step_price": 0.0}},
    "-dear": {"halting_rewards": {"step_price": 0.01}},
}
# As by default, from the threshold at which validation loses a hundredth: the nets themselves are sure to go on.
FITTED: dict[str, Any] = {**LONG, "rate": 3.0, "kl_weight": 0.0, "delta_within": 0.01}

ALIGNED: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"reg4rec-aligned{suffix}": ("reg4rec", SHORT | settings) for suffix, settings in OF_PATHS.items()},
    **{f"lares-aligned{suffix}": ("lares", SHORT | settings) for suffix, settings in (("", {}), ("-control", CONTROL))},
    **{
        f"{name}-aligned{suffix}": (name, SHORT | {"rate": 1.0, "kl_weight": 0.0} | settings)
        for name in ("dtrec", "dtrec-wide")
        for suffix, settings in OF_HALTING.items()
    },
    "dtrec-exit-0-aligned": ("dtrec-exit-0", FITTED),
    "dtrec-wide-exit-0-aligned": ("dtrec-wide-exit-0", FITTED),
    "dtrec-exit-0-aligned-dear": ("dtrec-exit-0", FITTED | {"halting_rewards": {"step_price": 0.006}}),
}
