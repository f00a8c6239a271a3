"""The lines of worker/Dockerfile that install CellProfiler's plugins.

This module imports nothing, because `newProject --config` executes it, too.
"""

from __future__ import annotations

from collections.abc import Mapping

FOLDER = "/home/ubuntu/CellProfiler-plugins"
REPOSITORY = "https://github.com/CellProfiler/CellProfiler-plugins.git"


def build_dockerfile_lines(switches: Mapping[str, str]) -> list[str]:
    """Return the lines that add the plugins and, if the switches say so, install what they need.

    `switches`: the published constants about plugins that are not off. Without PLUGINS_COMMIT, "COMMIT" stands for the
    one that the user tested. The requirements are the name of a set of packages, such as cellpose, or a file in the
    plugins' repository.
    """
    lines = [f"ADD {REPOSITORY}#{switches.get('PLUGINS_COMMIT', 'COMMIT')} {FOLDER}"]
    if any("REQUIREMENTS" in name for name in switches):
        packages = switches.get("REQUIREMENTS") or switches.get("REQUIREMENTS_FILE", "")
        is_file = "/" in packages or packages.endswith(".txt")
        source = f"-r {FOLDER}/{packages}" if is_file else f"'{FOLDER}[{packages}]'" if packages else FOLDER
        lines.append(f"RUN python3 -m pip install --no-cache-dir {source}")
    return lines
