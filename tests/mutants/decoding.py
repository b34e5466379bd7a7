"""Mutants of `decoding/`: scores of items by tokens, paths, CORP, ordered tokens, the graph."""

from __future__ import annotations

from mutants import Mutant

SCORES, BEAM, CORP, PREFIXES, GRAPH, CONSTRAINTS, CALIBRATION = (
    f"unit/decoding/test_{name}.py"
    for name in ("token_scores", "beam", "corp", "prefix_table", "graph", "constraints", "calibration")
)

MUTANTS = [
    # ---- explained
    Mutant(
        "paths that count for nothing have a part in the answer",
        "decoding/item_paths.py",
        "bool((table_PMC == table_PMC[:1]).all())",
        "False",
        "unit/explaining/test_token_paths.py::test_paths_that_count_for_nothing_have_no_part_in_the_answer",
    ),
    # ---- scores
    Mutant(
        "paths weigh the same",
        "decoding/token_scores.py",
        "table_RPMC[:, :, 0] += self.weights_BP[rows, :, None]",
        "table_RPMC[:, :, 0] += 0 * self.weights_BP[rows, :, None]",
        f"{SCORES}::test_scores_are_brute_forces",
    ),
    Mutant(
        "all books read the first one's tokens",
        "decoding/token_scores.py",
        "at_NM = codes_NM.int() + books_M",
        "at_NM = codes_NM.int() + 0 * books_M",
        f"{SCORES}::test_scores_are_brute_forces",
    ),
    Mutant(
        "a mixture whose paths are all at -inf is no number",
        "decoding/token_scores.py",
        "most_X.clamp_(min=torch.finfo(most_X.dtype).min)",
        "most_X.clamp_(min=-torch.inf)",
        f"{SCORES}::test_forbidden_tokens_and_paths_left_out_leave_the_rest",
    ),
    Mutant(
        "a mixture of small numbers vanishes",
        "decoding/token_scores.py",
        "most_X = sums_PX.amax(0)",
        "most_X = sums_PX.amax(0) if merge == 'max' else torch.zeros_like(sums_PX[0])",
        f"{SCORES}::test_scores_far_below_zero_do_not_vanish",
    ),
    Mutant(
        "paths are merged in a reduction, whose order hangs on the place",
        "decoding/token_scores.py",
        "scores_BK = merged(sums_BPK.transpose(0, 1), self.merge)",
        "scores_BK = sums_BPK.logsumexp(1) if self.merge == 'mixture' else sums_BPK.amax(1)",
        f"{SCORES}::test_scores_of_some_items_have_the_bits_of_all",
    ),
    Mutant(
        "evidence is forgotten with the rows",
        "decoding/token_scores.py",
        "self.added.add_(scores_RN, rows, items)",
        "pass",
        f"{SCORES}::test_evidence_is_added_behind_the_mixture",
    ),
    # ---- paths
    Mutant(
        "the least confident book is decided next",
        "decoding/crss.py",
        "worth_BPM = log_probs_BPMC.amax(-1).clamp(",
        "worth_BPM = -log_probs_BPMC.amax(-1).clamp(",
        f"{BEAM}::test_with_room_for_all_every_path_is_there",
    ),
    Mutant(
        "a joint step is not normalised over the open books",
        "decoding/crss.py",
        " - doors_BP[..., None]",
        "",
        f"{BEAM}::test_joint_paths_of_the_same_set_count_as_one",
    ),
    Mutant(
        "equal sets lose the mass of all but the best",
        "decoding/crss.py",
        "(most_BQ + mass_BG.gather(1, group_BQ).log())",
        "(most_BQ + 0 * mass_BG.gather(1, group_BQ))",
        f"{BEAM}::test_joint_paths_of_the_same_set_count_as_one",
    ),
    Mutant(
        "a decided row is read anew behind the last token",
        "decoding/beam.py",
        "table_BPMC.scatter_(2, books_BPT",
        "table_BPMC.scatter(2, books_BPT",
        f"{BEAM}::test_the_table_keeps_each_row_as_it_stood_when_its_book_was_decided",
    ),
    Mutant(
        "all paths have the history of the first",
        "decoding/beam.py",
        "at_BP = steps[-1].parents_BS",
        "at_BP = 0 * steps[-1].parents_BS",
        f"{BEAM}::test_the_table_keeps_each_row_as_it_stood_when_its_book_was_decided",
    ),
    # ---- CORP
    Mutant(
        "the divergence is that of the sum, not of the mean",
        "decoding/corp.py",
        "torch.logaddexp(log_p, log_q) - math.log(2)",
        "torch.logaddexp(log_p, log_q)",
        f"{CORP}::test_jensen_shannon_is_scipys",
    ),
    Mutant(
        "two paths of one parent take the same next best token",
        "decoding/corp.py",
        "failing_BS[:, None, :]).tril(-1).sum(-1)",
        "failing_BS[:, None, :]).tril(-1).sum(-1) * 0",
        f"{CORP}::test_what_is_left_is_what_comes_out_by_hand",
    ),
    Mutant(
        "a token that was tried is tried again",
        "decoding/corp.py",
        "tried_BPK = _marked(tried_BPK, slots, replaced_BS)",
        "pass",
        f"{CORP}::test_what_is_left_is_what_comes_out_by_hand",
    ),
    Mutant(
        "a row whose paths all break loses them",
        "decoding/corp.py",
        "if bool(lost_B1.any()):",
        "if False:",
        f"{CORP}::test_at_theta_zero_everybody_has_the_greedy_path_and_all_items",
    ),
    Mutant(
        "of equals the theta wins that prunes most",
        "decoding/calibration.py",
        "(known[theta], theta)",
        "(known[theta], -theta)",
        f"{CALIBRATION}::test_of_equals_the_one_that_prunes_least_wins",
    ),
    # ---- constraints, prefixes of ordered tokens, the graph
    Mutant(
        "items of forbidden tokens are left among those that may be listed",
        "decoding/constraints.py",
        "left_N = ~forbidden_MC[books_M, codes_NM].any(-1)",
        "left_N = ~forbidden_MC[books_M, codes_NM].all(-1)",
        f"{CONSTRAINTS}::test_no_path_and_no_item_has_a_forbidden_token_and_lists_are_full",
    ),
    Mutant(
        "a range of continuations runs into its neighbour's",
        "decoding/prefix_table.py",
        "inside_BPW = (at_BPW < level.offsets_Y[at_BP + 1][..., None])",
        "inside_BPW = (at_BPW <= level.offsets_Y[at_BP + 1][..., None])",
        f"{PREFIXES}::test_every_prefix_leads_where_it_does_among_the_tuples",
    ),
    Mutant(
        "a neighbour of several items is held several times",
        "decoding/graph.py",
        "return once_BX & (near_BX >= 0)",
        "return (near_BX >= 0)",
        f"{GRAPH}::test_a_short_search_finds_most_of_the_best_and_looks_at_a_part",
    ),
    # ---- what pruning does (studies)
]
