"""File layout and saved state of one project's local cloud.

All files are below PROJECT/local. Deleting that folder removes every trace, and two clones of a project share nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

IMPORT_ROOT = Path(__file__).resolve().parents[3]  # the folder that contains `distributed_something`


@dataclass(frozen=True)
class CloudLayout:
    """The folders and files of one project's local cloud."""

    project: Path

    @property
    def results(self) -> Path:
        """Folder where each bucket appears as a folder of ordinary files."""
        return self.project / "local"

    @property
    def root(self) -> Path:
        """Folder for internal files: state, logs, emulator data, task folders."""
        return self.results / ".cloud"

    @property
    def notifications(self) -> Path:
        """File with a line of JSON for each message that SNS would have sent."""
        return self.results / "notifications.jsonl"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def log(self) -> Path:
        return self.root / "cloud.log"

    @property
    def task_logs(self) -> Path:
        return self.root / "tasks-logs"

    @property
    def tasks(self) -> Path:
        return self.root / "tasks"

    @property
    def key(self) -> str:
        """Short name that is unique to this project. All processes of its local cloud share it."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:24]

    @property
    def generic_worker(self) -> Path:
        """Path of the project's own worker script, which may not exist."""
        return self.project / "worker" / "generic-worker.py"

    def make_folders(self) -> None:
        for folder in (self.task_logs, self.tasks, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)

    def read_last_log_line(self) -> str:
        """Return the last line of cloud.log that is not blank, or an empty string."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def build_layout(project: Path) -> CloudLayout:
    return CloudLayout(Path(project).resolve())


@dataclass(frozen=True)
class CloudState:
    """What a command needs to reach a running local cloud: the daemon's process ID, a token, and two addresses.

    `key` identifies the project, so that a state file that was copied or moved with its project can be recognized.
    `project` is the project's folder, or an empty string in a state file of an older version.
    """

    pid: int
    token: str
    moto: str
    ministack: str
    key: str
    project: str = ""


def write_cloud_state(layout: CloudLayout, state: CloudState) -> None:
    """Write the state file atomically. Only the owner can read the file, because it contains the token."""
    draft = layout.state.with_suffix(".part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(state), file)
    draft.replace(layout.state)


def read_cloud_state(layout: CloudLayout) -> CloudState | None:
    """Return the saved state, or None if the file does not exist, cannot be parsed, or belongs to another project."""
    state = read_state_file(layout)
    return state if state and state.key == layout.key else None


def read_state_file(layout: CloudLayout) -> CloudState | None:
    """Return the saved state, whichever project it belongs to; None if the file does not exist or cannot be parsed.

    A killed daemon can leave a damaged file. If a project is copied or moved while its local cloud is running, its new
    folder contains the state file of the old one. `stop` deletes the file.
    """
    try:
        return CloudState(**json.loads(layout.state.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def lock_cloud(layout: CloudLayout, file_name: str = "lock") -> Iterator[None]:
    """Hold one of this project's locks while the block runs. Other commands that need the same lock wait.

    The file `lock` protects starting and stopping. Other actions use their own lock files.
    """
    layout.make_folders()
    with open(layout.root / file_name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
