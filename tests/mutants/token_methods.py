"""Mutants of methods over tokens, and of what searches their items."""

from __future__ import annotations

from mutants import Mutant

TIGER, RPG = "unit/methods/test_tiger.py", "unit/methods/test_rpg.py"
PREFIXES = "unit/decoding/test_prefix_scores.py"

MUTANTS = [
    # ---- TIGER
    Mutant(
        "a decoded sequence sees the item that it is to name",
        "methods/tiger.py",
        "self._token_seen(at_L <= at_L[:, None])",
        "self._token_seen(at_L <= at_L[:, None] + 1)",
        f"{TIGER}::test_the_loss_is_teacher_forcing_over_each_prefix_by_itself",
    ),
    Mutant(
        "a decoded sequence is fed tokens of the book behind",
        "methods/tiger.py",
        "torch.full_like(codes_BP, book), codes_BP)",
        "torch.full_like(codes_BP, 0), codes_BP)",
        f"{TIGER}::test_the_loss_is_teacher_forcing_over_each_prefix_by_itself",
    ),
    Mutant(
        "somebody unknown is the last of the users",
        "methods/tiger.py",
        "torch.where((users_B < 0)[:, None], self.weight.mean(0), vectors_BD)",
        "vectors_BD",
        f"{TIGER}::test_somebody_unknown_has_the_mean_of_all_users",
    ),
    Mutant(
        "items that alone may be listed are sought in the beam among all",
        "methods/tiger.py",
        "bool(allowed_N.all()):",
        "bool(allowed_N.any()):",
        f"{TIGER}::test_items_that_alone_may_be_listed_are_searched_by_themselves",
    ),
    Mutant(
        "the table of prefixes stays when tokens change",
        "methods/tiger.py",
        "or not torch.equal(before_NM, codes_NM)",
        "or before_NM.shape != codes_NM.shape",
        f"{TIGER}::test_tokens_that_change_are_searched_anew",
    ),
    # ---- the search along prefixes
    Mutant(
        "what is outside the beam may stand above what is inside",
        "decoding/prefix_scores.py",
        "scores_BPW=level.scores_BPW - below_BPW",
        "scores_BPW=level.scores_BPW - 0 * below_BPW",
        f"{PREFIXES}::test_a_short_beam_is_exact_inside_and_shares_the_longest_scored_prefix_outside",
    ),
    Mutant(
        "an item outside has its prefix's log-probability whole, however many share it",
        "decoding/prefix_scores.py",
        "said_BPW - shared_X[at_BPW]",
        "said_BPW",
        f"{PREFIXES}::test_a_short_beam_is_exact_inside_and_shares_the_longest_scored_prefix_outside",
    ),
    Mutant(
        "items that are not in the table are candidates",
        "decoding/prefix_scores.py",
        "masked_fill_(places_MBN[0] < 0, -torch.inf)",
        "masked_fill_(places_MBN[0] < -1, -torch.inf)",
        f"{PREFIXES}::test_items_that_are_not_in_the_table_are_no_candidates",
    ),
    # ---- RPG
    Mutant(
        "a target that a graph search does not meet is ranked all the same",
        "methods/rpg.py",
        "lists.items_BK >= 0), targets_B)",
        "lists.items_BK >= -1), targets_B.clamp(max=5))",
        f"{RPG}::test_a_short_search_ranks_what_it_lists",
    ),
    Mutant(
        "the graph stays when vectors have moved",
        "methods/rpg.py",
        "mine.device == theirs.device and torch.equal(mine, theirs)",
        "mine.shape == theirs.shape",
        f"{RPG}::test_the_graph_follows_vectors_and_tokens",
    ),
]
