"""Keeps what an old config says about CellProfiler's plugins, as lines for worker/Dockerfile.

The published implementation installs plugins whenever a container starts; here, the image contains them.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.project.move_in.old_config import REPLACEMENTS, is_off

_LINES_MODULE = "plugin_lines.py"  # in the worker of an example that has plugins
_COMMENTED_LINE = re.compile(r"#\s*(ADD|RUN) .*")


@dataclass(frozen=True)
class MovedPlugins:
    """The lines that are now comments in worker/Dockerfile, and whether the config needs them."""

    lines: list[str] = field(default_factory=list)
    are_used: bool = False

    @property
    def has_commit(self) -> bool:
        return not any("#COMMIT " in line for line in self.lines)


def move_plugins(worker: Path, values: Mapping[str, Any]) -> MovedPlugins:
    """Write the lines that do what the constants did into worker/Dockerfile, as comments, and return them.

    `worker`: the new project's folder. `values`: the old config's constants.
    """
    module, dockerfile = worker / _LINES_MODULE, worker / "Dockerfile"
    switches = {name: str(values[name]).strip() for name in REPLACEMENTS if not is_off(values.get(name, ""))}
    are_used = not is_off(values.get("USE_PLUGINS", ""))
    if not module.is_file() or not (switches or are_used):
        return MovedPlugins()
    lines = runpy.run_path(str(module))["build_dockerfile_lines"](switches)
    text = read_text_file(dockerfile, "a Dockerfile")
    kept = [line for line in text.splitlines() if not _COMMENTED_LINE.match(line)]
    new = "\n".join([*kept, *(f"# {line}" for line in lines), ""])
    write_file_atomically(dockerfile, new.encode())
    return MovedPlugins(lines, are_used)
