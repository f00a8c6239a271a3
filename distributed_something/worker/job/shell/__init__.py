"""Reads shell commands, to find out what surrounds each placeholder.

Only the worker's `job` part imports this folder, which itself imports only `job/placeholders.py`. Start reading in
`shell_template.py`; `job/shell_values.py` uses the result.
"""
