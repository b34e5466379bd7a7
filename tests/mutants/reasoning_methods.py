"""Mutants of the methods that reason: losses, stages, and what the defaults do."""

from __future__ import annotations

from mutants import Mutant

REAREC = "unit/methods/test_rearec.py"
DTREC = "unit/methods/test_dtrec.py"
DTREC_HALTING = "unit/methods/test_dtrec_halting.py"
DTREC_INDICATORS = "unit/methods/test_dtrec_indicators.py"
LARES = "unit/methods/test_lares.py"
PRIOR = "unit/reasoning/test_neighbour_prior.py"
IGR = "unit/methods/test_igr_sr.py"
IGR_PARTS = "unit/methods/test_igr_sr_parts.py"
IGR_STAGES = "unit/methods/test_igr_sr_stages.py"
LINKS = "unit/methods/test_reasoning_dropout.py"
START = "unit/methods/test_lares_start.py"
SSE_PT = "unit/methods/test_sse_pt.py"

MUTANTS = [
    # ---- ReaRec
    Mutant(
        "what only the contrast reads is taken without one",
        "methods/rearec.py",
        "OF_ERL if contrast_weight else (*OF_ERL, *OF_CONTRAST)",
        "OF_ERL",
        f"{REAREC}::test_what_nothing_reads_is_refused",
    ),
    Mutant(
        "a run from before with what nothing reads does not load",
        "settings.py",
        "if n not in unread or not fits",
        "if n in values or not fits",
        f"{REAREC}::test_what_nothing_reads_is_left_out_of_runs_from_before",
    ),
    Mutant(
        "PRL draws a step and does not count it by the inverse of its share",
        "methods/rearec.py",
        "weights_SP[of.step_R, of.row_R] * of.scale_R,",
        "weights_SP[of.step_R, of.row_R],",
        f"{REAREC}::test_drawn_steps_are_the_whole_loss_on_average",
    ),
    Mutant(
        "PRL weighs the prior of neighbours as if it were not mixed with the item that follows",
        "methods/rearec.py",
        "mixed_R1 = (guided / weights_S)[of.step_R, None]",
        "mixed_R1 = (guided / weights_S[-1]).expand(len(of.step_R), 1)",
        f"{PRIOR}::test_the_prior_adds_its_mean_divergence_over_steps",
    ),
    Mutant(
        "PRL has the prior of the first state at every step",
        "methods/rearec.py",
        "soft = self.prior.of(of.step_R,",
        "soft = self.prior.of(of.step_R.clamp_max(0),",
        f"{PRIOR}::test_the_prior_adds_its_mean_divergence_over_steps",
    ),
    Mutant(
        "The prior of neighbours is as wide at the last step as at the first",
        "reasoning/neighbour_prior.py",
        "self.spread * (self.steps + 1 - step_R)[:, None]",
        "self.spread * (self.steps + 1 - 0 * step_R)[:, None]",
        f"{PRIOR}::test_priors_narrow_towards_the_last_step",
    ),
    Mutant(
        "The prior of neighbours names items that fill up a row",
        "reasoning/neighbour_prior.py",
        ".masked_fill(~there_RC, -torch.inf)",
        "",
        f"{PRIOR}::test_the_prior_adds_its_mean_divergence_over_steps",
    ),
    Mutant(
        "ERL draws a step and does not count it by the inverse of its share",
        "methods/rearec.py",
        "apart_SPD[of.step_R, of.row_R] * of.scale_R[:, None]",
        "apart_SPD[of.step_R, of.row_R]",
        f"{REAREC}::test_drawn_steps_are_the_whole_loss_on_average",
    ),
    Mutant(
        "ReaRec trains all steps by default",
        "methods/rearec.py",
        "draw_step: bool = True",
        "draw_step: bool = False",
        f"{REAREC}::test_drawn_steps_are_the_whole_loss_on_average",
    ),
    Mutant(
        "PRL ignores smoothing",
        "methods/rearec.py",
        "smoothing=self.config.loss.smoothing,\n",
        "smoothing=0.0,\n",
        f"{REAREC}::test_prl",
    ),
    Mutant(
        "PRL's earlier steps weigh 1 each where they are to weigh 1 together",
        "methods/rearec.py",
        "else 1.0 / K",
        "else 1.0",
        f"{REAREC}::test_prl",
    ),
    Mutant(
        "PRL's temperature_scale grows the wrong way",
        "methods/rearec.py",
        "self.config.temperature_scale ** (K - k)",
        "self.config.temperature_scale ** k",
        f"{REAREC}::test_prl",
    ),
    Mutant(
        "ERL pulls the steps together",
        "methods/rearec.py",
        "named - self.config.divergence_weight * divergence",
        "named + self.config.divergence_weight * divergence",
        f"{REAREC}::test_erl",
    ),
    Mutant(
        "PRL's contrast has negatives with the same target",
        "reasoning/contrast.py",
        "| (targets_P[:, None] == targets_P)",
        "",
        f"{REAREC}::test_contrast_of_prl",
    ),
    Mutant(
        "ReaRec ignores reasoning_dropout",
        "methods/rearec.py",
        "reason(self.backbone, initial_states, self.step_embeddings, dropout=self.config.reasoning_dropout)",
        "reason(self.backbone, initial_states, self.step_embeddings, dropout=False)",
        f"{LINKS}::test_links_drop_units_where_they_are_told_to",
    ),
    Mutant(
        "ReaRec's noisy links ignore reasoning_dropout",
        "methods/rearec.py",
        "noise, dropout = self.config.contrast_noise, self.config.reasoning_dropout",
        "noise, dropout = self.config.contrast_noise, True",
        f"{LINKS}::test_links_drop_units_where_they_are_told_to",
    ),
    Mutant(
        "ReaRec never says that a trajectory is flat",
        "methods/rearec.py",
        'return of_trajectory(figures["mean_cosine"])',
        "return Diagnostics()",
        f"{REAREC}::test_a_flat_trajectory_is_told",
    ),
    # ---- DTRec
    Mutant(
        "DTRec ignores reasoning_dropout",
        "methods/dtrec.py",
        "dropout=self.config.reasoning_dropout",
        "dropout=True",
        f"{LINKS}::test_links_drop_units_where_they_are_told_to",
    ),
    Mutant(
        "DTRec's configured delta is ignored in a direct call",
        "methods/dtrec.py",
        "halting = halting or self.config.halting",
        "halting = halting or Halting()",
        f"{DTREC_HALTING}::test_the_configured_delta_is_obeyed_by_a_direct_call",
    ),
    Mutant(
        "prototype_temperature is ignored",
        "reasoning/prototype_targets.py",
        "as_states(t, catalogue, temperature)[present]",
        "as_states(t, catalogue, 1.0)[present]",
        f"{DTREC}::test_loss_and_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "the ponder prior is geometric the wrong way",
        "reasoning/halting_head.py",
        "(1 - rate) ** steps",
        "rate ** steps",
        f"{DTREC}::test_loss_and_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "the ponder prior is not cut off at T",
        "reasoning/halting_head.py",
        "prior / prior.sum()",
        "prior",
        f"{DTREC}::test_loss_and_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "DTRec never says that a trajectory is flat",
        "methods/dtrec.py",
        'diagnostics = together(diagnostics, of_trajectory(figures["mean_cosine"]))',
        "pass",
        f"{DTREC}::test_a_flat_trajectory_is_told",
    ),
    Mutant(
        "without HPS a coarse indicator_source has no prototypes",
        "methods/dtrec.py",
        'return self.config.supervision != "none" or self.config.indicator_source != "exact"',
        'return self.config.supervision != "none"',
        f"{DTREC_INDICATORS}::test_without_hps_the_indicators_still_have_prototypes",
    ),
    Mutant(
        "refined indicators of DTRec are of another item than the last",
        "methods/dtrec.py",
        "batch.items_BL.gather(1, last_positions(batch.lengths_B))[:, 0]",
        "batch.items_BL[:, 0]",
        f"{DTREC_HALTING}::test_rows_stop_where_they_would_alone",
    ),
    Mutant(
        "refined indicators of DTRec mix up the rows that are left",
        "methods/dtrec.py",
        "last_B[rows_P]",
        "last_B[: len(rows_P)]",
        f"{DTREC_HALTING}::test_rows_stop_where_they_would_alone",
    ),
    Mutant(
        "prototypes are made once and for all",
        "methods/dtrec.py",
        "self.prototypes.make(self.catalogue(), epoch)",
        "self.prototypes.make(self.catalogue(), 0)",
        f"{DTREC}::test_prototypes_are_those_of_the_items_as_they_are",
    ),
    Mutant(
        "the prototype loss is warm from the start",
        "methods/dtrec.py",
        "min(1.0, epoch / self.config.warmup_epochs)",
        "1.0",
        f"{DTREC}::test_warm_up_and_levels",
    ),
    Mutant(
        "DTRec's steps learn only where somebody stops",
        "methods/dtrec.py",
        "self.config.base_weight / (T + 1)",
        "0.0",
        f"{DTREC}::test_loss_and_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "indicators in training are of another temperature",
        "reasoning/indicator_stats.py",
        "self(r.detach(), last_P, catalogue) for r in r_SPD",
        "self(r.detach() * 2, last_P, catalogue) for r in r_SPD",
        f"{DTREC}::test_loss_and_gradients_are_those_of_whole_matrices",
    ),
    Mutant(
        "SSE-PT scales users where they are read, and not where they are scored",
        "methods/sse_pt.py",
        "return states_BLD[..., : self.item_width], states_BLD[..., self.item_width :], users_BD",
        "return states_BLD[..., : self.item_width], states_BLD[..., self.item_width :], users_BD / "
        "(math.sqrt(self.config.user_width) if self.config.scale_inputs else 1)",
        f"{SSE_PT}::test_bce_feels_the_users_term",
    ),
    # ---- LARES
    Mutant(
        "LARES drops no unit of the embedding",
        "methods/lares.py",
        "self.dropout(self.embedding_norm(x_BLD))",
        "self.embedding_norm(x_BLD)",
        f"{START}::test_units_of_the_embedding_are_dropped_in_training",
    ),
    Mutant(
        "LARES's layers are not initialised",
        "methods/lares.py",
        "for part in (self.pre, self.recurrence):\n            initialise(part)",
        "for part in ():\n            initialise(part)",
        f"{START}::test_weights_begin_small_and_biases_at_zero",
    ),
    Mutant(
        "TLA is given no weight",
        "methods/lares.py",
        "total + weight * aligned / batch.weight",
        "total",
        f"{LARES}::test_supervised_loss",
    ),
    Mutant(
        "TLA has negatives of the same user",
        "methods/lares.py",
        "| (users_P[:, None] == others_P)",
        "",
        f"{LARES}::test_supervised_loss",
    ),
    Mutant(
        "LARES's last step always stands in for an earlier one",
        "methods/lares.py",
        "torch.stack(steps)[drawn_P, ",
        "torch.stack(steps)[drawn_P * 0, ",
        f"{LARES}::test_supervised_loss",
    ),
    Mutant(
        "the reference goes on learning",
        "methods/lares.py",
        "copy.deepcopy(self).eval().requires_grad_(False)",
        "self",
        f"{LARES}::test_the_reference_stands_still_and_apart",
    ),
    Mutant(
        "hopeless histories are reinforced too",
        "methods/lares.py",
        "<= settings.filter_top\n",
        "<= 10**9\n",
        f"{LARES}::test_reinforced_loss",
    ),
    Mutant(
        "a rollout's reference begins elsewhere",
        "methods/lares.py",
        "reference._last_steps(start_BLD, H_ref_BLD, case.lengths_B, k)",
        "reference._last_steps(self._start(H_BLD), H_ref_BLD, case.lengths_B, k)",
        f"{LARES}::test_kl_is_zero_at_the_start_and_gradients_are_those_of_the_advantages",
    ),
    # ---- IGR-SR
    Mutant(
        "IGR-SR's consistency teaches nothing",
        "methods/igr_sr.py",
        "total + self.config.consistency.weight * consistency, consistency.detach()",
        "total + self.config.consistency.weight * consistency.detach(), consistency.detach()",
        f"{IGR_PARTS}::test_gradients_of_consistency_reach_all_that_made_the_views",
    ),
    Mutant(
        "IGR-SR's consistency does not reach the intents",
        "methods/igr_sr.py",
        "self._consistency(batch, cases, beside)",
        "self._consistency(batch, cases, Beside(beside.vectors_BPMD.detach()))",
        f"{IGR_PARTS}::test_gradients_of_consistency_reach_all_that_made_the_views",
    ),
    Mutant(
        "IGR-SR's projection has no GELU",
        "methods/igr_sr.py",
        "nn.GELU(),\n            nn.Linear(reasoner",
        "nn.Identity(),\n            nn.Linear(reasoner",
        f"{IGR_PARTS}::test_the_projection_is_linear_gelu_linear_norm",
    ),
    Mutant(
        "IGR-SR's projection has no norm",
        "methods/igr_sr.py",
        "nn.LayerNorm(reasoner.width),",
        "nn.Identity(),",
        f"{IGR_PARTS}::test_the_projection_is_linear_gelu_linear_norm",
    ),
    Mutant(
        "IGR-SR has no consistency by default",
        "methods/igr_sr.py",
        "SearchRange(0.01, 1.0, log=True)] = 0.1",
        "SearchRange(0.01, 1.0, log=True)] = 0.0",
        f"{IGR_PARTS}::test_a_view_drops_three_intents_in_ten_by_default",
    ),
    Mutant(
        "IGR-SR's consistency weighs ten times as much by default",
        "methods/igr_sr.py",
        "SearchRange(0.01, 1.0, log=True)] = 0.1",
        "SearchRange(0.01, 1.0, log=True)] = 1.0",
        f"{IGR_PARTS}::test_the_default_loss_is_the_rest_and_a_tenth_of_icr",
    ),
    Mutant(
        "IGR-SR's views mask nothing by default",
        "methods/igr_sr.py",
        "mask_share: Share = 0.3",
        "mask_share: Share = 0.0",
        f"{IGR_PARTS}::test_a_view_drops_three_intents_in_ten_by_default",
    ),
    Mutant(
        "IGR-SR's encoder alone may become the run",
        "methods/igr_sr.py",
        "epochs=self.config.encoder_epochs, candidate=False",
        "epochs=self.config.encoder_epochs",
        f"{IGR_PARTS}::test_an_encoder_that_is_only_pretrained_is_no_candidate",
    ),
    Mutant(
        "IGR-SR's items do not start from the encoder's",
        "methods/igr_sr.py",
        "if self.starts_from_encoder:",
        "if not self.starts_from_encoder:",
        f"{IGR_STAGES}::test_what_each_stage_trains",
    ),
    Mutant(
        "IGR-SR's frozen encoder drops units",
        "methods/igr_sr.py",
        "rest(self.encoder)",
        "pass",
        f"{IGR_STAGES}::test_a_frozen_encoder_drops_nothing",
    ),
    Mutant(
        "IGR-SR's users of one target are negatives",
        "methods/igr_sr.py",
        "(targets_P[:, None] == targets_P) | (users_P[:, None] == users_P)",
        "users_P[:, None] == users_P",
        f"{IGR}::test_consistency_is_the_formula",
    ),
    Mutant(
        "drawn prefixes do not stand for the others",
        "methods/igr_sr_cases.py",
        "/ taken_BL.sum(1).clamp_min(1) / batch.weight",
        "/ lengths_B.clamp_min(1) / batch.weight",
        f"{IGR}::test_some_prefixes_stand_for_all",
    ),
]
