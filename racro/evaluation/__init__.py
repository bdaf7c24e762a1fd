"""How good is a policy? Modes of asking, scores, comparison of two evaluations."""
