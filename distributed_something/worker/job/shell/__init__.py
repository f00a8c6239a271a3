"""Puts values into shell commands, without any of them becoming code.

Only the worker's `job` part imports this folder, which itself imports only `job/placeholders.py`. Start reading in
`shell_values.py`, which uses what `shell_template.py` finds out about the surroundings of each placeholder, and what
`executed_text.py` finds out about values that the command hands to another shell. `command_list.py` and
`command_words.py` know the simple commands and the programs in them.
"""
