"""The two AWS emulators, ministack and moto, with missing features added and with injected faults for testing.

It imports `base`; `play` and `daemon` import it. Start reading in `start.py`.
"""
