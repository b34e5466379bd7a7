"""Mutants of evidence: what is counted, what is said and not said, how it is weighed, walked and explained."""

from __future__ import annotations

from mutants import Mutant

NEIGHBOURS, READ = "unit/data/test_neighbours.py", "unit/data/test_evidence.py"
SAID, SPARSE = "unit/methods/test_item_evidence.py", "unit/catalogue/test_sparse_scores.py"
WEIGHTS, RUNS = "unit/training/test_evidence_weights.py", "unit/test_evidence_runs.py"
SUMS = "unit/explaining/test_evidence_sums.py"

MUTANTS = [
    # ---- what is counted
    Mutant(
        "near pairs count no more than far ones",
        "data/neighbours.py",
        "LAG_DECAY ** (lag - 1) * met",
        "LAG_DECAY * met",
        f"{NEIGHBOURS}::test_co_occurrence_counts_every_pair",
    ),
    Mutant(
        "an item is its own neighbour",
        "data/neighbours.py",
        "& (items[lag:] != items[:-lag])",
        "",
        f"{NEIGHBOURS}::test_co_occurrence_counts_every_pair",
    ),
    Mutant(
        "pairs are counted over the border of two users",
        "data/neighbours.py",
        "near = (owner[lag:] == owner[:-lag]) & ",
        "near = ",
        f"{NEIGHBOURS}::test_co_occurrence_counts_every_pair",
    ),
    Mutant(
        "co-occurrence looks beyond the training part",
        "data/evidence.py",
        "            split.train, n_items, most=config.neighbours",
        "            split.data.histories.all(), n_items, most=config.neighbours",
        f"{READ}::test_only_the_training_part_is_counted",
    ),
    Mutant(
        "two kinds may share a name",
        "data/evidence.py",
        "called = [each.shape.name for each in tables]",
        "called: list[str] = []",
        f"{READ}::test_what_cannot_speak_is_told",
    ),
    # ---- what is said
    Mutant(
        "a history hears its own pairs in training",
        "methods/item_evidence.py",
        'own is not None and shape.kind == "met"',
        "False",
        f"{SAID}::test_in_training_a_history_does_not_hear_itself",
    ),
    Mutant(
        "own pairs are taken off where an item is no neighbour",
        "methods/item_evidence.py",
        "own_BLS.masked_fill(same_BLS, 0.0) * self._is_neighbour(items_BS)",
        "own_BLS.masked_fill(same_BLS, 0.0)",
        f"{SAID}::test_own_pairs_are_taken_off_kept_neighbours_alone",
    ),
    Mutant(
        "own pairs are all taken off as if they were next to each other",
        "methods/item_evidence.py",
        "return LAG_DECAY ** (lag_SS.abs() - 1).clamp_min(0).float() * near_SS",
        "return near_SS.float()",
        f"{SAID}::test_in_training_a_history_does_not_hear_itself",
    ),
    Mutant(
        "what is said is not divided by the most that is said",
        "methods/item_evidence.py",
        "return rows_T, items_T, values_T / largest_P.index_select(0, rows_T)",
        "return rows_T, items_T, values_T",
        f"{SAID}::test_after_a_history_its_last_items_speak",
    ),
    Mutant(
        "what is hardly said is heard",
        "methods/item_evidence.py",
        "least_P = (LEAST * largest_P)",
        "least_P = (0 * largest_P)",
        f"{SAID}::test_after_a_history_its_last_items_speak",
    ),
    Mutant(
        "what rounding leaves of nothing is heard",
        "methods/item_evidence.py",
        ".clamp_min(NOTHING)",
        "",
        f"{SAID}::test_of_one_history_alone_nothing_is_heard",
    ),
    Mutant(
        "earlier items speak as loudly as later ones",
        "methods/item_evidence.py",
        "heard_PA = (self.recency ** back.float())",
        "heard_PA = (self.recency ** (0 * back.float()))",
        f"{SAID}::test_after_a_history_its_last_items_speak",
    ),
    Mutant(
        "all items of a history speak",
        "methods/item_evidence.py",
        "back = torch.arange(min(self.last, items_BL.shape[1])",
        "back = torch.arange(items_BL.shape[1]",
        f"{SAID}::test_after_a_history_its_last_items_speak",
    ),
    Mutant(
        "items before the first one speak",
        "methods/item_evidence.py",
        ".expand(at_PA.shape) * (at_PA >= 0)",
        ".expand(at_PA.shape) * 1.0",
        f"{SAID}::test_after_a_history_its_last_items_speak",
    ),
    Mutant(
        "a gate is the same for all kinds and histories",
        "methods/item_evidence.py",
        "return (states_PD.float() @ self.gate_ED.T).exp()",
        "return (0 * states_PD.float() @ self.gate_ED.T).exp()",
        f"{SAID}::test_a_gate_multiplies_the_weights_and_both_are_trained",
    ),
    Mutant(
        "tables of a run folder are read beyond their ends",
        "methods/item_evidence.py",
        "(self.items_NK < self.n_items)",
        "(self.items_NK < 2 * self.n_items)",
        f"{RUNS}::test_tables_of_other_items_are_told",
    ),
    Mutant(
        "a training that begins with a run keeps its counts",
        "methods/item_evidence.py",
        "of_its_training: ClassVar[tuple[str, ...]] = tuple(item_dims)",
        "of_its_training: ClassVar[tuple[str, ...]] = ()",
        f"{RUNS}::test_a_training_that_begins_with_a_run_counts_its_evidence_anew",
    ),
    Mutant(
        "evidence has no place in a split catalogue, and nobody says so",
        "training/split_items.py",
        "if method.evidence is not None:",
        "if False:",
        f"{RUNS}::test_what_cannot_be_trained_is_refused_before_anything_is_written",
    ),
    Mutant(
        "an index is built beside evidence",
        "recommender.py",
        "if hears_evidence(self.method):",
        "if False:",
        f"{RUNS}::test_an_index_is_refused",
    ),
    # ---- weighed and walked
    Mutant(
        "a gain by chance is believed",
        "training/evidence_weights.py",
        "CERTAIN * float(gain_C.std()) / math.sqrt(len(gain_C))",
        "0.0",
        f"{WEIGHTS}::test_evidence_of_permuted_items_comes_to_nothing",
    ),
    Mutant(
        "weights are looked for in the coarse grid alone",
        "training/evidence_weights.py",
        "for fine in (False, True):",
        "for fine in (False,):",
        f"{WEIGHTS}::test_what_is_chosen_is_the_best_of_the_grid",
    ),
    Mutant(
        "weights are chosen with items of the history among the candidates",
        "training/evidence_weights.py",
        "filtered_items(cases.met.take(rows), device) if exclude_history else None",
        "None",
        f"{WEIGHTS}::test_what_is_chosen_is_the_best_of_the_grid",
    ),
    Mutant(
        "a finished fit is not kept",
        "runs.py",
        "    write_model(run.folder, method.state_dict(), sums)\n",
        "    pass\n",
        f"{RUNS}::test_weights_are_found_and_kept",
    ),
    Mutant(
        "values are not part of the softmax",
        "catalogue/moments.py",
        "            added.add_(z, rows, shard)",
        "            pass",
        f"{SPARSE}::test_cross_entropy_and_its_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "the gradient of a value ignores its row's weight",
        "catalogue/moments.py",
        "d_added *= weights_P[added.rows_T]",
        "d_added *= weights_P.mean()",
        f"{SPARSE}::test_cross_entropy_and_its_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "a target's own value is not part of its logit",
        "catalogue/losses.py",
        "+ (1 - smoothing) * added.of(targets_P)",
        "",
        f"{SPARSE}::test_cross_entropy_and_its_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "in lists values are not of the scale of scores",
        "catalogue/ranking.py",
        "self.added.add_(scores_BN, rows, items, self.catalogue.temperature)",
        "self.added.add_(scores_BN, rows, items)",
        f"{SPARSE}::test_ranks_and_lists_are_those_of_whole_matrices",
    ),
    # ---- explained
    Mutant(
        "an explanation's list is that of the model alone",
        "explaining/explain.py",
        "more = None if added is None else behind(added, last_M, S * times)",
        "more = None",
        f"{SUMS}::test_the_answer_is_what_is_recommended",
    ),
    Mutant(
        "probabilities of the sum are divided by the model's own total",
        "explaining/explain.py",
        "lse_S.new_tensor([summed.lse])",
        "lse_S[-1:]",
        f"{SUMS}::test_probabilities_and_certainty_are_those_of_the_sum",
    ),
    Mutant(
        "contributions are in logits where scores are not",
        "explaining/evidence_sums.py",
        "(said.added_KA * scale).tolist()",
        "said.added_KA.tolist()",
        f"{SUMS}::test_a_score_is_the_sum_of_the_model_and_all_that_speaks",
    ),
    Mutant(
        "what is too little to be heard is told all the same",
        "methods/item_evidence.py",
        " * torch.isin(items_K, of_T)[:, None]",
        "",
        f"{SUMS}::test_a_score_is_the_sum_of_the_model_and_all_that_speaks",
    ),
    Mutant(
        "a gate is no part of the explained weight",
        "methods/item_evidence.py",
        "return self.said_KA * self.most",
        "return self.said_KA * self.weight",
        f"{SUMS}::test_a_gate_is_part_of_the_weight",
    ),
    Mutant(
        "what speaks with a member of an ensemble does so as if there were no others",
        "methods/ensemble.py",
        "each._replace(weight=weight * each.weight)",
        "each",
        f"{SUMS}::test_an_ensemble_is_explained_by_what_speaks_with_its_members",
    ),
    Mutant(
        "a finished fit of weights is begun from, and comes to others",
        "training/evidence_weights.py",
        "[0.0] * len(evidence.shapes)",
        "evidence.weights_E.tolist()",
        f"{RUNS}::test_a_finished_run_that_goes_on_stays_as_it_is",
    ),
    Mutant(
        "the counts that are told are of another kind's columns",
        "methods/item_evidence.py",
        "self.pairs_NM[items_A, met : met + shape.neighbours]",
        "self.pairs_NM[items_A, met : met + shape.neighbours].flip(1)",
        f"{SUMS}::test_what_is_counted_is_what_stands_in_the_training_part",
    ),
]
