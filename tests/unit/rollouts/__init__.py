"""Tests of `racro.rollouts`."""
