"""Explains why a program failed: what its log says, and what is wrong with a script that cannot be started.

`program` and `attempt` import this folder. Start reading in `telling_line.py`.
"""
