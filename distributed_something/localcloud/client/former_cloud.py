"""What became of a local cloud that was not stopped: it was killed, or its project was copied, moved, or renamed.

Its queues were in memory, so jobs may be lost. The next command reports each of these cases. A local cloud that was
stopped has no state file.
"""

from __future__ import annotations

from pathlib import Path

from distributed_something.localcloud.base.errors import LocalCloudError
from distributed_something.localcloud.base.layout import CloudLayout, CloudState, build_layout, read_state_file
from distributed_something.localcloud.client.daemon_calls import is_cloud_running

NEXT_STEPS = "Run setup, submitJob (with --again if you did), and startCluster again: jobs with results are skipped."


def describe_former_cloud(project: Path) -> str | None:
    """Return what became of the project's former local cloud, or None if there is nothing to say.

    Call this only if the project's local cloud is not running.
    """
    layout = build_layout(project)
    state = read_state_file(layout)
    if state is None:
        return None
    if state.key == layout.key:
        return (
            "this project's local cloud ended without `stop`, for example because this computer was restarted; its "
            f"buckets still exist, but the jobs that were in its queues are lost. {NEXT_STEPS}"
        )
    former = state.project or "another folder"
    if state.project and not Path(state.project).exists():
        return (
            f"this project was moved from {former} while its local cloud was running, which ended it; its buckets "
            f"still exist, but the jobs that were in its queues are lost. {NEXT_STEPS}"
        )
    more = "keeps running" if is_cloud_running(state) else "has ended since"
    return (
        f"this project is a copy of {former}, whose local cloud {more}; the copy has a local cloud of its own, with a "
        f"copy of the buckets and with empty queues. {NEXT_STEPS}"
    )


def check_folder_is_free(layout: CloudLayout) -> None:
    """Raise LocalCloudError if another project's running local cloud uses the same folder, because it is a link."""
    state = read_state_file(layout)
    if state and _shares_folder(state, layout) and is_cloud_running(state):
        raise LocalCloudError(
            f"{layout.results} is a link to {layout.results.resolve()}, which the running local cloud of "
            f"{state.project} uses; delete the link, so that this project gets a folder of its own"
        )


def _shares_folder(state: CloudState, layout: CloudLayout) -> bool:
    if state.key == layout.key or not state.project:
        return False
    return build_layout(Path(state.project)).root.resolve() == layout.root.resolve()
