"""The process that is the local cloud: it starts the emulators, answers commands, and advances the simulation.

It may import every other folder; none imports it. Start reading in `daemon.py`.
"""
