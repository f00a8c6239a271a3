"""Objects of the bucket `ours`, as the worker's tests put and count them."""

from __future__ import annotations

from typing import Any


def put_objects(s3: Any, *keys: str) -> None:
    """Puts an object at each key; its bytes are the key itself."""
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=key.encode())


def list_sizes(s3: Any, prefix: str = "") -> dict[str, int]:
    """Key and size of every object below `prefix`."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="ours", Prefix=prefix)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}
