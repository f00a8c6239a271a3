"""A run of the whole system in minutes instead of hours and dollars: the monitor's real `choose_actions` and
`update_history`, and the worker's real `JobDurations`, against a model of SQS, ECS and a spot fleet by discrete events;
beside it the published policy. `python -m tests.measure.simulation` prints the comparison.
"""
