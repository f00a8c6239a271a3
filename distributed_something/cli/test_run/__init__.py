"""The command `testRun`: a small run that proves that the account works, explained and removed whatever happens.

Start with `run_tester.py`.
"""
