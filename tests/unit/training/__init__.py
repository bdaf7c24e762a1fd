"""Tests of `racro.training`."""
