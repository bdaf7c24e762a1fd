"""Tests of `racro.config`."""
