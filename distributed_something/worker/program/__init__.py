"""The wrapped program: how the worker starts, limits, and measures it, and ends it with all processes it started.

Every part of the worker except `job` may import this part, which itself imports only `job`. Start reading in
`program.py`; `launcher.py` explains why separate processes start the programs.
"""
