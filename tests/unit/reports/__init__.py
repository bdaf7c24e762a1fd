"""Tests of `racro.reports`."""
