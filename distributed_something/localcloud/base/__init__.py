"""What every part of the local cloud needs: where its files are, its addresses, its processes, and its containers.

It imports nothing of the other folders; all of them may import it. Start reading in `layout.py`.
"""
