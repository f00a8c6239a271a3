"""`submitJob` gives sample messages to the project's own `make_job`, in a process without access to AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distributed_something.core.errors import InputError
from distributed_something.jobs import own_worker
from distributed_something.jobs.job_file import JobFile, load_job_file
from distributed_something.jobs.own_worker import CHECK_MODULE, IncompleteCheck, OwnWorker, OwnWorkerCheck
from distributed_something.jobs.run_job import build_one_job_container, get_container_environment
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.worker import CHECK_VARIABLE, MESSAGES_FILE
from tests.support.emulator import wait_until
from tests.support.fakes import SETTINGS
from tests.support.paths import ROOT

JOB: dict[str, Any] = {"command": "work {well}", "groups": [{"well": "A01"}, {"well": "A02"}]}
HOOK = """
import os
from pathlib import Path
from distributed_something.worker import BadMessage, job_from_message, serve

def make_job(message, folders, settings):
    group = message["group"]
{body}
    return job_from_message(message, folders, settings)

serve(make_job=make_job)
"""


class Project:
    """A project with its own generic-worker.py."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, folder / "worker" / "generic-worker.py"
        self.code.parent.mkdir()
        self.default_folder = ROOT / "worker"

    def write_hook(self, *lines: str) -> None:
        self.code.write_text(HOOK.format(body="\n".join(f"    {line}" for line in lines)))

    def check(
        self, content: dict[str, Any] = JOB, seconds: float = 60, *, has_image: bool = True, **constants: str
    ) -> IncompleteCheck | None:
        """Check the Job file with this content. `constants`: the user's own constants in the config."""
        job_file = self.load_jobs(content)
        with self.open_check(job_file, seconds, has_image=has_image, **constants) as check:
            return check.complete(plan_submission(job_file))

    def load_jobs(self, content: dict[str, Any] = JOB) -> JobFile:
        path = self.folder / "job.json"
        path.write_text(json.dumps(content))
        return load_job_file(path, lambda bucket, prefix: [])

    def open_check(
        self, job_file: JobFile, seconds: float = 60, *, has_image: bool = True, **constants: str
    ) -> OwnWorkerCheck:
        settings = SETTINGS.model_copy(update={"own": constants})
        worker = OwnWorker(self.code.parent, self.default_folder, build_one_job_container(settings), has_image)
        return OwnWorkerCheck(worker, job_file, seconds)

    def find_problems(self, content: dict[str, Any] = JOB, **constants: str) -> list[tuple[str, str, str]]:
        """Return the file's name, the key, and the problem of each error."""
        with pytest.raises(InputError) as caught:
            self.check(content, **constants)
        return [(Path(problem.file).name, problem.key, problem.problem) for problem in caught.value.problems]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_shipped_worker_refuses_a_job_file_without_a_command(project: Project) -> None:
    problem = "the worker refuses this job: `command` is missing from the message or empty"
    groups = [{"well": "A01"}, {"well": "A02"}, {"plate": "P1"}]
    expected = [("job.json", "groups[1]", problem)]
    assert project.find_problems({"groups": groups}) == expected  # the default worker; the same reason is shown once
    project.code.write_text((ROOT / "worker" / "generic-worker.py").read_text())
    assert project.find_problems({"groups": groups}) == expected
    assert project.check() is None


def test_only_the_first_job_is_given_to_a_make_job_that_is_not_the_projects_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    write = own_worker._write_messages
    monkeypatch.setattr(own_worker, "_write_messages", lambda *args: given.append(args[2]) or write(*args))
    assert project.check() is None
    project.code.write_text((ROOT / "worker" / "generic-worker.py").read_text())
    assert project.check() is None
    assert given == [1, 1]
    project.write_hook("folders.root.stat()")
    assert project.check() is None
    assert given == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("return job_from_message(", "return job_from_mesage(", "NameError"),
        ("return job_from_message(", "raise ValueError; (", "ValueError"),
        ("return job_from_message(message, folders, settings)", "return None", "of type NoneType, not a Job"),
        ("return job_from_message(message, folders, settings)", "return job_from_message(message", "SyntaxError"),
        ("import Folders, Job,", "import Foldrs, Job,", "ImportError"),
        ("return job_from_message(message", "return job_from_message(message.body", "AttributeError"),
        ("sys.exit(serve", "raise RuntimeError('not yet')\nsys.exit(serve", "RuntimeError: not yet"),
    ],
)
def test_in_a_clone_the_shipped_worker_is_the_projects_own_and_its_mistakes_are_reported(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    project = Project(tmp_path)
    project.default_folder = project.code.parent
    shipped = (ROOT / "worker" / "generic-worker.py").read_text()
    assert old in shipped
    project.code.write_text(shipped.replace(old, new))
    ((file, _, found),) = project.find_problems()
    assert file == "generic-worker.py"
    assert problem in found


def test_in_a_clone_a_module_that_is_missing_on_this_computer_is_not_an_error(project: Project) -> None:
    project.default_folder = project.code.parent
    shipped = (ROOT / "worker" / "generic-worker.py").read_text()
    project.code.write_text(shipped.replace("import sys", "import sys\nimport module_of_the_image"))
    assert project.check() == IncompleteCheck("missing module", "module_of_the_image")


def test_every_job_is_given_to_the_projects_own_make_job(project: Project) -> None:
    project.write_hook("if isinstance(group, str) or group['well'] in (3, 999):", "    raise BadMessage(f'no {group}')")
    groups: list[object] = [{"well": number} for number in range(1, 1001)]
    groups[499] = "five hundred"
    problems = project.find_problems({"command": "work", "groups": groups})
    assert [key for _, key, _ in problems] == ["groups[3]", "groups[500]", "groups[999]"]
    assert problems[1][2] == "the worker refuses this job: no five hundred"


def test_of_very_many_jobs_some_are_checked_from_the_first_to_the_last(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_worker, "MAX_CHECKED_JOBS", 4)
    content = {"command": "work", "groups": [{"well": number} for number in range(1, 11)]}
    project.write_hook("if group['well'] in (2, 9):", "    raise BadMessage('not checked')")
    assert project.check(content) == IncompleteCheck("many jobs", "4")  # jobs 1, 4, 7, and 10
    project.write_hook("if group['well'] == 7:", "    raise BadMessage('seven')")
    assert [key for _, key, _ in project.find_problems(content)] == ["groups[7]"]


def test_the_hook_has_the_tasks_environment_its_own_modules_and_an_existing_folder(project: Project) -> None:
    (project.code.parent / "my_module.py").write_text("NAME = 'a name'")
    project.write_hook(
        "import my_module",
        "assert os.environ['MY_NAME'] == my_module.NAME, os.environ['MY_NAME']",
        f"assert (os.environ['APP_NAME'], settings.aws_bucket) == ('{SETTINGS.APP_NAME}', '{SETTINGS.AWS_BUCKET}')",
        "assert folders.root.is_dir() and not folders.input_dir.exists()",
        "assert 'CHECK_MESSAGES_FOLDER' not in os.environ",
    )
    assert project.check(MY_NAME="a name") is None
    assert not list(project.folder.rglob("__pycache__"))
    assert project.find_problems(MY_NAME="another") == [
        ("generic-worker.py", "line 9", "make_job fails with groups[1]: AssertionError: another")
    ]


def test_the_hook_knows_whether_its_jobs_will_run_in_the_image_or_on_this_computer(project: Project) -> None:
    project.write_hook("if 'WORKER_SCRIPTS_DIR' in os.environ: raise BadMessage('no plugins on this computer')")
    assert project.check() is None
    with pytest.raises(InputError, match="the worker refuses this job: no plugins on this computer"):
        project.check(has_image=False)


def test_a_variable_that_is_missing_from_the_config_is_named(project: Project) -> None:
    project.write_hook("os.environ['MY_NAME']")
    assert project.find_problems() == [
        ("generic-worker.py", "line 8", "the environment variable MY_NAME is not set, but make_job needs it")
    ]


@pytest.mark.parametrize(
    ("code", "key", "problem"),
    [
        ("int('x')", "line 1", "the worker cannot start: ValueError: invalid literal for int() with base 10: 'x'"),
        ("def make_job(:", "line 1", "the worker cannot start: SyntaxError: invalid syntax"),
        ("raise SystemExit('no license')", "line 1", "the worker cannot start: SystemExit: no license"),
        ("import os\nos.environ['X']", "line 2", "the environment variable X is not set"),
        (
            HOOK.format(body="    return {'well': 1}"), "",
            "make_job fails with groups[1]: TypeError: make_job returned a value of type dict, not a Job",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_code_is_reported_with_its_line(project: Project, code: str, key: str, problem: str) -> None:
    project.code.write_text(code)
    assert project.find_problems() == [("generic-worker.py", key, problem)]


def test_a_name_that_the_package_does_not_have_is_a_mistake(project: Project) -> None:
    project.code.write_text("from distributed_something.worker import nothing")
    ((_, key, problem),) = project.find_problems()
    assert key == "line 1"
    assert problem.startswith("the worker cannot start: ImportError: cannot import name 'nothing'")


@pytest.mark.parametrize("code", ["import no_such_module", HOOK.format(body="    import no_such_module.deeper")])
def test_a_module_that_is_missing_on_this_computer_is_not_an_error(project: Project, code: str) -> None:
    project.code.write_text(code)
    assert project.check() == IncompleteCheck("missing module", "no_such_module")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("Path('/no/such/parameters.json').read_text()", "FileNotFoundError"),
        ("import boto3; boto3.client('s3').list_buckets()", "NoCredentialsError"),
    ],
)
def test_what_only_the_image_or_aws_has_is_not_an_error(
    project: Project, line: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not passed to the hook")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not passed to the hook")
    project.write_hook(line)
    incomplete = project.check()
    assert incomplete is not None
    assert incomplete.state == "unavailable"
    assert error in incomplete.detail


def test_a_request_without_credentials_does_not_reach_aws(project: Project) -> None:
    project.write_hook(
        "import boto3, botocore.config",
        "config = botocore.config.Config(signature_version=botocore.UNSIGNED)",
        "boto3.client('s3', config=config).list_objects_v2(Bucket='a-public-bucket')",
    )
    incomplete = project.check()
    assert incomplete is not None
    assert "EndpointConnectionError" in incomplete.detail


def test_a_hook_that_takes_too_long_is_ended_and_is_not_an_error(project: Project) -> None:
    project.write_hook("while True: pass")
    assert project.check(seconds=0.5) == IncompleteCheck("time limit", "0.5")


def test_a_process_that_ends_early_is_not_an_error(project: Project) -> None:
    project.write_hook("os._exit(7)")
    assert project.check() == IncompleteCheck("ended", "7")


def test_a_hook_that_crashes_python_is_an_error(project: Project) -> None:
    project.write_hook("os.kill(os.getpid(), 11)")
    with pytest.raises(InputError, match=r"make_job crashes Python with groups\[1\] \(SIGSEGV: Segmentation fault\)"):
        project.check()


def test_a_worker_that_does_not_exist_is_an_error(project: Project) -> None:
    project.default_folder = project.code.parent
    with pytest.raises(InputError, match=r"generic-worker\.py: this file does not exist"):
        project.check()


def test_code_that_does_not_call_serve_is_not_an_error(project: Project) -> None:
    project.code.write_text("print('a worker of another kind')")
    assert project.check() == IncompleteCheck("no serve", "")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("examples/*/config.py")))
def test_the_worker_of_each_example_accepts_its_job_files(tmp_path: Path, name: str) -> None:
    from distributed_something.project.config_file import load_settings

    folder = ROOT / "examples" / name
    worker = OwnWorker(folder / "worker", ROOT / "worker", build_one_job_container(load_settings(folder / "config.py")))
    for path in folder.glob("files/*Job.json"):
        content = json.loads(path.read_text())
        content.pop("upload", None)  # some folders exist only after the example's data was fetched
        if isinstance(content.get("groups"), str):
            content["groups"] = str((path.parent / content["groups"]).resolve())
        copy = tmp_path / path.name
        copy.write_text(json.dumps(content))
        job_file = load_job_file(copy, lambda bucket, prefix: [])
        with OwnWorkerCheck(worker, job_file) as check:
            incomplete = check.complete(plan_submission(job_file))
        assert incomplete is None or incomplete.state == "no file"  # the data is not in a bucket


def test_jobs_whose_results_nothing_would_send_are_refused(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write_hook("return job_from_message(message, folders, settings, upload_results=False)")
    (problem,) = project.find_problems({**JOB, "groups": JOB["groups"][:1]})
    assert "passes no deliver hook to serve()" in problem[2]
    code = project.code.read_text().replace("make_job=make_job)", "make_job=make_job, deliver=lambda job, folders: [])")
    project.code.write_text(code)
    assert project.check() is None


def test_the_worker_starts_while_the_caller_checks_the_jobs(project: Project) -> None:
    begun = project.folder / "begun"
    project.write_hook(f"Path({str(begun)!r}).touch()")
    job_file = project.load_jobs()
    with project.open_check(job_file) as check:
        wait_until(begun.exists, "make_job was not called")
        begun.unlink()
        assert check.complete(plan_submission(job_file)) is None
    assert begun.exists()  # all jobs were given to it, because it is the project's own


def test_if_the_caller_finds_a_problem_no_process_and_no_folder_remains(project: Project) -> None:
    place = project.folder / "place"
    project.write_hook(
        f"Path({str(place)!r}).with_suffix('.new').write_text(f'{{os.getpid()}} {{folders.root}}')",
        f"Path({str(place)!r}).with_suffix('.new').rename({str(place)!r})",
        "import time; time.sleep(600)",
    )

    def find_problem() -> None:
        with project.open_check(project.load_jobs()):
            wait_until(place.exists, "make_job was not called")
            raise InputError("job.json", "", "no such column", "")

    with pytest.raises(InputError, match="no such column"):
        find_problem()
    process, folder = place.read_text().split(" ", 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)
    assert not Path(folder).parent.exists()


def test_a_first_job_that_cannot_be_read_is_reported_by_the_callers_own_check(project: Project) -> None:
    (project.folder / "jobs.csv").write_text("well,site\nA01\n")
    job_file = project.load_jobs({"command": "work {well}", "groups": "jobs.csv"})
    with project.open_check(job_file) as check, pytest.raises(InputError, match="1 cell, but the header has 2"):
        check.complete(plan_submission(job_file))


def test_a_worker_whose_submit_job_is_killed_ends_with_its_hooks_and_removes_its_folder(project: Project) -> None:
    place, folder = project.folder / "place", project.folder / "check"
    folder.mkdir()
    (folder / MESSAGES_FILE).write_text(json.dumps({"number": 1, "body": '{"command": "work", "group": "x"}'}) + "\n")
    project.write_hook(
        "import subprocess, time",
        "child = subprocess.Popen(['sleep', '600'])",
        f"Path({str(place)!r}).with_suffix('.new').write_text(f'{{os.getpid()}} {{child.pid}}')",
        f"Path({str(place)!r}).with_suffix('.new').rename({str(place)!r})",
        "time.sleep(600)",
    )
    start = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], start_new_session=True)"
    env = os.environ | {CHECK_VARIABLE: str(folder), **get_container_environment(build_one_job_container(SETTINGS))}
    parent = subprocess.Popen([sys.executable, "-c", start, "-m", CHECK_MODULE, str(project.code)], env=env, cwd=ROOT)
    wait_until(place.exists, "make_job was not called")
    parent.kill()
    parent.wait()
    wait_until(lambda: not folder.exists(), "the folder was not removed")
    for process in map(int, place.read_text().split()):
        wait_until(lambda process=process: has_ended(process), f"process {process} has not ended")


def has_ended(process: int) -> bool:
    """Return whether a process is gone, or only waits for init to notice its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_full_disk_is_named_if_the_messages_for_the_worker_do_not_fit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_worker, "MESSAGES_FILE", "/dev/full")
    with pytest.raises(InputError, match=r"the messages cannot be kept here .* \(No space left on device\); make room"):
        project.check()
