"""Mutants of `semantic_ids/`: what items become tokens by, how, how collisions go, what is measured and kept."""

from __future__ import annotations

from mutants import Mutant

TABLE, TOKENIZERS, EMA, COLLISIONS, INPUTS, ITEMS, STORAGE, QUALITY, CONTRASTS, SOFT, IMPUTATION = (
    f"unit/semantic_ids/test_{name}.py"
    for name in (
        *("token_table", "tokenizers", "ema_codebooks", "collisions", "inputs", "item_tokens", "storage"),
        *("quality", "token_contrasts", "soft_index", "imputation"),
    )
)

MUTANTS = [
    # ---- what items are tokenised by
    Mutant(
        "an unmet item is like those that users meet as the mean item",
        "semantic_ids/imputation.py",
        "tokenizer.standardised(values_UF)[:, :-width]",
        "values_UF[:, :-width].to(said_NF)",
        f"{IMPUTATION}::test_by_loops",
    ),
    Mutant(
        "items held out of training keep the mean",
        "semantic_ids/item_tokens.py",
        "values_NF = with_imputed(values_NF, tokenizer, width)",
        "pass",
        f"{IMPUTATION}::test_items_held_out_of_training_are_read_as_those_that_join_later",
    ),
    Mutant(
        "tags are not scaled by how many there are",
        "semantic_ids/inputs.py",
        " / counts_N1.sqrt()",
        "",
        f"{INPUTS}::test_tags_are_sums_of_fixed_directions",
    ),
    Mutant(
        "a wide source counts more than a narrow one",
        "semantic_ids/inputs.py",
        "(share * scale / width) ** 0.5",
        "(share * scale) ** 0.5",
        f"{INPUTS}::test_a_source_counts_as_a_whole",
    ),
    Mutant(
        "information of a pair does not prefer rare neighbours",
        "semantic_ids/inputs.py",
        "sums_N**CONTEXT_POWER",
        "sums_N",
        f"{INPUTS}::test_information_in_numpy",
    ),
    Mutant(
        "items that nobody met are not the mean",
        "semantic_ids/inputs.py",
        "        vectors_NE[~met_N] = 0.0\n",
        "        vectors_NE[~met_N] = 1.0\n",
        f"{INPUTS}::test_vectors_in_numpy",
    ),
    Mutant(
        "a run's vectors are not centred, so that strangers are no mean",
        "run_vectors.py",
        "(theirs_ND - theirs_ND.mean(0))",
        "theirs_ND",
        "unit/test_run_vectors.py::test_vectors_by_hand",
    ),
    Mutant(
        "a run of another split of the same data is taken",
        "run_vectors.py",
        "    if other:\n",
        "    if other and False:\n",
        "unit/test_run_vectors.py::test_what_is_refused_in_a_sentence",
    ),
    # ---- tokenizers
    Mutant(
        "inputs are not standardised",
        "semantic_ids/tokenizer.py",
        "1 / std_F.clamp_min(1e-30)",
        "1.0",
        f"{TOKENIZERS}::test_standardised_in_numpy",
    ),
    Mutant(
        "codes depend on how many rows are encoded",
        "semantic_ids/tokenizer.py",
        "self.assign(self.project(block))[:rows]",
        "self.assign(self.project(block - block.mean(0)))[:rows]",
        f"{TOKENIZERS}::TestEvery::test_a_code_depends_on_no_other_row",
    ),
    Mutant(
        "every level quantises the same",
        "semantic_ids/rq_kmeans.py",
        "points_ND = points_ND - words_CD[codes[-1]]",
        "points_ND = points_ND - 0 * words_CD[codes[-1]]",
        f"{TOKENIZERS}::TestResidual::test_codes_and_reconstruction_in_numpy",
    ),
    Mutant(
        "the rotation is no rotation",
        "semantic_ids/opq.py",
        "(U @ Vh).view_as",
        "(2 * U @ Vh).view_as",
        f"{TOKENIZERS}::TestOPQ::test_the_rotation_stays_one",
    ),
    Mutant(
        "no gradient goes through the words",
        "semantic_ids/mpq.py",
        "z_BMD = e_BMD + (words_BMD - e_BMD).detach()",
        "z_BMD = words_BMD",
        f"{TOKENIZERS}::TestMPQ::test_gradients_go_straight_through_the_words",
    ),
    Mutant(
        "covariances within experts count as across",
        "semantic_ids/mpq.py",
        "return (squares_MM.sum() - within) / within",
        "return squares_MM.sum() / within",
        f"{TOKENIZERS}::TestMPQ::test_cross_covariance_in_numpy",
    ),
    Mutant(
        "blocks are filled in turn and not in balance",
        "semantic_ids/balanced.py",
        "key=lambda b: (weight[b], b)",
        "key=lambda b: b",
        f"{TOKENIZERS}::test_blocks_hold_about_the_same_variance",
    ),
    # ---- LETTER's terms
    Mutant(
        "items that nobody met point somewhere",
        "semantic_ids/token_contrasts.py",
        "known_B = met_BD.any(1)",
        "known_B = met_BD.any(1) | True",
        f"{CONTRASTS}::TestCollaborative::test_in_loops",
    ),
    Mutant(
        "a word is held against itself",
        "semantic_ids/token_contrasts.py",
        "logits_CC.masked_fill(own_CC, -torch.inf).log_softmax(1)",
        "logits_CC.log_softmax(1)",
        f"{CONTRASTS}::TestDiversity::test_in_loops_over_every_word_that_might_be_drawn",
    ),
    Mutant(
        "groups of words are as large as k-means has them",
        "semantic_ids/token_contrasts.py",
        "sizes[group] < room + (larger > 0)",
        "sizes[group] < C",
        f"{CONTRASTS}::TestGroups::test_sizes_differ_by_one_at_most",
    ),
    Mutant(
        "words climb up the diversity term",
        "semantic_ids/ema_codebooks.py",
        "self.words_MCD.sub_((1 - decay)",
        "self.words_MCD.add_((1 - decay)",
        f"{CONTRASTS}::TestRQVAE::test_words_descend_along_the_diversity_term",
    ),
    Mutant(
        "the collaborative gradient ends at the words",
        "semantic_ids/rq_vae.py",
        "said_BD = z_BD + (words_BMD.sum(1) - z_BD).detach()",
        "said_BD = words_BMD.sum(1)",
        f"{CONTRASTS}::TestRQVAE::test_the_collaborative_gradient_goes_straight_through_the_words",
    ),
    # ---- the soft index
    Mutant(
        "no gradient of behaviour reaches the words",
        "semantic_ids/mpq.py",
        "self.books.descend(spread * words_MCD.grad, len(y_NP))",
        "self.books.descend(0 * words_MCD.grad, len(y_NP))",
        f"{SOFT}::TestSecondStage::test_it_moves_experts_and_words",
    ),
    Mutant(
        "another row's same next item is a negative",
        "semantic_ids/soft_index.py",
        "logits_BB.masked_fill(again_BB, -torch.inf)",
        "logits_BB",
        f"{SOFT}::test_naming_the_next_in_loops",
    ),
    # ---- codebooks that follow
    Mutant(
        "averages of a batch are not scaled to all items",
        "semantic_ids/ema_codebooks.py",
        "scale = of / len(points_BMD)",
        "scale = 1.0",
        f"{EMA}::test_averages_in_numpy",
    ),
    Mutant(
        "dead codes go anywhere",
        "semantic_ids/ema_codebooks.py",
        "torch.argsort(error_N, descending=True, stable=True)",
        "torch.argsort(error_N, stable=True)",
        f"{EMA}::test_a_dead_code_goes_where_the_error_is_largest",
    ),
    # ---- collisions
    Mutant(
        "popularity does not matter",
        "semantic_ids/collisions.py",
        "-popularity_N.cpu()",
        "popularity_N.cpu()",
        f"{COLLISIONS}::test_the_popular_one_keeps_its_tokens_and_others_take_the_cheapest_free_ones",
    ),
    Mutant(
        "a free tuple is taken twice",
        "semantic_ids/collisions.py",
        "                used.add(free.tobytes())",
        "                pass",
        f"{COLLISIONS}::test_two_codes_change_where_one_leads_nowhere",
    ),
    Mutant(
        "new items take tuples that known ones have",
        "semantic_ids/collisions.py",
        "used = set() if taken is None else",
        "used = set() if True else",
        f"{COLLISIONS}::test_items_that_come_later_give_way",
    ),
    # ---- what is kept
    Mutant(
        "tokens of other interactions are taken",
        "semantic_ids/storage.py",
        'if about["data_hash"] != split.data.data_hash:',
        "if False:",
        f"{STORAGE}::test_other_interactions",
    ),
    Mutant(
        "codes out of range are taken",
        "semantic_ids/storage.py",
        "if codes.numel() and not",
        "if False and not",
        f"{STORAGE}::test_tensors_that_are_whole_and_wrong",
    ),
    # ---- what is measured
    Mutant(
        "mutual information is not adjusted for chance",
        "semantic_ids/mutual_information.py",
        "chance = _expected(a_counts, b_counts, n)",
        "chance = 0.0",
        f"{QUALITY}::test_mutual_information_is_that_of_scikit_learn",
    ),
    Mutant(
        "pairs are of the training part",
        "semantic_ids/quality.py",
        "split.valid.targets[some]",
        "history.histories.items[history.ends[some] - 2]",
        f"{QUALITY}::test_pairs_are_of_the_validation_part",
    ),
    Mutant(
        "what decorrelates nothing is weighted",
        "semantic_ids/mpq.py",
        'in ("split", "none"):',
        'in ("none",):',
        f"{TOKENIZERS}::TestMPQ::test_what_nothing_reads_is_refused",
    ),
    Mutant(
        "advice is given whatever was done",
        "semantic_ids/quality.py",
        "self.remark_else if self.remedy in done else self.remark",
        "self.remark",
        f"{QUALITY}::test_no_remark_asks_for_what_was_done",
    ),
    Mutant(
        "collisions are counted once a group",
        "semantic_ids/token_table.py",
        "(sizes[group_N] > 1).mean()",
        "(sizes > 1).sum() / self.n_items",
        f"{TABLE}::test_groups_are_of_equal_tuples",
    ),
]
