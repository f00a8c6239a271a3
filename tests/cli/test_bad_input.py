"""Whatever a user writes wrongly: exit code 2, one line with file, key and remedy, and nothing sent or created.

First, mistakes that people make, each with the words that it is answered with. Then properties: no input whatever, of
any file or argument, ends in a traceback or in anything but success or exit code 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distributed_something.core.config_settings import Settings, load_settings
from distributed_something.core.errors import InputError
from distributed_something.core.monitor_file import load_monitor_file
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from tests.support.offline import (
    CONFIG,
    FLEET,
    JOB,
    MONITOR,
    Outcome,
    block_requests,
    format_config,
    run_command,
    write_project,
)

SUBMIT = ("submitJob", "files/job.json")
START = ("startCluster", "files/fleet.json")
WATCH = ("monitor", "files/monitor.json")


@dataclass(frozen=True)
class Mistake:
    """What is typed, what the project's files hold instead of the right thing, and how the answer begins and goes on.

    `files`: content by path; None takes the file away.
    """

    name: str
    arguments: tuple[str, ...]
    begins: str
    words: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)


def in_config(name: str, key: str, source: str, words: str) -> Mistake:
    """`KEY = SOURCE` stands at the end of a config that is right otherwise."""
    text = format_config(CONFIG) + f"{key.partition('[')[0]} = {source}\n"
    return Mistake(f"config: {name}", ("setup",), f"config.py: {key}: ", words, {"config.py": text})


def config_is(name: str, text: str | bytes | None, begins: str, words: str) -> Mistake:
    return Mistake(f"config: {name}", ("setup",), f"config.py: {begins}", words, {"config.py": text})


def in_job(name: str, key: str, words: str, *without: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (JOB | keys).items() if name not in without}
    return job_is(name, json.dumps(content), f"{key}: ", words)


def job_is(name: str, text: str | bytes | None, begins: str, words: str) -> Mistake:
    return Mistake(f"job: {name}", SUBMIT, f"files/job.json: {begins}", words, {"files/job.json": text})


def in_table(name: str, table: str, text: str | bytes, begins: str, words: str) -> Mistake:
    job = json.dumps(JOB | {"groups": table})
    files = {"files/job.json": job, f"files/{table}": text}
    return Mistake(f"table: {name}", SUBMIT, f"files/{table}{begins}", words, files)


def in_fleet(name: str, key: str, words: str, *without: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (FLEET | keys).items() if name not in without}
    begins = f"files/fleet.json: {key}"
    return Mistake(f"fleet: {name}", START, begins, words, {"files/fleet.json": json.dumps(content)})


def in_specification(name: str, key: str, words: str, **keys: object) -> Mistake:
    changed = [FLEET["LaunchSpecifications"][0] | keys]
    return in_fleet(name, key, words, LaunchSpecifications=changed)


def in_monitor(name: str, key: str, words: str, *without: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (MONITOR | keys).items() if name not in without}
    begins = f"files/monitor.json: {key}: "
    return Mistake(f"monitor: {name}", WATCH, begins, words, {"files/monitor.json": json.dumps(content)})


def typed(name: str, words: str, *arguments: str, begins: str = "") -> Mistake:
    return Mistake(f"typed: {name}", arguments, begins, words)


CONFIG_MISTAKES = [
    config_is("missing", None, "", "there is no such file; give the path of a config file"),
    config_is("not UTF-8", b"APP_NAME = '\xff'", "byte 12: ", "not UTF-8 text; save the file as UTF-8"),
    config_is("not Python", "APP_NAME = 'a\n", "line 1: ", "this is not valid Python (unterminated string literal"),
    config_is("ends the program", "import sys\nsys.exit(3)\n", "line 2: ", "SystemExit: 3; correct this line"),
    config_is("raises", "A = 1\nB = 1 / 0\n", "line 2: ", "ZeroDivisionError: division by zero; correct this line"),
    config_is("an unknown name", "APP_NAME = Tryout\n", "line 1: ", "'Tryout' is not defined; write text in quotes"),
    config_is("an error of two lines", "raise ValueError('a\\nb')\n", "line 1: ", "ValueError: a b; correct"),
    config_is("empty", "", "APP_NAME: ", "this key is missing; add it\nrun.py: config.py: DOCKERHUB_TAG: "),
    in_config("a bucket with capitals", "AWS_BUCKET", "'MyBucket'",
              "'MyBucket' is not a bucket name; use 3 to 63 lowercase"),
    in_config("a bucket as an address", "AWS_BUCKET", "'s3://mine'", "'s3://mine' is not a bucket name; use"),
    in_config("a queue with a space", "SQS_QUEUE_NAME", "'my queue'", "'my queue' is not a queue name; use at most 80"),
    in_config("a zone for a region", "AWS_REGION", "'us-east-1a'",
              "is not an AWS region; write one such as 'us-east-1'"),
    in_config("an image with capitals", "DOCKERHUB_TAG", "'User/Image'", "is not an image name; write one such as"),
    in_config("an app with a slash", "APP_NAME", "'a/b'", "'a/b' is not a valid name; use at most 80 letters, digits"),
    in_config("a size for a type", "MACHINE_TYPE[1]", "'large'",
              "'large' is not an EC2 instance type; write one such as"),
    in_config("no machine type", "MACHINE_TYPE", "[]", "[] is too short; list at least 1"),
    in_config("no visibility", "SQS_MESSAGE_VISIBILITY", "0", "0 is too small; write a number that is at least 10"),
    in_config("14 hours of visibility", "SQS_MESSAGE_VISIBILITY", "50000",
              "is too large; write a number that is at most 43200"),
    in_config("a small disk", "EBS_VOL_SIZE", "21", "21 is too small; write a number that is at least 22"),
    in_config("no machines", "CLUSTER_MACHINES", "0", "0 is too small; write a number that is at least 1"),
    in_config("10,001 machines", "CLUSTER_MACHINES", "10001", "is too large; write a number that is at most 10000"),
    in_config("True for a number", "CLUSTER_MACHINES", "True", "True is not a number; write a number"),
    in_config("half a machine", "CLUSTER_MACHINES", "2.5", "2.5 is not a whole number; write a whole number"),
    in_config("a word for a number", "MEMORY", "'much'", "'much' is not a whole number; write a whole number"),
    in_config("a number of 5,000 digits", "MEMORY", "10**5000", "this int is too large"),
    in_config("no price", "MACHINE_PRICE", "None", "None is not a number; write a number with a decimal point"),
    in_config("a price that is not a number", "MACHINE_PRICE", "float('nan')", "nan is not a finite number"),
    in_config("maybe", "CHECK_IF_DONE_BOOL", "'maybe'", "'maybe' is not 'True' or 'False'; write 'True' or 'False'"),
    in_config("a comma in a price", "MACHINE_PRICE", "0,10", "(0, 10) is not a number; write 0.10, with a dot"),
    in_config("1 for True", "ASSIGN_IP", "1", "1 is not 'True' or 'False'; write"),
    in_config("one queue twice", "SQS_DEAD_LETTER_QUEUE", "SQS_QUEUE_NAME",
              "is also SQS_QUEUE_NAME; give the two queues different names"),
    in_config("a secret", "AWS_SECRET_ACCESS_KEY", "'x'",
              "its value is a secret that must not be sent; choose another name"),
    in_config("the system's own name", "SQS_QUEUE_URL", "'x'", "this name is reserved"),
    in_config("an object of its own", "MINE", "object()",
              "a value of type object cannot be passed to the container; use a string"),
    in_config("half a character", "MINE", r"'\ud800'", "is not valid Unicode text; use a string"),
    in_config("a zero byte", "MINE", r"'\0'", "a zero byte cannot be passed to the container; remove it"),
    in_config("the bucket of the shipped file", "AWS_BUCKET", "'your-bucket-name'",
              "is a placeholder; replace it with your own value"),
    in_config("the image of the shipped file", "DOCKERHUB_TAG", "'user/distributed-something:latest'", "--local"),
]  # fmt: skip

JOB_MISTAKES = [
    job_is("missing", None, "", "there is no such file; give the path of a job file"),
    job_is("not UTF-8", b'{"a": "\xe9"}', "byte 7: ", "save the file as UTF-8"),
    job_is("empty", "", "line 1, column 1: ", "the file is empty; write one JSON object"),
    job_is("a trailing comma", '{"a": 1,}', "line 1, column 8: ", "trailing comma before }; remove it"),
    job_is("a list", "[]", "", 'it contains a JSON list, not an object; write one JSON object'),
    job_is("a key twice", '{"command": "a", "command": "b"}', "'command': ", "duplicate key; keep one of them"),
    job_is("NaN", '{"a": NaN}', "NaN: ", "this is not a JSON value; use a number, a string, or null"),
    job_is("a number without end", '{"a": 1e999}', "1e999: ", "this is not a JSON value"),
    job_is("half a character", r'{"a": "\ud800"}', r"'\ud800': ",
           "this is one half of a surrogate pair, not a character; write"),
    job_is("60 levels", '{"a": ' + "[" * 60 + "]" * 60 + "}", "", "too deeply or too large (more than 50 levels)"),
    in_job("no groups", "groups", "this key is missing; list the jobs", "groups"),
    in_job("two lists of jobs", "groups", "the file has both 'groups' and 'plates'; remove one", plates=["P1"]),
    in_job("an empty list", "groups", "it contains no jobs; list at least one", groups=[]),
    in_job("an empty job", "groups[1]", "{} is not a job; write an object", groups=[{}]),
    in_job("a number for a job", "groups[2]", "7 is not a job; write an object", groups=[{"well": "A01"}, 7]),
    in_job("the same job twice", "groups", "jobs 1 and 3 are the same job; keep one",
           groups=[{"well": "A01"}, {"well": "A02"}, {"well": "A01"}]),
    in_job("a placeholder that nothing fills", "command", "nothing fills the placeholder {plate} in groups[1]",
           command="echo {plate}"),
    in_job("a placeholder that one job leaves open", "command", "{well} in groups[2]; use one of its keys (plate)",
           groups=[{"well": "A01"}, {"plate": "P1"}]),
    in_job("a placeholder in the inputs", "inputs", "nothing fills the placeholder {row}", inputs=["images/{row}.png"]),
    in_job("a job's own key", "group", "this name is reserved for the job's own values", group={"a": 1}),
    in_job("a table that is not there", "groups", "there is no table files/jobs.csv; correct the path",
           groups="jobs.csv"),
    in_job("a table of another program", "groups", "'jobs.xlsx' is not a table; name a .csv", groups="jobs.xlsx"),
    in_job("another way to say it", "groups", "is not a list of jobs; write a list of objects",
           groups={"wells": ["A01"]}),
    in_job("a cross of no lists", "groups.cross", "{} has no lists of values; write", groups={"cross": {}}),
    in_job("a cross with an empty list", "groups.cross.well", "[] is not a list of values; write",
           groups={"cross": {"well": []}}),
    in_job("a cross with a text", "groups.cross.well", "'A01' is not a list of values",
           groups={"cross": {"well": "A01"}}),
    in_job("a bucket without s3://", "groups.s3", "'mine/in/' is not the address of a bucket; write an",
           groups={"s3": "mine/in/"}),
    in_job("no bucket", "groups.s3", "'s3:///in/' is not the address of a bucket", groups={"s3": "s3:///in/"}),
    in_job("a bucket with a space", "groups.s3", "is not the address of a bucket", groups={"s3": "s3://my bucket/in/"}),
    in_job("a number for a pattern", "groups.match", "5 is not a pattern", groups={"s3": "s3://mine/in/", "match": 5}),
    in_job("a number for a command", "command", "7 is not a command; write a string, or a list", command=7),
    in_job("an empty command", "command", "'' is not a command; write a string", command=""),
    in_job("a list in a command", "command", "is not a command; write a string, or a list", command=["echo", ["a"]]),
    in_job("an open quote", "command", "(No closing quotation); close the quote", command="echo '{well}"),
    in_job("a shell with a list", "shell", "a shell runs only a command that is one string; write",
           shell=True, command=["a"]),
    in_job("a shell without a command", "shell", "a shell runs only a command that is one", "command",
           shell=True, x="{well}"),
    in_job("a word for shell", "shell", "'yes' is not true or false; write true or false", shell="yes"),
    in_job("a text for inputs", "inputs", "'a.png' is not a list of inputs; write a list of strings", inputs="a.png"),
    in_job("no place for an input", "inputs", "is not a list of inputs; write a list of strings", inputs={"a.png": 1}),
    in_job("a number in a second command", "command", "is not a command; write a string, or a list",
           command=[["a"], []]),
    in_job("a pattern that is none", "leave_out", "'*.tmp' is not a list; write a list",
           leave_out="*.tmp"),
    in_job("an upload flag of another command", "upload_flags",
           "'--delete' is not a supported upload flag; use one of --acl,", upload_flags="--delete"),
    in_job("an upload flag without its value", "upload_flags", "--acl has no value; write a value after it",
           upload_flags="--acl"),
    in_job("an access list that S3 lacks", "upload_flags", "--acl is 'bucket-owner', not one of private, public-read",
           upload_flags="--acl bucket-owner"),
    in_job("no time", "timeout_minutes", "0 is too small; write a number greater than 0", timeout_minutes=0),
    in_job("a word for a time", "timeout_minutes", "'abc' is not a number; write a number",
           timeout_minutes="abc"),
    in_job("69 days", "timeout_minutes", "100000 is too large; write a number that is at most 660",
           timeout_minutes=100_000),
    in_job("fewer than no files", "expected_files", "-1 is too small; write a number that is at least 0",
           expected_files=-1),
    in_job("an upload of nothing", "upload '../pictures'", "there is no file or folder files/../pictures; correct",
           upload={"../pictures": "pictures"}),
    in_job("an upload to a root", "upload 'here'", "'/a' is not a prefix in the bucket; write", upload={"here": "/a"}),
    in_job("an upload that climbs", "upload 'here'", "'../pictures' is not a prefix in the",
           upload={"here": "../pictures"}),
    in_job("a list for upload", "upload", 'is not an object; write {"local/folder"', upload=["here"]),
    in_job("a message over 1 MiB", "groups[1]", "bytes, more than the maximum of 1,040,384; shorten it; SQS accepts",
           groups=[{"well": "A" * 1024 * 1024}]),
    in_job("an input in no bucket", "groups[1]", "the input 's3:///x' has no valid bucket: '' is not a bucket name",
           inputs=["s3:///x"]),
    in_job("a bucket with a blank", "groups[1]", "'My Bucket', which is not a bucket name",
           output_bucket="My Bucket"),
    in_job("a location that climbs", "groups[2]", "`output_location` is '../x/",
           output_location="{well}", groups=[{"well": "A01"}, {"well": "../x"}]),
]  # fmt: skip

TABLE_MISTAKES = [
    in_table("a row too short", "jobs.csv", "well,plate\nA01,P1\nA02\n", ": line 3: ",
             "the row has 1 cells, but the header has 2"),
    in_table("a row too long", "jobs.tsv", "well\nA01\tP1\n", ": line 2: ",
             "the row has 2 cells, but the header has 1"),
    in_table("no name for a column", "jobs.csv", "well,\nA01,P1\n", ": line 1: ", "is not a header; give each column"),
    in_table("a name twice", "jobs.csv", "well,well\nA01,P1\n", ": line 1: ", "is not a header; give each column a"),
    in_table("no line at all", "jobs.csv", "", ": line 1: ", "[] is not a header"),
    in_table("not UTF-8", "jobs.csv", b"well\n\xff\n", ": ", "this is not UTF-8 text (invalid start byte); save"),
    in_table("an open quote", "jobs.csv", 'well\n"A01\n', ": ", "this is not a table (unexpected end of data); check"),
    in_table("no JSON", "jobs.jsonl", '{"well": "A01"}\n{well}\n', ": line 2, column 2: ",
             "missing key in double quotes"),
    in_table("a number in JSON lines", "jobs.jsonl", "7\n", ": line 1: ", "7 is not a job; write an object"),
    Mistake("table: a header alone", SUBMIT, "files/job.json: groups: ", "it contains no jobs",
            {"files/job.json": json.dumps(JOB | {"groups": "jobs.csv"}), "files/jobs.csv": "well\n"}),
]  # fmt: skip

FLEET_MISTAKES = [
    Mistake("fleet: missing", START, "files/fleet.json: ", "give the path of a fleet file", {"files/fleet.json": None}),
    Mistake("fleet: no JSON", START, "files/fleet.json: line 1, column 2: ", "not a JSON quote",
            {"files/fleet.json": "{'a'}"}),
    in_fleet("no specifications", "LaunchSpecifications: ", "this key is missing; list one", "LaunchSpecifications"),
    in_fleet("no list", "LaunchSpecifications: ", "is not a list of launch specifications; list one",
             LaunchSpecifications={"ImageId": "ami-1"}),
    in_fleet("a text for one", "LaunchSpecifications[0]: ", "'ami-1' is not an object", LaunchSpecifications=["ami-1"]),
    in_fleet("more specifications than types", "LaunchSpecifications: ",
             "2 launch specifications do not match 1 MACHINE_TYPE",
             LaunchSpecifications=FLEET["LaunchSpecifications"] * 2),
    Mistake("fleet: more types than specifications", START, "files/fleet.json: LaunchSpecifications: ",
            "2 launch specifications do not match 3 MACHINE_TYPE",
            {"config.py": format_config(CONFIG | {"MACHINE_TYPE": ["m5.large"] * 3}),
            "files/fleet.json": json.dumps(FLEET | {"LaunchSpecifications": FLEET["LaunchSpecifications"] * 2})}),
    in_fleet("no role", "IamFleetRole: ", "this key is missing; write the ARN", "IamFleetRole"),
    in_fleet("the role of the shipped file", "IamFleetRole: ", "is a placeholder; replace it with your account's own",
             IamFleetRole="arn:aws:iam::FILL_IN_ACCOUNT_ID:role/x"),
    in_specification("the image of the published file", "LaunchSpecifications[0].ImageId: ", "is a placeholder",
                     ImageId="ami-XXXXXXXX"),
    in_fleet("an unknown key", "IamFleetRolle: ", "AWS does not know this key; use one of ", IamFleetRolle="x"),
    in_specification("an unknown key inside", "LaunchSpecifications[0].Subnet: ", "does not know this key",
                     Subnet="subnet-01"),
    in_specification("a number for a text", "LaunchSpecifications[0].ImageId: ",
                     "7 is not a string; write it in quotes",
                     ImageId=7),
    in_specification("null for a text", "LaunchSpecifications[0].KeyName: ", "None is not a string; write it in quotes",
                     KeyName=None),
    in_fleet("a text for a truth value", "TerminateInstancesWithExpiration: ", "'yes' is not true or false; write",
             TerminateInstancesWithExpiration="yes"),
    in_fleet("a text for a number", "InstancePoolsToUseCount: ", "'two' is not a whole number; write",
             InstancePoolsToUseCount="two"),
    in_specification("a text for interfaces", "LaunchSpecifications[0].NetworkInterfaces: ", "is not a list of objects",
                     NetworkInterfaces="eni-1"),
    in_specification("no object for a disk", "LaunchSpecifications[0].BlockDeviceMappings[0].Ebs: ", "is not an object",
                     BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": 30}]),
]  # fmt: skip

MONITOR_MISTAKES = [
    Mistake("monitor: missing", WATCH, "files/monitor.json: ", "a monitor file: startCluster writes files/APP_NAME",
            {"files/monitor.json": None}),
    Mistake("monitor: published, with a quote too few", WATCH, "files/monitor.json: line 1, column 22: ",
            "not valid JSON",
            {"files/monitor.json": '{"MONITOR_FLEET_ID": sfr-1}'}),
    *(in_monitor(f"no {key}", key, "this key is missing; add it, or run startCluster again",
      key) for key in MONITOR if key != "CLEAN_DASHBOARD"),
    in_monitor("another's id", "MONITOR_FLEET_ID", "'i-0123456789' is not the ID of a Spot Fleet; write one such as",
               MONITOR_FLEET_ID="i-0123456789"),
    in_monitor("an app with a star", "MONITOR_APP_NAME", "'*' is not a valid name; use at most 80 letters",
               MONITOR_APP_NAME="*"),
    in_monitor("a number for a cluster", "MONITOR_ECS_CLUSTER", "7 is not a valid name; use at most",
               MONITOR_ECS_CLUSTER=7),
    in_monitor("the queue's URL", "MONITOR_QUEUE_NAME", "is not a queue name", MONITOR_QUEUE_NAME="https://sqs/q"),
    in_monitor("a bucket too short", "MONITOR_BUCKET_NAME", "'ab' is not a bucket name", MONITOR_BUCKET_NAME="ab"),
    in_monitor("no log group", "MONITOR_LOG_GROUP_NAME", "'' is not a log group name; use",
               MONITOR_LOG_GROUP_NAME=""),
    in_monitor("a date", "MONITOR_START_TIME", "'today' is not a whole number; write a whole number",
               MONITOR_START_TIME="today"),
    in_monitor("True for a time", "MONITOR_START_TIME", "True is not a whole number; write a whole number",
               MONITOR_START_TIME=True),
    in_monitor("a time in the year 50,000", "MONITOR_START_TIME", "write a number from 0 to",
               MONITOR_START_TIME=10**15),
    in_monitor("maybe", "CLEAN_DASHBOARD", "'maybe' is not 'True' or 'False'; write", CLEAN_DASHBOARD="maybe"),
]  # fmt: skip

TYPED_MISTAKES = [
    typed("no such command", "No such command 'submitjob'", "submitjob"),
    typed("no such option", "No such option '--fast'", "setup", "--fast"),
    typed("no job file", "Missing argument 'JOBFILE'; see: run.py submitJob --help", "submitJob"),
    typed("one file too many", "unexpected extra argument (b.json)", "submitJob", "files/job.json", "b.json"),
    typed("a word for minutes", "'soon' is not a valid number", *START, "--wait", "soon"),
    typed("less than no minutes", "-1.0 is not in the range 0<=x<=1440", *START, "--wait", "-1"),
    typed("minutes that are not a number", "'nan' is not a valid number", *START, "--wait", "nan"),
    typed("neither True nor False", "'maybe' is not one of 'true', 'false'", *WATCH, "maybe"),
    typed("interrupt on AWS", "type: run.py --local interrupt", "interrupt"),
    typed("stop on AWS", "type: run.py --local stop", "stop"),
    typed("no such project", "Directory 'nowhere' does not exist", "--project", "nowhere", "setup"),
    typed("no such config", "there is no such file; give the path of a config file", "setup", "--config", "mine.py",
          begins="mine.py: "),
    typed("a folder for a config", "it cannot be read (Is a directory)", "setup", "--config", "files",
          begins="files: "),
    typed("a folder for a job file", "cannot be read (Is a directory); give the path of a job file",
          "submitJob", "files", begins="files: "),
]  # fmt: skip

MISTAKES = [
    *CONFIG_MISTAKES, *JOB_MISTAKES, *TABLE_MISTAKES, *FLEET_MISTAKES, *MONITOR_MISTAKES, *TYPED_MISTAKES,
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_sent() -> Iterator[None]:
    with block_requests():
        yield


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_answered_with_one_line_that_helps_and_nothing_else_happens(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    put_files(tmp_path, mistake)
    before = _everything_in(tmp_path)
    outcome = run_command("--project", str(tmp_path), *mistake.arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert all(line.startswith("run.py: ") for line in outcome.err.splitlines())
    assert outcome.err.startswith(f"run.py: {mistake.begins}")
    assert mistake.words in outcome.err
    assert "; " in outcome.err  # what is wrong; what would be right
    assert len(outcome.err) < 1000 + len("".join(mistake.arguments))
    assert _everything_in(tmp_path) == before


def test_the_project_that_the_mistakes_are_made_in_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    message = '{"command": "echo {well}", "group": {"well": "A01"}}'
    outcome = run_command("--project", str(tmp_path), *SUBMIT, "--dry-run")
    assert outcome == Outcome(0, f"2 jobs; the first message:\n{message}\n", "")
    loaded = load_settings(tmp_path / "config.py")
    check_fleet_file(_ec2(), loaded, load_fleet_file(tmp_path / "files" / "fleet.json"), Path("fleet.json"))
    assert load_monitor_file(tmp_path / "files" / "monitor.json").MONITOR_APP_NAME == "Tryout"


def put_files(project: Path, mistake: Mistake) -> None:
    """The mistake is in the project."""
    (project / "files" / "here").mkdir()
    for path, content in mistake.files.items():
        _put(project / path, content)


def _put(path: Path, content: str | bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _ec2() -> Any:
    return boto3.Session("test", "test", region_name="us-east-1").client("ec2")


# Properties. Reproducible: the same hundred inputs a property each time.
never = settings(
    derandomize=True, max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
json_values = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MARKS = [
    "{well}", "{job}", "{", "{{a}}", "'", "$(x)", "../", "/", "s3://b/", "jobs.csv", "\0", "\n", "", "💥", "\ud800",
]  # fmt: skip
texts = st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=4).map("".join)
JOB_KEYS = (
    "command", "shell", "inputs", "input_bucket", "output_location", "output_bucket", "timeout_minutes",
    "expected_files", "leave_out", "upload_flags", "upload", "_comment", "own",
)  # fmt: skip


def keyed(names: tuple[str, ...], some: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries with some of these keys."""
    return st.dictionaries(st.sampled_from(names), some, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("properties") / "project")


def assert_0_or_2(outcome: Outcome) -> None:
    """Success, or one line for each problem; nothing that a terminal could not show."""
    assert outcome.code in (0, 2), outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.code == 0 or outcome.err.count("\n") >= 1
    assert all(line.isprintable() for line in outcome.err.splitlines())


def assert_accepted_or_refused(check: Callable[[], object]) -> None:
    message = ""
    try:
        check()
    except InputError as error:
        message = str(error)
    assert all(line.isprintable() for line in message.splitlines())


def dry_run(folder: Path) -> Outcome:
    return run_command("--project", str(folder), "submitJob", str(folder / "files" / "job.json"), "--dry-run")


def own_copy(folder: Path, name: str, content: str | bytes) -> Path:
    """A project beside `folder` that only the named test uses, with this file in it."""
    path = folder.parent / name
    if not path.exists():
        write_project(path)
    _put(path / "files" / "job.json" if name.startswith("job") else path / "config.py", content)
    return path


@never
@given(constants=keyed((*Settings.model_fields, "MINE", "PATH"), json_values | texts))
@example({"MINE": 10**5000})
@example({"SQS_DEAD_LETTER_QUEUE": "arn:"})
def test_no_constants_of_a_config_give_a_traceback(folder: Path, constants: dict[str, object]) -> None:
    text = format_config(CONFIG) + "".join(f"{name} = {_source(value)}\n" for name, value in constants.items())
    assert_0_or_2(dry_run(own_copy(folder, "config-constants", text)))


def _source(value: object) -> str:
    return "10**5000" if isinstance(value, int) and value.bit_length() > 10_000 else ascii(value)


@never
@given(content=st.binary(max_size=60))
@example(b"\xa7\r\r\n" + bytes(16))
@example(b"A = '\\d'\nB = 1 is 1")
@example(b"raise ValueError('\\ud800\\x1b[2J')")
def test_no_bytes_as_a_config_give_a_traceback(folder: Path, content: bytes) -> None:
    assert_0_or_2(dry_run(own_copy(folder, "config-bytes", content)))


@never
@given(content=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"groups": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"a": ' + b"9" * 5000 + b"}")
def test_no_bytes_as_a_job_file_give_a_traceback(folder: Path, content: bytes) -> None:
    assert_0_or_2(dry_run(own_copy(folder, "job-bytes", content)))


@never
@given(
    keys=keyed(JOB_KEYS, json_values | texts | st.lists(texts, max_size=3)),
    groups=st.lists(keyed(("well", "plate"), texts) | json_values, max_size=4)
    | st.fixed_dictionaries({"cross": keyed(("well", "plate"), st.lists(json_values | texts, max_size=2))})
    | json_values
    | texts,
)
def test_no_keys_of_a_job_file_give_a_traceback(folder: Path, keys: dict[str, object], groups: object) -> None:
    if isinstance(groups, dict) and "s3" in groups:
        return  # it would ask S3, which is not there
    content = {"command": "echo {well}"} | keys | {"groups": groups}
    assert_0_or_2(dry_run(own_copy(folder, "job-keys", json.dumps(content))))


@never
@given(
    kind=st.sampled_from(["csv", "tsv", "jsonl"]),
    content=st.binary() | texts.map(lambda text: b"well,plate\n" + text.encode(errors="surrogatepass"))
    | st.lists(json_values, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode()),
)  # fmt: skip
@example("csv", b"well\n" + b"x" * 200_000)
@example("jsonl", b'{"well": ' + b"[" * 900 + b"]" * 900 + b"}")
def test_no_bytes_as_a_table_give_a_traceback(folder: Path, kind: str, content: bytes) -> None:
    project = own_copy(folder, "job-table", json.dumps(JOB | {"groups": f"jobs.{kind}"}))
    _put(project / "files" / f"jobs.{kind}", content)
    assert_0_or_2(dry_run(project))


FLEET_KEYS = ("IamFleetRole", "TargetCapacity", "SpotPrice", "ValidUntil", "Type", "TagSpecifications", "X")
SPECIFICATION_KEYS = (
    "ImageId", "InstanceType", "UserData", "NetworkInterfaces", "BlockDeviceMappings", "TagSpecifications", "X",
)  # fmt: skip


@never
@given(
    keys=keyed(FLEET_KEYS, json_values | texts),
    specification=keyed(SPECIFICATION_KEYS, json_values | st.lists(keyed(("Ebs", "DeviceIndex"), json_values))),
    whole=st.none() | json_values | st.binary(),
)  # fmt: skip
@example({}, {}, b'{"LaunchSpecifications": ' + b"[" * 900 + b"]" * 900 + b"}")
def test_no_fleet_file_gives_a_traceback(folder: Path, keys: object, specification: object, whole: object) -> None:
    path = folder / "files" / "any-fleet.json"
    first = FLEET["LaunchSpecifications"][0] | specification
    content = FLEET | {"LaunchSpecifications": [first]} | keys if whole is None else whole
    _put(path, content if isinstance(content, bytes) else json.dumps(content))
    loaded, ec2 = load_settings(folder / "config.py"), _ec2_once()
    assert_accepted_or_refused(lambda: check_fleet_file(ec2, loaded, load_fleet_file(path), path))


_made: list[Any] = []


def _ec2_once() -> Any:
    """One client for all examples: making one takes longer than using it."""
    if not _made:
        _made.append(_ec2())
    return _made[0]


@never
@given(keys=keyed((*MONITOR, "X"), json_values | texts), whole=st.none() | json_values | st.binary())
def test_no_monitor_file_gives_a_traceback(folder: Path, keys: dict[str, object], whole: object) -> None:
    path = folder / "files" / "any-monitor.json"
    content = MONITOR | keys if whole is None else whole
    _put(path, content if isinstance(content, bytes) else json.dumps(content))

    def check() -> None:
        assert load_monitor_file(path).run.endswith("Z")

    assert_accepted_or_refused(check)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)  # no system lets a zero byte in
WORDS = [
    "setup", "submitJob", "startCluster", "monitor", "interrupt", "stop", "--help", "--dry-run", "--resume", "--wait",
    "--config", "--project", "--containers", "--cheapest", "--notice", "True", "config.py", "-1", "/", "",
]  # fmt: skip


@never
@given(arguments=st.lists(st.sampled_from(WORDS) | words, max_size=5))
def test_no_arguments_give_a_traceback(folder: Path, arguments: list[str]) -> None:
    shipped = own_copy(folder, "config-shipped", format_config(CONFIG | {"AWS_BUCKET": "your-bucket-name"}))
    outcome = run_command("--project", str(shipped), *arguments)
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err
    assert "Usage:" in outcome.err or outcome.err.count("\n") <= 1
