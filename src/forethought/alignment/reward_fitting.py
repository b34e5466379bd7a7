"""A learned reward is fitted to what validation likes: drawn paths of held-out users, and what their ranks are worth.

Shapes: U histories, G paths of each, F signs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from forethought.alignment.cases import drawn_cases
from forethought.alignment.learned_reward import JudgedPaths
from forethought.alignment.path_signs import path_signs
from forethought.alignment.settings import Alignment
from forethought.data.batches import training_batch
from forethought.data.histories import Spans
from forethought.methods.path_policy import PathPolicy
from forethought.reasoning.grpo import reward_of

MOST, FEW = 2_000, 64  # histories that are read, and of them at once


@torch.no_grad()
def judged_paths(
    policy: PathPolicy, rows: Spans, rare_N: Tensor, settings: Alignment, seed: int, device: torch.device
) -> JudgedPaths:
    """Paths as alignment draws them, of at most 2,000 histories whose last item is what comes next.

    The random generators are left as they were.
    """
    chosen = np.random.default_rng((seed, len(rows))).permutation(len(rows))[:MOST]
    of_paths, parts = settings.path_rewards, []
    names: tuple[str, ...] = ()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for first in range(0, len(chosen), FEW):
            batch = training_batch(rows.take(chosen[first : first + FEW])).to(device)
            case, future, _ = drawn_cases(batch, 1, last=True)
            rollouts = policy.roll_out(case, settings.group, settings.temperature)
            facts = policy.facts(case, rollouts, future)
            names, signs_BGF = path_signs(facts, rare_N)
            worth_BG = reward_of(facts.ranks_BGH[..., 0], of_paths.path_gain, of_paths.top)
            parts.append((signs_BGF.cpu(), worth_BG.double().cpu()))
    signs, worth = zip(*parts, strict=True)
    users_U = torch.from_numpy(rows.users[chosen].astype(np.int64))
    return JudgedPaths(names, torch.cat(signs), torch.cat(worth), users_U)
