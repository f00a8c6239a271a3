"""The two emulators of AWS, ministack and moto, with missing features added, and injected faults for testing.

It imports `base`; `play` and `daemon` import it. Start reading in `start.py`.
"""
