"""How the public codes train a chain of thought: one row for each prefix, padded, with all logits in memory.

It is the reference twice over: the tests hold the library's loss and gradients against it, and the benchmark its time.
Nothing here but `encode` and `think` of the backbone is the library's; scores and losses are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.data.batches import Batch
from forethought.methods.items import ItemLoss
from forethought.methods.rearec import ReaRecModel


def prefix_rows(batch: Batch, pad_to: int | None = None) -> Batch:
    """One row for each supervised position: the items up to it, its target, and padding behind."""
    assert batch.targets_BL is not None
    items, targets, times, lengths = [], [], [], []
    L = pad_to or batch.items_BL.shape[1]
    for row, length in enumerate(batch.lengths_B.tolist()):
        for end in range(1, length + 1):
            items.append(F.pad(batch.items_BL[row, :end], (0, L - end)))
            targets.append(batch.targets_BL[row, end - 1])
            lengths.append(end)
            if batch.times_BL is not None:
                times.append(F.pad(batch.times_BL[row, :end], (0, L - end)))
    return Batch(
        torch.stack(items),
        torch.tensor(lengths),
        torch.stack(targets),
        torch.stack(times) if times else None,
        None,
        len(items),
    )


def chain_states(model: torch.nn.Module, rows: Batch) -> list[Tensor]:
    """r_0 .. r_T of each row, [B, D] each: encode it, then append r_{t-1} + p_t and read the last state."""
    last_B1 = rows.lengths_B[:, None] - 1
    vectors = model.items.weight[rows.items_BL]
    states_BLD, chain = model.backbone.encode(vectors, rows.lengths_B, positions=last_B1, times=rows.times_BL)
    at = torch.arange(len(last_B1))
    # a backbone that is not causal says nothing of other positions, all say r_0 of the last
    states = [states_BLD[at, last_B1[:, 0]]]
    for mark in model.step_embeddings:
        token, chain = model.backbone.reason((states[-1] + mark)[:, None], chain)
        states.append(token[:, 0])
    return states


def logits(states_BD: Tensor, items_ND: Tensor, loss: ItemLoss, bias_N: Tensor | None = None) -> Tensor:
    """[B, N], all of them."""
    if loss.cosine:
        states_BD = states_BD / states_BD.norm(dim=-1, keepdim=True)
        items_ND = items_ND / items_ND.norm(dim=-1, keepdim=True)
    scores = states_BD @ items_ND.T / loss.temperature
    return scores if bias_N is None else scores + bias_N


def prl_loss(model: ReaRecModel, rows: Batch) -> Tensor:
    """ReaRec-PRL without its contrast: CE of the last step and the others' mean (or all, summed)."""
    return _named(model, chain_states(model, rows), rows)


def prl_loss_with_contrast(model: ReaRecModel, rows: Batch) -> Tensor:
    """The whole of it as the public codes train it: the batch twice, its second half with noise before each link."""
    config, B = model.config, len(rows.lengths_B)
    assert rows.targets_BL is not None
    twice = Batch(rows.items_BL.repeat(2, 1), rows.lengths_B.repeat(2), rows.targets_BL.repeat(2))
    last_B1 = twice.lengths_B[:, None] - 1
    states_BLD, chain = model.backbone.encode(model.items.weight[twice.items_BL], twice.lengths_B, positions=last_B1)
    states = [states_BLD[torch.arange(2 * B), last_B1[:, 0]]]
    contrast = torch.zeros(())
    for mark in model.step_embeddings:
        clean = states[-1][:B]
        inputs = torch.cat([clean, clean + config.contrast_noise * torch.randn_like(clean)]) + mark
        token, chain = model.backbone.reason(inputs[:, None], chain)
        states.append(token[:, 0])
        now, noisy = (F.normalize(half, dim=-1) for half in states[-1].split(B))
        contrast = contrast + F.cross_entropy(noisy @ now.T / config.loss.temperature, torch.arange(B))
    return _named(model, [r[:B] for r in states], rows) + config.contrast_weight * contrast / config.steps


def _named(model: ReaRecModel, states: list[Tensor], rows: Batch) -> Tensor:
    config, K = model.config, model.config.steps
    early = 1.0 if config.step_weights == "sum" else 1.0 / K
    total = torch.zeros(())
    for k, state in enumerate(states):
        scores = logits(state, model.items.weight, config.loss) / config.temperature_scale ** (K - k)
        total = total + (1.0 if k == K else early) * F.cross_entropy(scores, rows.targets_BL)
    return total
