"""What a run will cost, before money is spent: the table of prices, and the forecast from an earlier run.

`check.py` and `cli` import this package. Start with `price_table.py`.
"""
