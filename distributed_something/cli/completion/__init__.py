"""Completion of run.py's command lines by bash, zsh, and fish.

The three scripts in this folder send the typed words to run.py, which lists the words that may follow. Only `cli` may
import this package. Start with `command.py`.
"""
