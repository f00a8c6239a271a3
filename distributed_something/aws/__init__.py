"""The calls to AWS that more than one package needs, with one module for each service.

Everything above it imports it; it imports `core` alone. Start with `clients.py`, which makes the clients that all
functions here are given, and `retry.py`.
"""
