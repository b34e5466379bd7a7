"""Mutants of the authors' settings of ReaRec and LARES, which are held against their papers' equations."""

from __future__ import annotations

from mutants import Mutant

AUTHORS = "conformance/test_authors.py"

MUTANTS = [
    Mutant(
        "ReaRec's steps keep positions that they are to have none of",
        "methods/rearec.py",
        "if self.config.step_positions:",
        "if True:",
        f"{AUTHORS}::test_states_of_rearec",
    ),
    Mutant(
        "PRL ignores progressive_weight",
        "methods/rearec.py",
        "self.config.progressive_weight * (1.0",
        "(1.0",
        f"{AUTHORS}::test_prl_of_the_authors",
    ),
    Mutant(
        "PRL's contrast is never summed over steps",
        "methods/rearec.py",
        "times = len(clean)",
        "times = 1",
        f"{AUTHORS}::test_prl_of_the_authors",
    ),
    Mutant(
        "PRL's contrast never has all negatives",
        "methods/rearec.py",
        'if self.config.contrast_negatives == "others":',
        "if True:",
        f"{AUTHORS}::test_prl_of_the_authors",
    ),
    Mutant(
        "PRL's noisy branch never reads the history again",
        "methods/rearec.py",
        "self._read(batch) if self.config.contrast_rereads else initial_states",
        "initial_states",
        f"{AUTHORS}::test_the_noisy_branch_reads_the_history_again",
    ),
    Mutant(
        "ReaRec's authors begin the contrast an epoch late",
        "recipes.py",
        "contrast_from=2,",
        "contrast_from=3,",
        f"{AUTHORS}::test_prl_of_the_authors",
    ),
    Mutant(
        "LARES never norms item and position",
        "methods/lares.py",
        "self.dropout(self.embedding_norm(x_BLD))",
        "self.dropout(x_BLD)",
        f"{AUTHORS}::test_states_of_lares",
    ),
    Mutant(
        "LARES's layers always close with a norm",
        "methods/lares.py",
        "closing_norm=config.closing_norms,",
        "",
        f"{AUTHORS}::test_states_of_lares",
    ),
    Mutant(
        "LARES's norm between steps has an epsilon of its own",
        "methods/lares.py",
        "config.combine, norm_epsilon=config.norm_epsilon)",
        "config.combine)",
        f"{AUTHORS}::test_states_of_lares",
    ),
    Mutant(
        "LARES aligns the trajectory that named the items",
        "methods/lares.py",
        "view = self._steps(batch) if own else steps",
        "view = steps",
        f"{AUTHORS}::test_lares_of_the_authors",
    ),
    Mutant(
        "LARES's one step of a batch is never the last",
        "methods/lares.py",
        "torch.randint(len(steps), (1,)",
        "torch.randint(len(steps) - 1, (1,)",
        f"{AUTHORS}::test_lares_of_the_authors",
    ),
    Mutant(
        "LARES's alignments never have all negatives",
        "methods/lares.py",
        'if self.config.align_negatives == "all":',
        "if False:",
        f"{AUTHORS}::test_lares_of_the_authors",
    ),
]
