"""What a run keeps of its inputs: `run.json`, which says what was run, with what, and by whom.

Only `cli` imports this package. Start with `run_document.py`.
"""
