"""Hierarchical process supervision: each step is trained towards what a prototype of its level predicts.

DTRec's (arXiv 2512.14036, eqs. 5 and 6). Shapes: R pairs of a step and a position, P positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.soft_targets import soft_target
from forethought.reasoning.prototypes import Prototypes
from forethought.reasoning.step_sampling import SampledSteps

PrototypeChoice = Literal["target", "nearest"]


def prototype_targets(
    prototypes: Prototypes,
    of: SampledSteps,
    states: Sequence[Tensor],
    targets_P: Tensor,
    catalogue: Catalogue,
    *,
    choice: PrototypeChoice,
    temperature: float,
) -> Tensor:
    """m_q of the prototype of each target's cluster at its step's level, [R, D]; step 0 has none (eqs. 5 and 6).

    Or, with `choice` "nearest", of the one nearest to the state. Only those in the batch predict.

    Args:
        of: the pairs; step t looks at level t - 1.
        states: [P, D] of each step from 0 on.
        temperature: tau_p in units of tau.
    """
    e_ND = catalogue.scaled_ND
    m_RD = e_ND.new_zeros(len(of.step_R), e_ND.shape[1])
    for t in range(len(states) - 1):
        at = (of.step_R == t + 1).nonzero()[:, 0]
        if choice == "target":
            clusters = prototypes.clusters_of(t, targets_P[of.row_R[at]])
        else:
            clusters = prototypes.nearest(t, catalogue.comparable(states[t + 1].detach()[of.row_R[at]]))
        present, which = clusters.unique(return_inverse=True)
        centres = prototypes.as_states(t, catalogue, temperature)[present]
        m_RD = m_RD.index_copy(0, at, nn.functional.embedding(which, soft_target(centres, catalogue)))
    return m_RD
