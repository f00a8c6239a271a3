"""AWS calls that more than one package needs, with one module per service.

This package imports only `core`. Start with `clients.py`, which creates the clients that all functions here take, and
with `retry.py`.
"""
