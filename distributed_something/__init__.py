"""Distributed-Something: everything that no user needs to edit. See docs/architecture.md."""
