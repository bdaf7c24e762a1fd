"""Tests of `racro.models`."""
