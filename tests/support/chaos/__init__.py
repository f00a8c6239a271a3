"""Chaos test: workers process jobs amid crashes, frozen machines, and a failing AWS; then every result is checked.

`python -m tests.support.chaos --jobs 1000 --workers 8 --minutes 5 --seed 7` runs a long test.
`tests/flows/test_chaos.py` runs a short one. The seed determines a run's plan (which jobs, and what happens to which
worker at what time), but not the timing of processes and threads. A seed that has revealed a bug therefore often
reveals it again, but not always.
"""
