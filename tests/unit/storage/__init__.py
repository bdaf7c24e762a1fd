"""Tests of `racro.storage`."""
