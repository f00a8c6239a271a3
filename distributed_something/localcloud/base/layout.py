"""Where everything of one project's local cloud lies, and who is running it.

All of it is below PROJECT/local, so deleting that folder deletes every trace, and two clones share nothing.
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


@dataclass(frozen=True)
class CloudLayout:
    """The folders and files of one project's local cloud."""

    project: Path

    @property
    def results(self) -> Path:
        """Where buckets appear as folders of ordinary files."""
        return self.project / "local"

    @property
    def root(self) -> Path:
        """What the user need not look at: state, logs, emulator data, task folders."""
        return self.results / ".cloud"

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
        """A short name for this project, the same in every process of its cloud and in no other project's."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:24]

    @property
    def generic_worker(self) -> Path:
        """The project's own worker; it may not exist."""
        return self.project / "worker" / "generic-worker.py"

    def make_folders(self) -> None:
        for folder in (self.task_logs, self.tasks, self.root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)

    def last_log_line(self) -> str:
        """The last line of cloud.log that says something, or an empty string."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def build_layout(project: Path) -> CloudLayout:
    return CloudLayout(Path(project).resolve())


@dataclass(frozen=True)
class CloudState:
    """What a command must know to reach a running cloud: the daemon's process, its two addresses, its password.

    `key` is the project's: a copy of a project has a copy of its state file, too, but not its cloud.
    """

    pid: int
    token: str
    moto: str
    ministack: str
    key: str


def write_cloud_state(layout: CloudLayout, state: CloudState) -> None:
    """Appears whole or not at all, and only its owner can read the token."""
    draft = layout.state.with_suffix(".part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(state), file)
    draft.replace(layout.state)


def read_cloud_state(layout: CloudLayout) -> CloudState | None:
    """Return what the state file says; None without one that can be understood and is about this project's cloud.

    A kill may have left anything, and a project that was copied while its cloud ran has the other project's file.
    """
    try:
        state = CloudState(**json.loads(layout.state.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return state if state.key == layout.key else None


@contextlib.contextmanager
def lock_cloud(layout: CloudLayout, what: str = "lock") -> Iterator[None]:
    """One command at a time starts or stops this project's cloud, or does `what` else; the others wait."""
    layout.make_folders()
    with open(layout.root / what, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
