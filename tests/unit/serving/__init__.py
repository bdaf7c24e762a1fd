"""Tests of `racro.serving`."""
