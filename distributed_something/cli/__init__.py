"""The command line: the commands of run.py, their help, and everything they print.

This package may import every other package, and no other package may import it. Only this package imports `localcloud`.
Start with `main.py`, then read `context.py`, which creates settings, clients, and the local cloud when a command first
needs them.
"""
