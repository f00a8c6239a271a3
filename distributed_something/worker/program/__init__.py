"""The wrapped program: how it is started, limited, measured, and ended together with everything that it started.

Any part of the worker but `job` may import it, and it imports only `job`. Start reading in `program.py`; `launcher.py`
says why programs are started by processes of their own.
"""
