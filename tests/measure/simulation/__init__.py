"""A simulation of whole runs, because thousands of machines for hours on AWS would cost too much to test with.

It runs the monitor's real `choose_actions` and `update_history` and the worker's real `JobDurations` against a
discrete-event model of SQS, ECS, and a spot fleet. For comparison, it also runs the policy of the published system.
`python -m tests.measure.simulation` prints both as a table.
"""
