"""CellProfiler's plugins, which the image contains, so that all jobs of a run use the same ones.

The published implementation can fetch plugins and install their requirements whenever a container starts. Such switches
are refused here, with the lines for worker/Dockerfile that do the same once, when the image is built.
"""

from __future__ import annotations

import os
from pathlib import Path

from constants import is_true, read_constant
from plugin_lines import FOLDER, build_dockerfile_lines

from distributed_something.worker import BadMessage, Failed

SWITCHES = ("UPDATE_PLUGINS", "PLUGINS_COMMIT", "INSTALL_REQUIREMENTS", "REQUIREMENTS", "REQUIREMENTS_FILE")


def build_plugin_options() -> list[str]:
    """Return the option for plugins. Raise BadMessage if the config has a switch that cannot be followed.

    Newer versions of CellProfiler-plugins have the working plugins in active_plugins/.
    """
    if switches := {name: value for name in SWITCHES if (value := read_constant(name))}:
        lines = " and ".join(f"`{line}`" for line in build_dockerfile_lines(switches))
        raise BadMessage(
            f"config.py: {', '.join(switches)}: plugins are part of the image here, so that all jobs use the same ones;"
            f" write {lines} in worker/Dockerfile, run make push, and set each of these constants to 'False'"
        )
    if not is_true("USE_PLUGINS"):
        return []
    folder = Path(read_constant("PLUGINS_PATH") or FOLDER)
    return [f"--plugins-directory={active if (active := folder / 'active_plugins').is_dir() else folder}"]


def check_plugins() -> None:
    """Raise Failed if the job needs plugins that do not exist; CellProfiler would only miss its modules."""
    for option in build_plugin_options():
        if Path(folder := option.partition("=")[2]).is_dir():
            continue
        if has_image():
            (line,) = build_dockerfile_lines({})
            problem = f"the image has no folder {folder}; add it in worker/Dockerfile: {line}"
        else:
            problem = (
                f"this computer has no folder {folder}; without an image, set PLUGINS_PATH to a folder with the"
                " plugins, or USE_PLUGINS = 'False' while you try jobs without them"
            )
        raise Failed(f"USE_PLUGINS is 'True', but {problem}", "bad config")


def has_image() -> bool:
    """Return whether jobs run in a container. Other workers have this variable with the folder of their scripts."""
    return "WORKER_SCRIPTS_DIR" not in os.environ
