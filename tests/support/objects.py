"""Helpers for objects in the bucket `ours`, which the worker tests use."""

from __future__ import annotations

from typing import Any


def put_objects(s3: Any, *keys: str) -> None:
    """Put an object at each key, with the key as its content."""
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=key.encode())


def list_sizes(s3: Any, prefix: str = "") -> dict[str, int]:
    """Return the size of every object below `prefix`, keyed by object key."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="ours", Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
