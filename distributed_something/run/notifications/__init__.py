"""The messages that a run sends to the SNS topic in the config, NOTIFY.

Both monitors use it. Start reading in `notifier.py`.
"""
