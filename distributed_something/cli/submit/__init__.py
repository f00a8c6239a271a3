"""The command `submitJob`, and what it says about jobs that it has sent before.

Start reading in `submit_command.py`.
"""
