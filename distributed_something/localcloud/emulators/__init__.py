"""The two emulators of AWS, ministack and moto, with what they lack added, and faults for those who rehearse them.

It imports `base`; `play` and `daemon` import it. Start reading in `start.py`.
"""
