"""Overrides of a training in two stages that leaves no weights and no state after two of its four iterations."""

SPARSE = (
    # At this temperature some answers are wrong, so that the first stage changes the policy.
    "stages=[{objective: answer, iterations: 1, rollout: {max_tokens: 24, temperature: 2.0}}, {iterations: 3}]",
    "evaluation.every=4",
    "runtime.checkpoint_every=4",
)
