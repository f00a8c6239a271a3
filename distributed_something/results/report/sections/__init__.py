"""Draws the sections of the report's page from its data, as static HTML and SVG.

Only `page.py` imports the modules here; they import each other's helpers and `data.py`. Start with `markup.py`, which
escapes all text, and `verdict.py`, the page's first section.
"""
