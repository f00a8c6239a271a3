"""The two AWS emulators, ministack and moto, with added features, injected faults, and difficult answers.

It imports `base`; `play` and `daemon` import it. Start reading in `start.py`.
"""
