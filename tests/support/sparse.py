"""Overrides of a training that leaves neither weights nor state after two of its four iterations."""

SPARSE = ("iterations=4", "evaluation.every=4", "runtime.checkpoint_every=3")
