"""Makes the report of a run: one HTML page with what happened, what it cost, and what to change next time.

`data.py` describes everything that the page shows. Other modules compute it from journals and records, or draw it.
"""
