"""Jobs worked off amid crashes, frozen machines and a failing AWS; at the end every result is compared.

`python -m tests.support.chaos --jobs 1000 --workers 8 --minutes 5 --seed 7` runs it long; `tests/flows/test_chaos.py`,
briefly.
The plan of a run (which jobs, what is done to whom and when) follows from its seed; what it meets does not, since
processes and threads run as they like. So a seed that found a fault finds it again often, not always.
"""
