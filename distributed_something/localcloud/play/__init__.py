"""What happens in AWS while nobody calls it: fleets, machines, services, and schedules.

It imports `base` and `emulators`; the daemon calls it every 0.3 seconds. Start reading in `simulator.py`.
"""
