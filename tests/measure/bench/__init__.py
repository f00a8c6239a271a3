"""Benchmarks for `make bench`: speed and memory of submitting and running jobs, each beside its goal."""
