"""The daemon, which is the local cloud's process: it starts the emulators, serves commands, and runs the simulation.

It may import every other folder; no other folder imports it. Start reading in `daemon.py`.
"""
