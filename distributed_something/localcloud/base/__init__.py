"""The basis of the local cloud: its file layout, its addresses, its processes, and its containers.

All other folders may import this one; it imports none of them. Start reading in `layout.py`.
"""
