"""Makes the terminal screens in docs/ from real runs with --local: `make screenshots`.

A screen is an indented block below a marker such as `<!-- screen: failing-ended -->`. Nothing in a screen is
changed, except that the temporary folder is shown as /home/you.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from page_commands import ROOT, build_environment, copy_repository, list_commands
from screen_drawing import draw_screen
from terminal import Terminal, run_in_terminal

DOCS = ROOT / "docs"
MARKER = re.compile(r"(<!-- screen: ([\w-]+) -->\n)(?: {4}.*\n|\n(?= {4}))+")
SHOWN_FOLDER = "/home/you"
ALLOWED_EXIT_CODES = (0, 3)  # 3: jobs failed, as they should in two of the runs
PERCENT = re.compile(r"━.* (\d+) %(?: done, (\d+) % failed)?$", re.M)
# The run in docs/when-jobs-fail.md: 60 wells; 12 of them fail, for 3 causes.
FAILING_WELLS = {
    "crash": ("A03", "B07", "C11", "D02", "E09"), "shape": ("A06", "B01", "D08", "E04"), "slow": ("A10", "C08", "E05"),
}  # fmt: skip
PLATE_CONFIG = {
    "APP_NAME": "PlateScreen", "DOCKERHUB_TAG": "user/plate-screen:1.0", "AWS_BUCKET": "your-bucket-name",
    "CLUSTER_MACHINES": 3, "TASKS_PER_MACHINE": 1, "DOCKER_CORES": 2, "MACHINE_TYPE": ["m5.large"],
    "MACHINE_PRICE": 0.10, "MEMORY": 3500, "JOB_RETRIES": 2,
}  # fmt: skip
PLATE_LINES = (
    "python run.py --local setup",
    "python run.py --local submitJob files/plateJob.json",
    "python run.py --local startCluster files/exampleFleet.json",
    "python run.py --local monitor files/PlateScreenSpotFleetRequestId.json",
    "python run.py --local status",
)


class Session:
    """Commands that run one after the other, each in a terminal. `cd` changes the folder for those that follow."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.env = folder, build_environment(repository)

    def run(
        self, line: str, is_wanted: Callable[[str], bool] | None = None
    ) -> tuple[Terminal, list[list[tuple[str, str]]]]:
        """Run a command line; return what it printed, and the first screen whose text `is_wanted` accepts."""
        print(f"$ {line}", file=sys.stderr)
        if line.startswith("cd "):
            self.folder = (self.folder / line.removeprefix("cd ")).resolve()
            return Terminal(), []
        screen: list[list[tuple[str, str]]] = []
        for terminal in run_in_terminal(line, self.folder, self.env):
            if is_wanted and not screen and is_wanted(join_cells(terminal.copy_screen())):
                screen = terminal.copy_screen()
        if terminal.exit_code not in ALLOWED_EXIT_CODES:
            raise SystemExit(f"exit code {terminal.exit_code}: {line}\n" + "\n".join(terminal.read_text()))
        return terminal, screen


def join_cells(lines: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(character for character, _ in line).rstrip() for line in lines)


def is_half_done(screen: str) -> bool:
    return any(int(done) + int(failed or 0) >= 65 for done, failed in PERCENT.findall(screen))


def write_plate_project(folder: Path) -> None:
    """Turn a copy of the repository into the project of docs/when-jobs-fail.md."""
    kinds = {well: kind for kind, wells in FAILING_WELLS.items() for well in wells}
    wells = [f"{row}{column:02}" for row in "ABCDE" for column in range(1, 13)]
    (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in PLATE_CONFIG.items()))
    shutil.copy(DOCS / "_site" / "plate_program.py", folder / "worker" / "scripts" / "measure.py")
    content = {
        "command": "python3 {scripts_dir}/measure.py {kind} {well} {output_dir} || exit $?",
        "shell": True,
        "output_location": "plate/results/{job}",
        "timeout_minutes": 0.1,
        "groups": [{"kind": kinds.get(well, "cells"), "plate": "P1", "well": well} for well in wells],
    }
    (folder / "files" / "plateJob.json").write_text(json.dumps(content, indent=2))


def capture_failing_run(session: Session) -> dict[str, str]:
    """Return the screens of a run in which jobs fail."""
    for line in PLATE_LINES[:3]:
        session.run(line)
    monitor, running = session.run(PLATE_LINES[3], is_half_done)
    (DOCS / "pictures" / "monitor.svg").write_text(draw_screen(running, "monitor during a run in which jobs fail"))
    summary, status = "\n".join(monitor.read_text()), "\n".join(session.run(PLATE_LINES[4])[0].read_text())
    return {
        "failing-running": join_cells(running),
        "failing-ended": cut(status, r"^ PlateScreen.*?^ slow .*?$"),
        "failing-group": cut(status, r"^F\w+ +exit code 1: ValueError.*?--only \w+$"),
        "failing-advice": cut(summary, r"^what to do.*?(?=^results )").rstrip(),
    }


def cut(text: str, pattern: str) -> str:
    """Return the last part of the text that matches."""
    parts = re.findall(pattern, text, flags=re.M | re.S)
    if not parts:
        raise SystemExit(f"the output has no part that matches {pattern!r}:\n{text}")
    return str(parts[-1])


def capture_demo(session: Session) -> dict[str, str]:
    """Return the screens of the page `start-here.md`, whose commands are run."""
    screens = {}
    for line in list_commands("start-here.md"):
        terminal, screen = session.run(line, is_half_done if " monitor " in line else None)
        if " monitor " in line:
            screens["demo-running"] = join_cells(screen)
            screens["demo-summary"] = cut("\n".join(terminal.read_text()), r"^verdict .*?^results .*?$")
    return screens


def capture_tutorial(session: Session) -> dict[str, str]:
    """Return the screens of the page `tutorial.md`, whose commands are run."""
    program = (DOCS / "tutorial.md").read_text().partition("```python\n")[2].partition("```")[0]
    screens: dict[str, str] = {}
    for line in list_commands("tutorial.md"):
        terminal, _ = session.run(line)
        text = "\n".join(terminal.read_text()).rstrip()
        if line == "cd ../means":
            (session.folder / "worker" / "scripts" / "means.py").write_text(program)
        if " runJob " in line:
            screens["tutorial-run-job"] = cut(text, r"^job .*")
        if " monitor " in line:
            screens.setdefault("tutorial-failed", cut(text, r"^verdict .*?^results .*?$"))
    return screens


def replace_screens(screens: dict[str, str]) -> None:
    """Write the screens into the pages. Each screen must have a marker, and each marker a screen."""
    used = set()
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        used |= {name for _, name in MARKER.findall(text)}
        page.write_text(MARKER.sub(lambda match: match[1] + indent(screens[match[2]]), text))
    if used != set(screens):
        raise SystemExit(f"screens without a marker in docs/: {', '.join(sorted(set(screens) - used))}")


def indent(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())


def main() -> None:
    screens: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for part, capture in (
            ("clone", capture_demo),
            ("plate-screen", capture_failing_run),
            ("Distributed-Something", capture_tutorial),
        ):
            repository = folder / part
            copy_repository(repository)
            if capture is capture_failing_run:
                write_plate_project(repository)
            session = Session(repository, repository)
            try:
                screens |= capture(session)
            finally:
                session.run("python run.py --local stop --yes")
        replace_screens({key: text.replace(str(folder), SHOWN_FOLDER) for key, text in screens.items()})


if __name__ == "__main__":
    main()
