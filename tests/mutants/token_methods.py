"""Mutants of methods over tokens, and of what searches their items."""

from __future__ import annotations

from mutants import Mutant

UNMET = "unit/methods/test_unmet_tokens.py"
TIGER, RPG = "unit/methods/test_tiger.py", "unit/methods/test_rpg.py"
PREFIXES = "unit/decoding/test_prefix_scores.py"

SOFTMAX, REG4REC = "unit/catalogue/test_token_softmax.py", "unit/methods/test_reg4rec.py"
DECODER = "unit/nn/test_decoder.py"

MUTANTS = [
    Mutant(
        "items that training never meets are rivals in the softmax over items",
        "methods/item_tokens.py",
        "self.met_N is not None and bool(self.met_N[targets].all())",
        "False",
        f"{RPG}::test_unmet_items_are_no_rivals_of_those_it_names",
    ),
    Mutant(
        "an item that none met and that is named all the same is taken for another one",
        "methods/item_tokens.py",
        " and bool(self.met_N[targets].all())",
        "",
        f"{RPG}::test_unmet_items_are_no_rivals_of_those_it_names",
    ),
    Mutant(
        "the items of a softmax are those of a mask that was let go",
        "methods/token_heads.py",
        "        self._bags = None  # the memory",
        "        # the memory",
        f"{RPG}::test_which_items_are_met_may_be_told_anew",
    ),
    Mutant(
        "items that training never met are lifted where they are listed, and not where a target is scored",
        "decoding/token_scores.py",
        "            scores_BK.add_(self.offsets_N[items_BM])",
        "            pass",
        f"{UNMET}::test_ranks_lists_and_single_scores_are_of_the_same_numbers",
    ),
    Mutant(
        "what is lifted is said to be of the tokens",
        "explaining/token_paths.py",
        "+ apart + offsets[k]",
        "+ apart",
        f"{UNMET}::test_an_explanation_has_them_as_a_summand",
    ),
    Mutant(
        "items that training never met are never lifted",
        "unmet_items.py",
        "(*GRID, *(-nats for nats in GRID[1:]))",
        "(*GRID, *(nats for nats in GRID[1:]))",
        f"{UNMET}::test_they_are_fitted_by_the_validation_part",
    ),
    Mutant(
        "new items are held back where another run lifted its own",
        "extending.py",
        "    return 0.0 - held_back(other.method)",
        "    return 0.0 + held_back(other.method)",
        "conformance/test_new_items.py::test_new_items_are_lifted_as_in_a_run_that_held_items_out",
    ),
    Mutant(
        "nats are fitted behind those that a finished run already has",
        "validation_fits.py",
        "    if tokens:\n        hold_back(method, 0.0)\n",
        "",
        f"{UNMET}::test_a_share_of_paths_is_chosen_without_them",
    ),
    # ---- TIGER
    Mutant(
        "TIGER's softmax holds the codes of items that training never meets",
        "methods/tiger.py",
        "PrefixTable.of(codes_NM, self.size, met_N)",
        "PrefixTable.of(codes_NM, self.size)",
        f"{TIGER}::test_unmet_items_are_no_rivals_of_those_it_names",
    ),
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
        "or not _same(self._table_codes_NM, codes_NM)",
        "or self._table_codes_NM.shape != codes_NM.shape",
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
    Mutant(
        "each token of a tuple is read as if none stood before it",
        "methods/tiger.py",
        "            if book + 1 < self.tokens.codebooks:\n                state = decoder.advance(",
        "            if book + 1 < self.tokens.codebooks:\n                decoder.advance(",
        "unit/explaining/test_token_paths.py::test_an_ordered_path_is_the_tuple_of_an_item",
    ),
    # ---- RPG
    Mutant(
        "a target that a graph search does not meet is ranked all the same",
        "decoding/graph.py",
        "torch.where(here_BK.any(1), better_B",
        "torch.where(here_BK.any(1) | True, better_B",
        f"{RPG}::test_a_short_search_ranks_what_it_lists",
    ),
    Mutant(
        "the graph stays when vectors have moved",
        "methods/rpg.py",
        "mine.device == theirs.device and torch.equal(mine, theirs)",
        "mine.shape == theirs.shape",
        f"{RPG}::test_the_graph_follows_vectors_and_tokens",
    ),
    # ---- heads over tokens, and REG4Rec
    Mutant(
        "tokens are as probable as if all had the same mass",
        "catalogue/token_softmax.py",
        "(sums_XS / total_S).T",
        "(sums_XS / sums_XS.sum(0)).T",
        f"{SOFTMAX}::test_lse_and_its_gradient",
    ),
    Mutant(
        "the largest logit is left out of the lse",
        "catalogue/token_softmax.py",
        "total_S.log() + most_S",
        "total_S.log()",
        f"{SOFTMAX}::test_lse_and_its_gradient",
    ),
    Mutant(
        "one shared token is enough where several are decided",
        "catalogue/token_softmax.py",
        "| open_PM[rows_E]).all(1)",
        "| open_PM[rows_E]).any(1)",
        f"{SOFTMAX}::test_lse_among_items_that_share_tokens",
    ),
    Mutant(
        "the item is named before the first token alone",
        "methods/reg4rec.py",
        "named_at = (0, int(torch.randint(steps, ())) + 1) if steps else (0,)",
        "named_at = (0, int(torch.randint(steps, ())) * 0) if steps else (0,)",
        f"{REG4REC}::test_the_loss_is_that_of_a_row_a_prefix",
    ),
    Mutant(
        "a later step names the item among all items",
        "methods/reg4rec.py",
        "self.tokens.item_losses(logits_PMC, targets_P, opened_PM, ",
        "self.tokens.item_losses(logits_PMC, targets_P, None, ",
        f"{REG4REC}::test_the_loss_is_that_of_a_row_a_prefix",
    ),
    Mutant(
        "orders of training know the true token",
        "methods/token_heads.py",
        "logits_XC.max(-1).values - true_X - losses_X.detach()",
        "-losses_X.detach()",
        f"{REG4REC}::test_the_loss_is_that_of_a_row_a_prefix",
    ),
    Mutant(
        "the state that named a token is not carried along",
        "methods/reg4rec.py",
        "if self.config.carries_state:",
        "if self.config.carries_state and False:",
        f"{REG4REC}::test_the_loss_is_that_of_a_row_a_prefix",
    ),
    Mutant(
        "the theta that was chosen prunes nothing",
        "methods/reg4rec.py",
        "return replace(decoding, theta=float(self.theta))",
        "return replace(decoding, theta=1.0)",
        f"{REG4REC}::test_paths_are_pruned_at_the_theta_that_was_chosen",
    ),
    Mutant(
        "paths and what was said before them change places",
        "methods/reg4rec.py",
        "share * paths_BPMC + (1 - share) * first_B1MC",
        "(1 - share) * paths_BPMC + share * first_B1MC",
        f"{REG4REC}::test_items_are_ranked_by_shares_of_the_first_step_and_of_paths",
    ),
    Mutant(
        "sums of log-probabilities are not sharpened in ranking",
        "methods/token_heads.py",
        "return log_probs * self.log_sharpness.exp() if self.names_items else log_probs",
        "return log_probs",
        f"{REG4REC}::test_rpg_is_the_first_step_alone",
    ),
    Mutant(
        "a token sees only itself",
        "nn/decoder.py",
        "for weights_BHP, values_BHPC in zip(weights[1:], memory.token_values[1:], strict=True):",
        "for weights_BHP, values_BHPC in zip(weights[:0], memory.token_values[:0], strict=True):",
        f"{DECODER}::test_a_token_sees_those_before_it_and_its_own_part_of_the_history",
    ),
    Mutant(
        "items of other data give way to those of the run",
        "semantic_ids/item_tokens.py",
        "taken=tokens.table if beside else None",
        "taken=tokens.table",
        "unit/test_transferring.py::test_equal_tokens_give_way_within_the_other_data_alone",
    ),
    Mutant(
        "features of other data are made as that data would make them",
        "transferring.py",
        "read_features(split.data, asked, scales)",
        "read_features(split.data, asked)",
        "unit/test_transferring.py::test_tokens_are_made_by_the_runs_tokenizer_of_features_as_it_read_them",
    ),
    Mutant(
        "weights that come back to their own data have seen nothing of it",
        "transferring.py",
        "may_have_seen=common or bool(same)",
        "may_have_seen=common",
        "unit/test_transferring.py::test_what_was_trained_on_is_known_however_often_it_is_carried_on",
    ),
    Mutant(
        "weights that were carried on were trained where they were carried to",
        "starting.py",
        '[] if run.about.get("transferred") else [run.about]',
        "[run.about]",
        "unit/test_transferring.py::test_what_was_trained_on_is_known_however_often_it_is_carried_on",
    ),
    Mutant(
        "a run over tokens of another tokenizer reads its features by means of its own",
        "references.py",
        "if scales is None and asked.tokens is not None:",
        "if scales is None and asked.tokens is None and False:",
        "unit/test_transferring.py::test_tokens_by_the_tokenizer_of_other_data",
    ),
]
