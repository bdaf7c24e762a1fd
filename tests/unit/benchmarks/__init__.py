"""Tests of `racro.benchmarks`."""
