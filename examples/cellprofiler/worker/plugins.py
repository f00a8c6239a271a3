"""CellProfiler's plugins, which the image contains, so that all jobs of a run use the same ones.

The published implementation can fetch plugins and install their requirements whenever a container starts. Such switches
are refused here, with the lines for worker/Dockerfile that do the same once, when the image is built.
"""

from __future__ import annotations

from pathlib import Path

from constants import is_true, read_constant

from distributed_something.worker import BadMessage, Failed

FOLDER = "/home/ubuntu/CellProfiler-plugins"
REPOSITORY = "https://github.com/CellProfiler/CellProfiler-plugins.git"
SWITCHES = ("UPDATE_PLUGINS", "PLUGINS_COMMIT", "INSTALL_REQUIREMENTS", "REQUIREMENTS", "REQUIREMENTS_FILE")


def build_plugin_options() -> list[str]:
    """Return the option for plugins. Raise BadMessage if the config has a switch that cannot be followed.

    Newer versions of CellProfiler-plugins have the working plugins in active_plugins/.
    """
    if switches := {name: value for name in SWITCHES if (value := read_constant(name))}:
        lines = " and ".join(f"`{line}`" for line in _build_dockerfile_lines(switches))
        raise BadMessage(
            f"config.py: {', '.join(switches)}: plugins are part of the image here, so that all jobs use the same ones;"
            f" write {lines} in worker/Dockerfile, run make push, and set each of these constants to 'False'"
        )
    if not is_true("USE_PLUGINS"):
        return []
    folder = Path(read_constant("PLUGINS_PATH") or FOLDER)
    return [f"--plugins-directory={active if (active := folder / 'active_plugins').is_dir() else folder}"]


def check_plugins() -> None:
    """Raise Failed if the job needs plugins and the image has none; CellProfiler would only miss its modules."""
    for option in build_plugin_options():
        if not Path(folder := option.partition("=")[2]).is_dir():
            (line,) = _build_dockerfile_lines({})
            reason = f"USE_PLUGINS is 'True', but the image has no folder {folder}; add it in worker/Dockerfile: {line}"
            raise Failed(reason, "bad input")


def _build_dockerfile_lines(switches: dict[str, str]) -> list[str]:
    """Return the lines that add the plugins and, if the switches say so, install what they need.

    Without PLUGINS_COMMIT, "COMMIT" stands for the one that the user tested. The requirements are the name of a set of
    packages, such as cellpose, or a file in the plugins' repository.
    """
    lines = [f"ADD {REPOSITORY}#{switches.get('PLUGINS_COMMIT', 'COMMIT')} {FOLDER}"]
    if any("REQUIREMENTS" in name for name in switches):
        packages = switches.get("REQUIREMENTS") or switches.get("REQUIREMENTS_FILE", "")
        is_file = "/" in packages or packages.endswith(".txt")
        source = f"-r {FOLDER}/{packages}" if is_file else f"'{FOLDER}[{packages}]'" if packages else FOLDER
        lines.append(f"RUN python3 -m pip install --no-cache-dir {source}")
    return lines
