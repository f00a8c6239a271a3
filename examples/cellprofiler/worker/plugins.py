"""CellProfiler's plugins, which the image contains, so that all jobs of a run use the same ones.

The published implementation can fetch plugins and install their requirements whenever a container starts. Such switches
are refused here, with the lines for worker/Dockerfile that do the same once, when the image is built.
"""

from __future__ import annotations

import os
from pathlib import Path

from distributed_something.worker import BadMessage, Failed

PLUGINS_FOLDER = "/home/ubuntu/CellProfiler-plugins"
PLUGINS_REPOSITORY = "https://github.com/CellProfiler/CellProfiler-plugins.git"
FETCH_SWITCHES = ("UPDATE_PLUGINS", "PLUGINS_COMMIT")
INSTALL_SWITCHES = ("INSTALL_REQUIREMENTS", "REQUIREMENTS", "REQUIREMENTS_FILE")


def build_plugin_options() -> list[str]:
    """Return the option for plugins. Raise BadMessage if the config has a switch that cannot be followed.

    Newer versions of CellProfiler-plugins have the working plugins in active_plugins/.
    """
    _refuse_switches()
    if not _is_used():
        return []
    active = _get_folder() / "active_plugins"
    return [f"--plugins-directory={active if active.is_dir() else _get_folder()}"]


def check_plugins() -> None:
    """Raise Failed if the job needs plugins and the image has none; CellProfiler would only miss its modules."""
    if _is_used() and not _get_folder().is_dir():
        line = _build_fetch_line("COMMIT")
        reason = (
            f"USE_PLUGINS is 'True', but the image has no folder {_get_folder()}; add it in worker/Dockerfile: {line}"
        )
        raise Failed(reason, "bad input")


def _refuse_switches() -> None:
    switches = {name: value for name in FETCH_SWITCHES + INSTALL_SWITCHES if (value := _read_switch(name))}
    if not switches:
        return
    lines = [_build_fetch_line(switches.get("PLUGINS_COMMIT", "COMMIT"))]
    if not switches.keys().isdisjoint(INSTALL_SWITCHES):
        lines.append(_build_install_line(switches.get("REQUIREMENTS") or switches.get("REQUIREMENTS_FILE", "")))
    raise BadMessage(
        f"config.py: {', '.join(switches)}: plugins are part of the image here, so that all jobs use the same ones; "
        f"set these to 'False', write in worker/Dockerfile, and run make push: {' and '.join(lines)}"
    )


def _build_fetch_line(commit: str) -> str:
    """Return the line that adds the plugins at a commit or tag; "COMMIT" stands for the one that the user tested."""
    return f"ADD {PLUGINS_REPOSITORY}#{commit} {PLUGINS_FOLDER}"


def _build_install_line(requirements: str) -> str:
    """Return the line that installs what plugins need.

    `requirements`: the name of a set of packages, such as cellpose, or a file in the plugins' repository; may be empty.
    """
    install = "RUN python3 -m pip install --no-cache-dir"
    if "/" in requirements or requirements.endswith(".txt"):
        return f"{install} -r {PLUGINS_FOLDER}/{requirements}"
    return f"{install} '{PLUGINS_FOLDER}[{requirements}]'" if requirements else f"{install} {PLUGINS_FOLDER}"


def _is_used() -> bool:
    return os.environ.get("USE_PLUGINS", "").strip().lower() == "true"


def _get_folder() -> Path:
    return Path(os.environ.get("PLUGINS_PATH") or PLUGINS_FOLDER)


def _read_switch(name: str) -> str:
    """Return the switch's value, or "" if it is off. The published config writes 'False' or '' then."""
    value = os.environ.get(name, "").strip()
    return "" if value.lower() in ("false", "none") else value
