"""Everything that a project's cloud may leave running, found and ended, however its daemon died."""

from __future__ import annotations

from .engine import remove_containers
from .layout import Layout
from .processes import CLOUD_MARK, end_marked


def clear(layout: Layout) -> None:
    """Ends all processes and containers of a project's cloud but the caller."""
    end_marked(CLOUD_MARK, layout.key)
    remove_containers(layout.root, layout.key)
