"""Tests of `racro.engines`."""
