"""Which jobs `submitJob --replace` has replaced: earlier ones of the same Job file, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.submission import SubmissionDocument, build_submission_time
from distributed_something.observe.documents.replacements import Replacements

START = 1_800_000_000.0
OLD, NEW = START + 30, START + 130  # when jobs of the first submission and of the replacing one were sent


def submit(path: str, after: float = 0.0, *, count: int = 60, **more: Any) -> SubmissionDocument:
    """Return the document of a submission that took 60 seconds."""
    time, ended = (build_submission_time(START + seconds) for seconds in (after, after + 60))
    content = {"app": "app", "queue": "queue", "time": time, "job_file": path, "digest": "d", "path": path}
    return SubmissionDocument(**{**content, "planned": count, "count": count, "ended": ended, **more})


def replace_jobs(path: str, after: float = 100.0, **more: Any) -> SubmissionDocument:
    return submit(path, after, **{"replace": True, "replaced": True, "removed": 10, **more})


def test_earlier_jobs_of_the_same_job_file_are_replaced_and_the_new_ones_are_not() -> None:
    replacements = Replacements((submit("files/a.json"), replace_jobs("files/a.json")))
    assert replacements.is_replaced(OLD)
    assert not replacements.is_replaced(NEW)


def test_jobs_of_a_script_are_never_replaced() -> None:
    """No Job file sends them again, so they count as failed."""
    replacements = Replacements((submit("files/a.json"), replace_jobs("files/a.json")))
    assert not replacements.is_replaced(OLD, "")
    assert replacements.is_replaced(OLD, None)


def test_the_submission_of_a_message_counts_and_not_when_it_was_sent_again() -> None:
    first, other = submit("files/a.json"), submit("files/b.json", 70)
    documents = first, other, replace_jobs("files/b.json", 140)
    assert not Replacements(documents).is_replaced(START + 100, first.time)
    assert Replacements(documents).is_replaced(START + 100, other.time)


def test_the_same_file_may_be_typed_in_another_folder() -> None:
    replacements = Replacements((submit("files/a.json"), replace_jobs("/home/me/project/files/a.json")))
    assert replacements.is_replaced(OLD)


def test_failed_jobs_of_another_job_file_still_count() -> None:
    """They had all ended, and the new Job file does other work."""
    documents = submit("files/a.json"), submit("files/b.json", 70), replace_jobs("files/b.json", 140)
    assert not Replacements(documents).is_replaced(OLD)
    assert Replacements(documents).is_replaced(START + 100)


def test_a_corrected_copy_of_the_job_file_replaces_the_jobs_that_waited() -> None:
    before = submit("files/wrong.json")
    assert Replacements((before, replace_jobs("files/fixed.json"))).is_replaced(OLD)
    assert not Replacements((before, replace_jobs("files/other.json", removed=0))).is_replaced(OLD)
    assert not Replacements((before, replace_jobs("files/other.json", count=7))).is_replaced(OLD)


def test_a_submission_that_has_not_removed_all_waiting_jobs_replaces_nothing() -> None:
    documents = submit("files/a.json"), replace_jobs("files/a.json", replaced=False)
    assert not Replacements(documents).is_replaced(OLD)


def test_retried_jobs_are_replaced_with_the_job_file_from_which_they_came() -> None:
    retry = submit("", 100, job_file="retry of R", retry_of="R")
    documents = submit("files/a.json"), retry, replace_jobs("files/a.json", 200)
    assert Replacements(documents).is_replaced(NEW)
    assert not Replacements((retry, replace_jobs("files/a.json", 200, count=3))).is_replaced(NEW)


def test_a_retry_that_replaces_the_messages_of_another_one_follows_its_own_list() -> None:
    retry = replace_jobs("files/a.json", retry_of="R")
    assert not Replacements((submit("files/a.json"), retry)).is_replaced(OLD)


def test_a_done_job_still_counts_if_the_job_file_has_fewer_jobs_now() -> None:
    """For example, only those that failed were left in it."""
    before = submit("files/a.json")
    fewer = Replacements((before, replace_jobs("files/a.json", count=3)))
    assert (fewer.is_replaced(OLD), fewer.is_replaced(OLD, is_done=True)) == (True, False)
    assert Replacements((before, replace_jobs("files/a.json"))).is_replaced(OLD, is_done=True)


def test_of_an_older_worker_the_start_of_the_attempt_is_known() -> None:
    """It is after the end of its submission, so all earlier ones may have sent it."""
    later = START + 80
    assert Replacements((submit("files/a.json"), replace_jobs("files/a.json"))).is_replaced(later)
    documents = submit("files/b.json", -100), submit("files/a.json"), replace_jobs("files/a.json")
    assert not Replacements(documents).is_replaced(later)
    assert not Replacements(documents).is_replaced(0.0)


@given(st.floats(0, 300), st.sampled_from(["files/a.json", "files/b.json"]))
def test_no_job_of_the_replacing_submission_is_ever_replaced(after: float, path: str) -> None:
    """Its clock may be a second ahead of that of the queue."""
    documents = submit("files/a.json"), submit("files/b.json", 65), replace_jobs(path, 130)
    assert after < 128 or not Replacements(documents).is_replaced(START + after)
