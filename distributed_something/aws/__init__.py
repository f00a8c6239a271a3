"""The calls to AWS that more than one package needs, with one module for each service.

This package imports only `core`. Start with `clients.py`, which creates the clients that all functions here take, and
with `retry.py`.
"""
