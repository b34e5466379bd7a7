"""Mutants of `precision/`: formats, layers, sensitivities, assignments, and the controller in a training."""

from __future__ import annotations

from mutants import Mutant

FORMATS, LINEAR = "unit/precision/test_formats.py", "unit/precision/test_linear.py"
SENSITIVITY, ASSIGNMENT = "unit/precision/test_sensitivity.py", "unit/precision/test_assignment.py"
LADQ, TRAINING = "unit/precision/test_ladq.py", "unit/training/test_layer_precision.py"
INFERENCE = "unit/precision/test_inference.py"

MUTANTS = [
    Mutant(
        "zeros get a scale of zero",
        "precision/formats.py",
        "torch.where(scale == 0, 1.0, torch.nan)",
        "torch.where(scale == 0, 0.0, torch.nan)",
        f"{FORMATS}::test_zeros_stay_zeros_and_what_is_not_finite_is_seen",
    ),
    Mutant(
        "gradients are e4m3 as operands are",
        "precision/products.py",
        "g = to_float8(padded(gradients[0], EIGHT_BIT_MULTIPLE), E5M2)",
        "g = to_float8(padded(gradients[0], EIGHT_BIT_MULTIPLE), E4M3)",
        f"{LINEAR}::test_a_product_is_that_of_rounded_operands_forward_and_backward",
    ),
    Mutant(
        "a layer obeys autocast",
        "precision/linear.py",
        "with torch.autocast(x.device.type, enabled=False):",
        "if True:",
        f"{LINEAR}::test_a_layer_keeps_its_precision_under_autocast",
    ),
    Mutant(
        "int8 weights are never made again",
        "precision/linear.py",
        "if self._int8 is None or self._int8[0] != now:",
        "if self._int8 is None:",
        f"{LINEAR}::test_int8_weights_are_made_again_when_they_change",
    ),
    Mutant(
        "the last position is read in float32",
        "nn/linear.py",
        'if hasattr(layer, "outputs"):',
        "if False:",
        f"{LINEAR}::test_the_last_position_alone_is_read_in_the_layers_precision_too",
    ),
    Mutant(
        "padding counts as what goes in",
        "precision/sensitivity.py",
        "seen_P = (g_PN != 0).any(1)",
        "seen_P = (g_PN == g_PN).any(1)",
        f"{SENSITIVITY}::test_positions_without_a_gradient_do_not_count",
    ),
    Mutant(
        "what goes into a layer is not rounded in its damage",
        "precision/sensitivity.py",
        "nats += self.input_gradients * self.input_errors[format] + self.gradients * self.output_errors[format]",
        "nats += self.gradients * self.output_errors[format]",
        f"{SENSITIVITY}::test_predicted_damage_is_the_measured_divergence_within_a_factor_of_two",
    ),
    Mutant(
        "a layer changes back and forth at the tolerance",
        "precision/assignment.py",
        "most = dict.fromkeys(nats, tolerance / hysteresis)",
        "most = dict.fromkeys(nats, tolerance)",
        f"{ASSIGNMENT}::test_a_layer_changes_where_the_tolerance_is_kept_by_the_hysteresis",
    ),
    Mutant(
        "a budget is a wish",
        "precision/assignment.py",
        "kept = _unbeaten([way for way in ways if way[0] <= budget], budget)",
        "kept = _unbeaten(ways, budget)",
        f"{ASSIGNMENT}::test_the_assignment_within_a_budget_is_the_best_of_all",
    ),
    Mutant(
        "formats that do not pay are taken",
        "precision/cost.py",
        'if each == "fp32" or s < PAYS * cost["fp32"]}',
        "if s > 0}",
        f"{LADQ}::test_what_does_not_pay_is_left_out_unless_forced",
    ),
    Mutant(
        "logits are float8",
        "precision/ladq.py",
        "if name in self.exact:",
        "if name in ():",
        f"{LADQ}::test_logits_are_never_float8",
    ),
    Mutant(
        "traces are lost on resume",
        "precision/ladq.py",
        'self.traces = {name: Traces(**traces) for name, traces in state["traces"].items()}',
        "self.traces = {}",
        f"{LADQ}::test_its_state_is_plain_json_and_all_there_is",
    ),
    Mutant(
        "sensitivities forget by samplings",
        "precision/settings.py",
        "return self.ema ** (steps / EMA_STEPS)",
        "return self.ema",
        f"{LADQ}::test_memory_is_counted_in_steps_and_not_in_samplings",
    ),
    Mutant(
        "steps count from the beginning of the training",
        "precision/ladq.py",
        'self.settings.kept_after(step - self.history[-1]["step"])',
        "self.settings.kept_after(step)",
        f"{LADQ}::test_memory_is_counted_in_steps_and_not_in_samplings",
    ),
    Mutant(
        "sampling draws from the training's generator",
        "training/layer_precision.py",
        'with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):',
        "if True:",
        f"{TRAINING}::test_sampling_disturbs_no_training",
    ),
    Mutant(
        "a loss that diverges ends the training",
        "training/loop.py",
        "if self.layers is None or layer is None:",
        "if True:",
        f"{TRAINING}::test_a_loss_that_diverges_goes_back_and_the_layer_to_blame_stays_in_float32",
    ),
    Mutant(
        "validation ranks as training multiplies",
        "training/loop.py",
        "with nullcontext() if self.layers is None else self.layers.float32():",
        "with nullcontext():",
        f"{TRAINING}::test_validation_ranks_in_float32_as_the_run_is_used",
    ),
    Mutant(
        "an evaluation in int8 is kept as the run's own",
        "cli/evaluate.py",
        'and args.precision == "32"',
        "and True",
        f"{INFERENCE}::test_an_evaluation_in_int8_is_not_the_runs_own_and_says_its_precision",
    ),
]
