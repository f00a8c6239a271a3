"""The name of an implementation's image: DOCKERHUB_TAG in the config, and user, project and tag in the Makefile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_PART = r"[a-z0-9][a-z0-9._-]*"
_NAME = re.compile(rf"(?P<user>{_PART}(?::\d+)?(?:/{_PART})*)/(?P<project>{_PART})(?::(?P<tag>\w[\w.-]{{0,127}}))?")
RIGHT = "write user/project:tag, in lower case, such as 'ada/seqtk:1.4'"


class ImageName(NamedTuple):
    """`user` may hold a registry's host."""

    user: str
    project: str
    tag: str

    def __str__(self) -> str:
        return f"{self.user}/{self.project}:{self.tag}"


def parse(text: str) -> ImageName | None:
    """The parts of an image's name; None where it is none that the Makefile can hold. Without a tag it is `latest`."""
    match = _NAME.fullmatch(text)
    return ImageName(match["user"], match["project"], match["tag"] or "latest") if match else None


def in_makefile(own: str, values: Mapping[str, str]) -> str:
    """The developer's part of a Makefile with other values (images' names) of its variables."""
    for name, value in values.items():
        own = re.sub(rf"^({name} *= *).*$", rf"\g<1>{value}", own, count=1, flags=re.M)
    return own
