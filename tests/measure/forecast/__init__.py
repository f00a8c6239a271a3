"""How good forecasts from a canary are, in the simulation of whole runs (`tests/measure/simulation`).

`python -m tests.measure.forecast --write-docs` writes the table in docs/planning.md.
"""
