"""Tests of `racro.evaluation`."""
