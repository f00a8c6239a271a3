"""Simulation of what AWS does between API calls: fleets, machines, services, and schedules.

It imports `base` and `emulators`. The daemon advances it every 0.3 seconds. Start reading in `simulator.py`.
"""
