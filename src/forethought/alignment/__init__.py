"""A trained method is aligned with rewards: rollouts, what they earned, and GRPO."""
