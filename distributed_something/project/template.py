"""The files that new projects start from, and other shipped files: where to find them.

In a clone of the repository, they are in their usual folders. An installed wheel contains copies of them in
`project/template/` (see `force-include` in pyproject.toml). `python -m distributed_something.project.template NAME`
prints the path of one, for Makefiles.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE_PARENT = Path(__file__).resolve().parents[2]  # the repository, or site-packages
SKELETON = Path(__file__).resolve().parent / "skeleton"  # files that only new projects have
_INSTALLED_TEMPLATE = Path(__file__).resolve().parent / "template"


def find_template_file(name: str) -> Path:
    """Return the path of a shipped file or folder, such as `config.py` or `docs`."""
    return (_INSTALLED_TEMPLATE if _INSTALLED_TEMPLATE.is_dir() else PACKAGE_PARENT) / name


def is_repository() -> bool:
    """Return whether this package is part of a clone of the repository, which also has the examples."""
    return not _INSTALLED_TEMPLATE.is_dir() and (PACKAGE_PARENT / "pyproject.toml").is_file()


if __name__ == "__main__":
    print(find_template_file(sys.argv[1]))
