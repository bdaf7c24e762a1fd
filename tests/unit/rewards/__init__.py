"""Tests of `racro.rewards`."""
