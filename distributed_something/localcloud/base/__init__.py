"""The foundation of the local cloud: file layout, addresses, processes, and containers.

All other folders may import this one; it imports none of them. Start reading in `layout.py`.
"""
