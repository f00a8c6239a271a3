"""Shared inputs: files that many jobs need, such as a genome, and that a container fetches only once.

Only `attempt` and `container` import this part. It builds on `transfer/inputs.py`. Start reading in `store.py`.
"""
