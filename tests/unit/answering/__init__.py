"""Tests of `racro.answering`."""
