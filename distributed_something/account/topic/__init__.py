"""The SNS topic for notifications: its subscriptions, and the auto-monitor's permission to publish to it.

`setupAWS` and `check` import it. Start reading in `plan_topic.py`.
"""
