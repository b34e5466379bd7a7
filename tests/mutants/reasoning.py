"""Mutants of `reasoning/`, `nn/` and `backbones/`: chains, halting, prototypes, contrast, recurrence, attention."""

from __future__ import annotations

from mutants import Mutant

KMEANS, PROTOTYPES = "unit/reasoning/test_kmeans.py", "unit/reasoning/test_prototypes.py"
HALTING, CHAIN, GRPO = "unit/reasoning/test_halting.py", "unit/reasoning/test_chain.py", "unit/reasoning/test_grpo.py"
CONTRAST, INTENTS = "unit/reasoning/test_contrast.py", "unit/reasoning/test_intents.py"
BACKBONES = "conformance/test_backbones.py"

MUTANTS = [
    # ---- prototypes
    Mutant(
        "clusters are never renewed",
        "reasoning/prototypes.py",
        "if int(self.made_in) == epoch:",
        "if int(self.made_in) >= 0:",
        f"{KMEANS}::test_the_next_epoch_goes_on_from_the_last_centres",
    ),
    Mutant(
        "k-means begins anew in each epoch",
        "reasoning/prototypes.py",
        "if int(self.made_in) >= 0 else None",
        "if False else None",
        f"{KMEANS}::test_the_next_epoch_goes_on_from_the_last_centres",
    ),
    Mutant(
        "k-means is never on the sphere",
        "reasoning/prototypes.py",
        '"spherical": unit',
        '"spherical": False',
        f"{KMEANS}::test_the_next_epoch_goes_on_from_the_last_centres",
    ),
    Mutant(
        "k-means has one iteration",
        "reasoning/prototypes.py",
        '"niter": ITERATIONS',
        '"niter": 1',
        f"{KMEANS}::test_clusters_have_settled",
    ),
    Mutant(
        "prototypes are as short as means are",
        "reasoning/prototypes.py",
        "F.normalize(sums, dim=-1) * norms[:, None]",
        "sums / sizes.clamp_min(1)[:, None]",
        f"{PROTOTYPES}::test_clusters_are_found",
    ),
    Mutant(
        "prototypes are clustered again within an epoch",
        "reasoning/prototypes.py",
        "if int(self.made_in) == epoch:",
        "if False:",
        f"{PROTOTYPES}::test_once_an_epoch_and_warm_started",
    ),
    Mutant(
        "a prototype's bias is divided by the temperature",
        "reasoning/prototypes.py",
        "states_KD[:, -1] = 1.0",
        "pass",
        "unit/reasoning/test_diagnostics.py::test_prototypes_meet_biases_in_full",
    ),
    Mutant(
        "k_t rises one step too late",
        "reasoning/prototypes.py",
        "math.exp(-speed * t)",
        "math.exp(-speed * (t - 1))",
        f"{PROTOTYPES}::test_counts_rise_towards_the_most",
    ),
    # ---- halting
    Mutant(
        "noise moves the entropy alone",
        "reasoning/halting.py",
        "features + noise * torch.randn_like(features)",
        "features + noise * torch.randn_like(features) * features.new_tensor([1.0, 0.0, 0.0])",
        f"{HALTING}::test_noise_reaches_every_indicator",
    ),
    Mutant(
        "consistency is KL the other way round",
        "reasoning/halting.py",
        "((before.states_PD - now.states_PD) * before.mean_PD).sum(-1) - before.lse_P + now.lse_P",
        "((now.states_PD - before.states_PD) * now.mean_PD).sum(-1) - now.lse_P + before.lse_P",
        f"{HALTING}::test_exact_indicators",
    ),
    Mutant(
        "prototypes weigh the same, whatever they stand for",
        "reasoning/halting.py",
        "bias_N=sizes_N[real].to(vectors_ND.dtype).log()",
        "bias_N=sizes_N[real].to(vectors_ND.dtype).log() * 0",
        f"{HALTING}::test_prototypes_stand_for_their_items",
    ),
    Mutant(
        "halting weights do not sum to 1",
        "reasoning/halting.py",
        "torch.cat([weights[:, :-1], before_PT[:, -1:]], dim=1)",
        "weights",
        f"{HALTING}::test_soft_weights",
    ),
    Mutant(
        "the halting net reads indicators as they are",
        "reasoning/halting.py",
        "(features - self.mean) / (self.variance + 1e-8).sqrt()",
        "features",
        f"{HALTING}::test_the_net",
    ),
    Mutant(
        "the halting net forgets all batches but the last",
        "reasoning/halting.py",
        "share = max(1 / int(self.batches), MEMORY)",
        "share = 1.0",
        f"{HALTING}::test_the_net",
    ),
    Mutant(
        "rows that have halted go on thinking",
        "reasoning/halting.py",
        "stats_before, going = stats, going & ~stop",
        "stats_before, going = stats, going",
        f"{HALTING}::test_rows_that_halt_leave_the_batch",
    ),
    Mutant(
        "a state that is a mean forgets one of its steps",
        "reasoning/halting.py",
        "read = total / (t + 1) if mean else state",
        "read = total / t if mean else state",
        "unit/methods/test_dtrec.py::test_rows_stop_where_they_would_alone",
    ),
    # ---- chains and picks
    Mutant(
        "a drawn step counts once",
        "reasoning/step_sampling.py",
        "1 / share_PS[rows, steps]",
        "torch.ones_like(share_PS[rows, steps])",
        "unit/reasoning/test_step_sampling.py::test_draws_follow_the_weights_and_count_by_their_inverse",
    ),
    Mutant(
        "thoughts have no step_embeddings",
        "reasoning/chain.py",
        "backbone.reason(states[-1] + embedding, chain)",
        "backbone.reason(states[-1], chain)",
        f"{CHAIN}::test_loss_and_gradients_are_those_of_a_row_per_prefix",
    ),
    Mutant(
        "noise piles up along a chain",
        "reasoning/chain.py",
        "for before, embedding in zip(states, step_embeddings_TD, strict=False):",
        "for before, embedding in zip([states[0]] * len(states), step_embeddings_TD, strict=False):",
        f"{CHAIN}::test_noise_starts_from_clean_states",
    ),
    # ---- contrast, intents, recurrence, GRPO
    Mutant(
        "a row's own twin may be ignored",
        "reasoning/contrast.py",
        "ignore_PP & (own[:, None] != own)",
        "ignore_PP",
        f"{CONTRAST}::test_against_a_loop",
    ),
    Mutant(
        "InfoNCE looks one way",
        "reasoning/contrast.py",
        "(scores_PP.logsumexp(1) + scores_PP.logsumexp(0)) / 2",
        "scores_PP.logsumexp(1)",
        f"{CONTRAST}::test_both_directions",
    ),
    Mutant(
        "everybody is their own partner",
        "reasoning/contrast.py",
        "(place_P + 1) % sizes[ring_P]",
        "place_P",
        f"{CONTRAST}::test_partners_share_a_label",
    ),
    Mutant(
        "all intents of a row may be masked",
        "reasoning/intents.py",
        "torch.where(kept_BM.any(dim=1, keepdim=True), kept_BM, saved_BM)",
        "kept_BM",
        f"{INTENTS}::test_masks_drop_as_many_as_asked_for_and_never_all",
    ),
    Mutant(
        "what intents find is never dropped",
        "reasoning/intent_reasoner.py",
        "x_BLD + self.cross_dropout(retrieved)",
        "x_BLD + found",
        "unit/methods/test_igr_sr_parts.py::test_what_is_found_in_the_intents_is_dropped_like_any_branch",
    ),
    Mutant(
        "masked intents are looked at",
        "reasoning/intent_reasoner.py",
        "keys_values, beside.kept_BM)",
        "keys_values, None)",
        "unit/reasoning/test_intent_reasoner.py::test_a_masked_intent_might_as_well_not_be_there",
    ),
    Mutant(
        "rows of texts are shifted by one",
        "reasoning/profiles.py",
        "texts_BLE = self.texts_NE[items_BL]",
        "texts_BLE = self.texts_NE[items_BL - 1]",
        "unit/methods/test_igr_sr_parts.py::test_texts_are_those_of_the_items",
    ),
    Mutant(
        "texts are not centred",
        "reasoning/profiles.py",
        "F.normalize(vectors_NE - mean_E, dim=1)",
        "F.normalize(vectors_NE, dim=1)",
        "unit/methods/test_igr_sr_parts.py::test_texts_are_those_of_the_items",
    ),
    Mutant(
        "depth is never cut",
        "reasoning/recurrence.py",
        "return min(1 + int(torch.poisson(rate)), int(CUT) * mean_recurrence)",
        "return 1 + int(torch.poisson(rate))",
        "unit/reasoning/test_recurrence.py::test_depths",
    ),
    Mutant(
        "a step of LARES is not normed",
        "reasoning/recurrence.py",
        "mixed = self.norm(self._mix(T_BLD, H_BLD))",
        "mixed = self._mix(T_BLD, H_BLD)",
        "unit/reasoning/test_recurrence.py::test_a_trajectory",
    ),
    Mutant(
        "advantages know no spread",
        "reasoning/grpo.py",
        "apart_GB / (std_B + STEADY)",
        "apart_GB",
        f"{GRPO}::test_advantages",
    ),
    Mutant(
        "GRPO's KL has the wrong gradient",
        "reasoning/grpo.py",
        "kl_TB = ahead_TB.exp() - ahead_TB - 1",
        "kl_TB = ahead_TB.exp().detach() - ahead_TB - 1",
        f"{GRPO}::test_value_and_gradient",
    ),
    Mutant(
        "a rank beyond the list is rewarded",
        "reasoning/grpo.py",
        "torch.where(ranks <= top, gain, 0.0)",
        "gain",
        f"{GRPO}::test_rewards",
    ),
    # ---- nn and backbones
    Mutant(
        "dropout does not scale up what it keeps",
        "nn/dropout.py",
        ".mul_(LEVELS / (LEVELS - dropped))",
        "",
        "unit/nn/test_dropout.py::test_share_and_scale",
    ),
    Mutant(
        "a link sees what comes after its position",
        "nn/attention.py",
        "return positions <= self.at_BP[..., None] + self.prefix",
        "return positions <= self.at_BP[..., None] + self.prefix + 1",
        f"{BACKBONES}::test_chains_equal_one_row_a_prefix",
    ),
    Mutant(
        "an encoder that looks both ways reads padding",
        "nn/transformer.py",
        "mask = None if self.causal else key_mask(lengths_B, x_BLD.shape[1])",
        "mask = None",
        f"{BACKBONES}::test_padding_changes_nothing",
    ),
    Mutant(
        "positions counted from the end start at the beginning",
        "nn/positions.py",
        'if self.count_from == "start":',
        "if True:",
        f"{BACKBONES}::test_encoding_is_the_formula",
    ),
    Mutant(
        "HSTU ignores time",
        "backbones/hstu.py",
        "bias_BQL = bias_BQL + look_up(self.time_bias, gaps.buckets_BQL)",
        "pass",
        f"{BACKBONES}::test_hstu_layer_in_numpy",
    ),
    Mutant(
        "GRU4Rec's inputs are not normed",
        "backbones/gru4rec.py",
        "x_BLD = self.dropout(self.norm(x_BLD))",
        "x_BLD = self.dropout(x_BLD)",
        f"{BACKBONES}::test_encoding_is_the_formula",
    ),
]
