"""Tests of `racro.data`."""
