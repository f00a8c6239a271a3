"""A simulation of whole runs, because testing on AWS with thousands of machines for hours would cost too much.

It runs the monitor's real `choose_actions` and `update_history` and the worker's real `JobDurations` against a
discrete-event model of SQS, ECS, and a spot fleet. For comparison, it also runs the published system's policy. `python
-m tests.measure.simulation` prints a table that compares the two.
"""
