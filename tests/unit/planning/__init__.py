"""Tests of `racro.planning`."""
