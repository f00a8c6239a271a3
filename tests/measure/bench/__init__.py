"""Benchmarks for `make bench`: the speed and memory of submitting and running jobs, each compared with a goal."""
