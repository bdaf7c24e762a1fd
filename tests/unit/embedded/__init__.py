"""Tests of `racro.embedded`."""
