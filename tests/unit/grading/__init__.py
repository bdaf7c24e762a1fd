"""Tests of `racro.grading`."""
