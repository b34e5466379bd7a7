"""Mutants of the other methods, and of what several of them share."""

from __future__ import annotations

from mutants import Mutant

IGR = "unit/methods/test_igr_sr.py"
SSE_PT = "unit/methods/test_sse_pt.py"
EASE = "unit/methods/test_ease.py"
TEACHING = "unit/test_teaching.py"
ENSEMBLE = "unit/test_ensembling.py"
UNMET = "unit/methods/test_unmet_items.py"
LIGHTREC = "unit/methods/test_lightrec.py"
MASKED = "unit/methods/test_masked_item.py"

MUTANTS = [
    # ---- baselines
    Mutant(
        "SSE-PT keeps nearly all users by default",
        "methods/sse_pt.py",
        "SearchRange(0.5, 1.0)] = 0.92",
        "SearchRange(0.5, 1.0)] = 0.08",
        f"{SSE_PT}::test_by_default_nearly_all_users_and_no_items_are_replaced",
    ),
    Mutant(
        "SSE-PT replaces items by default",
        "methods/sse_pt.py",
        "replace_item: Share = 0.0",
        "replace_item: Share = 0.1",
        f"{SSE_PT}::test_by_default_nearly_all_users_and_no_items_are_replaced",
    ),
    Mutant(
        "SSE-PT shares embeddings where it evaluates",
        "methods/sse_pt.py",
        "self.shared(batch) if self.training else batch",
        "self.shared(batch)",
        f"{SSE_PT}::test_by_default_nearly_all_users_and_no_items_are_replaced",
    ),
    Mutant(
        "somebody unknown is the first user",
        "methods/sse_pt.py",
        "torch.where(unknown_B[:, None], self.own.mean(0), own_BD)",
        "torch.where(unknown_B[:, None], own_BD, own_BD)",
        f"{SSE_PT}::test_somebody_unknown_is_the_mean_of_all",
    ),
    Mutant(
        "LightRec's next codebook sees what is already said",
        "methods/lightrec.py",
        "missing_ND - chosen_ND, total_ND + chosen_ND",
        "missing_ND, total_ND + chosen_ND",
        f"{LIGHTREC}::test_an_item_is_the_sum_of_its_codewords",
    ),
    Mutant(
        "LightRec's bilinear choice knows no matrix",
        "methods/lightrec.py",
        "directions = missing_ND @ self.maps_MDD[m], words_CD",
        "directions = missing_ND, words_CD",
        f"{LIGHTREC}::test_the_bilinear_choice_one_by_one",
    ),
    Mutant(
        "LightRec's frozen base vectors train on",
        "methods/lightrec.py",
        "self.items.weight.requires_grad_(name == VECTORS)",
        "self.items.weight.requires_grad_(True)",
        f"{LIGHTREC}::test_base_vectors_stand_still_in_the_second_stage",
    ),
    Mutant(
        "LightRec's teacher reads codewords",
        "methods/lightrec.py",
        "was, self.plain = self.plain, True",
        "was, self.plain = self.plain, False",
        f"{LIGHTREC}::test_what_is_distilled_is_the_distance_of_all_scores",
    ),
    Mutant(
        "the distance of scores counts what both share once",
        "catalogue/score_distance.py",
        "own_P - 2 * across_P + others_P",
        "own_P - across_P + others_P",
        f"{LIGHTREC}::test_what_is_distilled_is_the_distance_of_all_scores",
    ),
    Mutant(
        "LightRec's gradients know no temperature",
        "methods/lightrec.py",
        "rooms[0]).div_(ctx.temperature)",
        "rooms[0])",
        f"{LIGHTREC}::test_gradients_are_straight_through",
    ),
    Mutant(
        "BERT4Rec's hidden items weigh one each",
        "methods/masked_item.py",
        "batch.lengths_B / self.mask_sampler.expected(lengths_B) / batch.weight",
        "batch.lengths_B / batch.lengths_B / batch.weight",
        f"{MASKED}::test_loss_is_the_formula",
    ),
    Mutant(
        "BERT4Rec sees what it is to name",
        "methods/masked_item.py",
        "torch.where(masked_BN[..., None], self.mask, self.items(items_BN))",
        "self.items(items_BN)",
        f"{MASKED}::test_hidden_items_are_not_seen",
    ),
    # ---- closed form
    Mutant(
        "EASE lets an item speak for itself",
        "data/linear.py",
        "P_NN.fill_diagonal_(0.0)",
        "pass",
        f"{EASE}::test_weights_are_those_of_the_paper",
    ),
    Mutant(
        "EASE divides rows instead of columns",
        "data/linear.py",
        "P_NN.div_(-P_NN.diagonal().clone())",
        "P_NN.div_(-P_NN.diagonal().clone()[:, None])",
        f"{EASE}::test_weights_are_those_of_the_paper",
    ),
    Mutant(
        "EASE counts an item that was met twice as two",
        "data/linear.py",
        "np.divmod(np.unique(users * N + items), N)",
        "np.divmod(users * N + items, N)",
        f"{EASE}::test_weights_are_those_of_the_paper",
    ),
    Mutant(
        "EASE is refused only when there is no memory for one copy of it",
        "methods/ease.py",
        "check_room(COPIES * _n_bytes(n_items)",
        "check_room(_n_bytes(n_items)",
        f"{EASE}::test_what_is_too_large_is_refused_before_memory_is_asked_for",
    ),
    Mutant(
        "the last days are counted back from what is held out",
        "data/popularity.py",
        "times[counted].max(initial=0)",
        "times.max(initial=0)",
        "unit/methods/test_popular.py::test_only_the_last_days_count",
    ),
    Mutant(
        "what fills up a row of neighbours is the first item",
        "methods/item_knn.py",
        "self.values_NK.zero_()",
        "self.values_NK.fill_(1.0)",
        "unit/methods/test_item_knn.py::test_an_item_with_fewer_neighbours_says_nothing_of_the_first_one",
    ),
    Mutant(
        "epochs of a closed form are taken without a word",
        "run_checks.py",
        "    if unread:\n",
        "    if False:\n",
        "unit/training/test_closed_form.py::test_what_would_change_nothing_is_refused",
    ),
    # ---- what several share
    Mutant(
        "ranking forgets unit length",
        "methods/items.py",
        "return comparable(states, cosine=self.loss.cosine)",
        "return states",
        f"{IGR}::test_user_states_by_hand",
    ),
    # ---- ensembles
    Mutant(
        "an ensemble adds up logits instead of log-probabilities",
        "methods/ensemble.py",
        "torch.cat([*states, -total_B[:, None].to(states[0])], dim=1)",
        "torch.cat([*states, torch.zeros_like(total_B[:, None]).to(states[0])], dim=1)",
        f"{ENSEMBLE}::test_scores_are_the_mean_of_log_probabilities",
    ),
    Mutant(
        "what speaks beside a member counts whole",
        "methods/ensemble.py",
        "weight * each.values_T for weight, each in speaking",
        "each.values_T for weight, each in speaking",
        f"{ENSEMBLE}::test_scores_are_the_mean_of_log_probabilities",
    ),
    Mutant(
        "a member reads more than its window",
        "methods/ensemble.py",
        "_represented(member, batch.last(member.window))",
        "_represented(member, batch)",
        f"{ENSEMBLE}::test_scores_are_the_mean_of_log_probabilities",
    ),
    Mutant(
        "an index is built of what has evidence beside it",
        "recommender.py",
        "if hears_evidence(self.method):",
        "if self.method.evidence is not None:",
        f"{ENSEMBLE}::test_what_an_ensemble_does_not_do",
    ),
    # ---- a teacher
    Mutant(
        "a teacher's evidence hears the history that it is asked about",
        "teaching.py",
        "replace(made, added=method.evidence.in_training(training_batch(rows).to(method.device), states_PD))",
        "replace(made, added=method.evidence.after(history_batch(prefixes, method.window), states_PD))",
        f"{TEACHING}::test_a_teacher_does_not_hear_what_the_history_itself_added",
    ),
    Mutant(
        "what a teacher says is taken at another temperature",
        "teaching.py",
        "(scores_PK / catalogue.temperature).softmax(-1)",
        "scores_PK.div(2).softmax(-1)",
        f"{TEACHING}::test_every_position_is_asked_as_the_end_of_its_history",
    ),
    Mutant(
        "a batch is taught what follows its targets",
        "methods/outside.py",
        "places_BL = batch.starts_B[:, None] + torch",
        "places_BL = batch.starts_B[:, None] + 1 + torch",
        f"{TEACHING}::test_a_batch_finds_its_own_positions",
    ),
    # ---- items that training never meets
    Mutant(
        "an unmet item is a rival in training",
        "methods/items.py",
        "return (self.all_ids() + features_ND) * self.trained_N1",
        "return self.all_ids() * self.trained_N1 + features_ND",
        f"{UNMET}::test_in_training_it_is_no_rival_that_teaches_anything",
    ),
    Mutant(
        "an unmet item keeps the id that it was drawn with",
        "methods/items.py",
        "return self.all_ids() * self.trained_N1 + features_ND",
        "return self.all_ids() + features_ND",
        f"{UNMET}::test_an_unmet_item_is_its_features_alone",
    ),
    Mutant(
        "weights go over by place and not by id",
        "methods/take_over.py",
        "place[dim] = rows.to(tensor.device)",
        "place[dim] = torch.arange(len(rows))",
        "conformance/test_new_items.py::test_a_training_begins_with_the_weights_of_a_run",
    ),
]
