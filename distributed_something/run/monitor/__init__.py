"""The monitor, which repeatedly observes the run, decides what to do, and acts, until no jobs remain.

The other modules in `run` import this package. Start with `loop.py`. The decisions are pure functions in `policy.py`.
"""
