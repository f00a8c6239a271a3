"""Invalid user input: the exit code is 2, one line gives the file, key, and remedy, and nothing is sent or created.

The first part tests mistakes that people make, each with the expected message. The second part tests properties:
whatever the files and the arguments contain, there is no traceback, and the exit code is 0 or 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError
from distributed_something.core.monitor_file import load_monitor_file
from distributed_something.fleet.fleet_file import check_fleet_file, load_fleet_file
from distributed_something.project.config_file import load_settings
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
    """A mistake: the command's arguments, the invalid files, and the start and another part of the expected message.

    `files`: content, keyed by path; None deletes the file.
    """

    name: str
    arguments: tuple[str, ...]
    message_start: str
    message_part: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)


def break_config(name: str, key: str, source: str, message_part: str) -> Mistake:
    """Return a mistake in a valid config to which the line `KEY = SOURCE` is added."""
    text = format_config(CONFIG) + f"{key.partition('[')[0]} = {source}\n"
    return Mistake(f"config: {name}", ("setup",), f"config.py: {key}: ", message_part, {"config.py": text})


def replace_config(name: str, text: str | bytes | None, message_start: str, message_part: str) -> Mistake:
    return Mistake(f"config: {name}", ("setup",), f"config.py: {message_start}", message_part, {"config.py": text})


def break_job(name: str, key: str, message_part: str, *missing_keys: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (JOB | keys).items() if name not in missing_keys}
    return replace_job_file(name, json.dumps(content), f"{key}: ", message_part)


def replace_job_file(name: str, text: str | bytes | None, message_start: str, message_part: str) -> Mistake:
    files = {"files/job.json": text}
    return Mistake(f"job: {name}", SUBMIT, f"files/job.json: {message_start}", message_part, files)


def break_table(name: str, table: str, text: str | bytes, message_start: str, message_part: str) -> Mistake:
    job = json.dumps(JOB | {"groups": table})
    files = {"files/job.json": job, f"files/{table}": text}
    return Mistake(f"table: {name}", SUBMIT, f"files/{table}{message_start}", message_part, files)


def break_fleet(name: str, key: str, message_part: str, *missing_keys: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (FLEET | keys).items() if name not in missing_keys}
    files = {"files/fleet.json": json.dumps(content)}
    return Mistake(f"fleet: {name}", START, f"files/fleet.json: {key}", message_part, files)


def break_specification(name: str, key: str, message_part: str, **keys: object) -> Mistake:
    specifications = [FLEET["LaunchSpecifications"][0] | keys]
    return break_fleet(name, key, message_part, LaunchSpecifications=specifications)


def break_monitor(name: str, key: str, message_part: str, *missing_keys: str, **keys: object) -> Mistake:
    content = {name: value for name, value in (MONITOR | keys).items() if name not in missing_keys}
    files = {"files/monitor.json": json.dumps(content)}
    return Mistake(f"monitor: {name}", WATCH, f"files/monitor.json: {key}: ", message_part, files)


def break_command(name: str, message_part: str, *arguments: str, message_start: str = "") -> Mistake:
    return Mistake(f"command: {name}", arguments, message_start, message_part)


CONFIG_MISTAKES = [
    replace_config("missing file", None, "", "there is no such file; give the path of a config file"),
    replace_config("not UTF-8", b"APP_NAME = '\xff'", "byte 12: ", "not UTF-8 text; save the file as UTF-8"),
    replace_config("not Python", "APP_NAME = 'a\n", "line 1: ",
                   "this is not valid Python (unterminated string literal"),
    replace_config("calls sys.exit", "import sys\nsys.exit(3)\n", "line 2: ", "SystemExit: 3; correct this line"),
    replace_config("raises an error", "A = 1\nB = 1 / 0\n", "line 2: ",
                   "ZeroDivisionError: division by zero; correct this line"),
    replace_config("undefined name", "APP_NAME = Tryout\n", "line 1: ",
                   "'Tryout' is not defined; write text in quotes"),
    replace_config("error message with two lines", "raise ValueError('a\\nb')\n", "line 1: ",
                   "ValueError: a b; correct"),
    replace_config("empty file", "", "APP_NAME: ", "this key is missing; add it\nrun.py: config.py: DOCKERHUB_TAG: "),
    break_config("uppercase bucket name", "AWS_BUCKET", "'MyBucket'",
                 "'MyBucket' is not a bucket name; use 3 to 63 lowercase"),
    break_config("bucket address", "AWS_BUCKET", "'s3://mine'", "'s3://mine' is not a bucket name; use"),
    break_config("space in a queue name", "SQS_QUEUE_NAME", "'my queue'",
                 "'my queue' is not a queue name; use at most 80"),
    break_config("zone instead of a region", "AWS_REGION", "'us-east-1a'",
                 "is not an AWS region; write one such as 'us-east-1'"),
    break_config("uppercase image name", "DOCKERHUB_TAG", "'User/Image'", "is not an image name; write one such as"),
    break_config("slash in APP_NAME", "APP_NAME", "'a/b'", "'a/b' is not a valid name; use at most 80 letters, digits"),
    break_config("size instead of a machine type", "MACHINE_TYPE[1]", "'large'",
                 "'large' is not an EC2 instance type; write one such as"),
    break_config("empty list of machine types", "MACHINE_TYPE", "[]", "[] is too short; list at least 1"),
    break_config("visibility of 0", "SQS_MESSAGE_VISIBILITY", "0",
                 "0 is too small; write a number that is at least 10"),
    break_config("visibility of 14 hours", "SQS_MESSAGE_VISIBILITY", "50000",
                 "is too large; write a number that is at most 43200"),
    break_config("disk too small", "EBS_VOL_SIZE", "21", "21 is too small; write a number that is at least 22"),
    break_config("0 machines", "CLUSTER_MACHINES", "0", "0 is too small; write a number that is at least 1"),
    break_config("10,001 machines", "CLUSTER_MACHINES", "10001", "is too large; write a number that is at most 10000"),
    break_config("True instead of a number", "CLUSTER_MACHINES", "True", "True is not a number; write a number"),
    break_config("2.5 machines", "CLUSTER_MACHINES", "2.5", "2.5 is not a whole number; write a whole number"),
    break_config("word instead of a number", "MEMORY", "'much'", "'much' is not a whole number; write a whole number"),
    break_config("number with 5,000 digits", "MEMORY", "10**5000", "this int is too large"),
    break_config("None as a price", "MACHINE_PRICE", "None",
                 "None is not a number; write a number with a decimal point"),
    break_config("nan as a price", "MACHINE_PRICE", "float('nan')", "nan is not a finite number"),
    break_config("neither True nor False", "CHECK_IF_DONE_BOOL", "'maybe'",
                 "'maybe' is not 'True' or 'False'; write 'True' or 'False'"),
    break_config("comma in a price", "MACHINE_PRICE", "0,10", "(0, 10) is not a number; write 0.10, with a dot"),
    break_config("1 instead of True", "ASSIGN_IP", "1", "1 is not 'True' or 'False'; write"),
    break_config("same name for both queues", "SQS_DEAD_LETTER_QUEUE", "SQS_QUEUE_NAME",
                 "is also SQS_QUEUE_NAME; give the two queues different names"),
    break_config("dead-letter queue in another region", "SQS_DEAD_LETTER_QUEUE",
                 "'arn:aws:sqs:eu-west-2:111122223333:Dead'",
                 "is in the region eu-west-2; use a queue in us-east-1: SQS moves no messages between regions"),
    break_config("FIFO queue", "SQS_DEAD_LETTER_QUEUE", "'Dead.fifo'",
                 "'Dead.fifo' is a FIFO queue; use a standard queue, like the job queue"),
    break_config("ARN of a FIFO queue", "SQS_DEAD_LETTER_QUEUE", "'arn:aws:sqs:us-east-1:111122223333:Dead.fifo'",
                 "is a FIFO queue; use a standard queue, like the job queue"),
    break_config("reserved app name", "APP_NAME", "'shared'",
                 "'shared' is reserved as the tag of shared queues; choose another name"),
    break_config("another app's test run", "APP_NAME", "'My-testRun'",
                 "'My-testRun' is reserved for testRun, because of -testRun; choose another name"),
    break_config("another app's test queue", "SQS_QUEUE_NAME", "'My-testRunQueue'", "is reserved for testRun"),
    break_config("another app's test cluster", "ECS_CLUSTER", "'My-testRun'", "is reserved for testRun"),
    break_config("secret", "AWS_SECRET_ACCESS_KEY", "'x'",
                 "its value is a secret that must not be sent; choose another name"),
    break_config("reserved name", "SQS_QUEUE_URL", "'x'", "this name is reserved"),
    break_config("unsupported object", "MINE", "object()",
                 "a value of type object cannot be passed to the container; use a string"),
    break_config("half of a surrogate pair", "MINE", r"'\ud800'", "is not valid Unicode text; use a string"),
    break_config("null byte", "MINE", r"'\0'", "a null byte cannot be passed to the container; remove it"),
    break_config("placeholder bucket", "AWS_BUCKET", "'your-bucket-name'",
                 "is a placeholder; replace it with your own"),
    break_config("placeholder image", "DOCKERHUB_TAG", "'user/distributed-something:latest'", "--local"),
]  # fmt: skip

JOB_MISTAKES = [
    replace_job_file("missing file", None, "", "there is no such file; give the path of a job file"),
    replace_job_file("not UTF-8", b'{"a": "\xe9"}', "byte 7: ", "save the file as UTF-8"),
    replace_job_file("empty file", "", "line 1, column 1: ", "the file is empty; write one JSON object"),
    replace_job_file("trailing comma", '{"a": 1,}', "line 1, column 8: ", "trailing comma before }; remove it"),
    replace_job_file("list instead of an object", "[]", "",
                     'it contains a JSON list, not an object; write one JSON object'),
    replace_job_file("duplicate key", '{"command": "a", "command": "b"}', "'command': ",
                     "duplicate key; keep one of them"),
    replace_job_file("NaN", '{"a": NaN}', "NaN: ", "this is not a JSON value; use a number, a string, or null"),
    replace_job_file("infinite number", '{"a": 1e999}', "1e999: ", "this is not a JSON value"),
    replace_job_file("half of a surrogate pair", r'{"a": "\ud800"}', r"'\ud800': ",
                     "this is one half of a surrogate pair, not a character; write"),
    replace_job_file("60 nested lists", '{"a": ' + "[" * 60 + "]" * 60 + "}", "",
                     "nested too deeply or too large (more than 50 levels)"),
    break_job("groups missing", "groups", "this key is missing; list the jobs", "groups"),
    break_job("two lists of jobs", "groups", "the file has both 'groups' and 'plates'; remove one", plates=["P1"]),
    break_job("empty list of jobs", "groups", "it contains no jobs; list at least one", groups=[]),
    break_job("empty job", "groups[1]", "{} is not a job; write an object", groups=[{}]),
    break_job("number instead of a job", "groups[2]", "7 is not a job; write an object", groups=[{"well": "A01"}, 7]),
    break_job("duplicate job", "groups", "jobs 1 and 3 are the same job; keep one",
              groups=[{"well": "A01"}, {"well": "A02"}, {"well": "A01"}]),
    break_job("unfilled placeholder", "command", "nothing fills the placeholder {plate} in groups[1]",
              command="echo {plate}"),
    break_job("placeholder unfilled in one job", "command", "{well} in groups[2]; use one of its keys (plate)",
              groups=[{"well": "A01"}, {"plate": "P1"}]),
    break_job("unfilled placeholder in inputs", "inputs", "nothing fills the placeholder {row}",
              inputs=["images/{row}.png"]),
    break_job("reserved key", "group", "this name is reserved for the job's own values", group={"a": 1}),
    break_job("table that does not exist", "groups", "there is no table files/jobs.csv; correct the path",
              groups="jobs.csv"),
    break_job("unsupported table format", "groups", "'jobs.xlsx' is not a table; name a .csv", groups="jobs.xlsx"),
    break_job("unsupported source of jobs", "groups", "is not a list of jobs; write a list of objects",
              groups={"wells": ["A01"]}),
    break_job("cross without lists", "groups.cross", "{} has no lists of values; write", groups={"cross": {}}),
    break_job("cross with an empty list", "groups.cross.well", "[] is not a list of values; write",
              groups={"cross": {"well": []}}),
    break_job("cross with a string", "groups.cross.well", "'A01' is not a list of values",
              groups={"cross": {"well": "A01"}}),
    break_job("address without s3://", "groups.s3", "'mine/in/' is not the address of a bucket; write an",
              groups={"s3": "mine/in/"}),
    break_job("address without a bucket", "groups.s3", "'s3:///in/' is not the address of a bucket",
              groups={"s3": "s3:///in/"}),
    break_job("space in an address", "groups.s3", "is not the address of a bucket",
              groups={"s3": "s3://my bucket/in/"}),
    break_job("number instead of a pattern", "groups.match", "5 is not a pattern",
              groups={"s3": "s3://mine/in/", "match": 5}),
    break_job("number instead of a command", "command", "7 is not a command; write a string, or a list", command=7),
    break_job("empty command", "command", "'' is not a command; write a string", command=""),
    break_job("nested list in a command", "command", "is not a command; write a string, or a list",
              command=["echo", ["a"]]),
    break_job("unclosed quote", "command", "(No closing quotation); close the quote", command="echo '{well}"),
    break_job("shell with a list", "shell", "with `shell`, the command must be a single string; write",
              shell=True, command=["a"]),
    break_job("shell without a command", "shell", "with `shell`, the command must be a single", "command",
              shell=True, x="{well}"),
    break_job("word instead of true or false", "shell", "'yes' is not true or false; write true or false", shell="yes"),
    break_job("string instead of a list of inputs", "inputs",
              "'a.png' is not a list of inputs; write a list of strings", inputs="a.png"),
    break_job("number as the folder of an input", "inputs", "is not a list of inputs; write a list of strings",
              inputs={"a.png": 1}),
    break_job("empty list as the second command", "command", "is not a command; write a string, or a list",
              command=[["a"], []]),
    break_job("string instead of a list of patterns", "leave_out", "'*.tmp' is not a list; write a list",
              leave_out="*.tmp"),
    break_job("unsupported upload flag", "upload_flags",
              "'--delete' is not a supported upload flag; use one of --acl,", upload_flags="--delete"),
    break_job("upload flag without a value", "upload_flags", "--acl has no value; write a value after it",
              upload_flags="--acl"),
    break_job("unknown access control list", "upload_flags", "--acl is 'bucket-owner', not one of private, public-read",
              upload_flags="--acl bucket-owner"),
    break_job("time limit of 0", "timeout_minutes", "0 is too small; write a number greater than 0", timeout_minutes=0),
    break_job("word instead of a time limit", "timeout_minutes", "'abc' is not a number; write a number",
              timeout_minutes="abc"),
    break_job("time limit of 69 days", "timeout_minutes", "100000 is too large; write a number that is at most 660",
              timeout_minutes=100_000),
    break_job("negative number of files", "expected_files", "-1 is too small; write a number that is at least 0",
              expected_files=-1),
    break_job("upload folder that does not exist", "upload '../pictures'",
              "there is no file or folder files/../pictures; correct",
              upload={"../pictures": "pictures"}),
    break_job("upload prefix that starts with a slash", "upload 'here'", "'/a' is not a prefix in the bucket; write",
              upload={"here": "/a"}),
    break_job("upload prefix with ..", "upload 'here'", "'../pictures' is not a prefix in the",
              upload={"here": "../pictures"}),
    break_job("list instead of an upload object", "upload", 'is not an object; write {"local/folder"', upload=["here"]),
    break_job("message larger than 1 MiB", "groups[1]",
              "bytes, more than the maximum of 1,040,384; shorten it; SQS accepts",
              groups=[{"well": "A" * 1024 * 1024}]),
    break_job("input without a bucket", "groups[1]", "the input 's3:///x' has no valid bucket: '' is not a bucket name",
              inputs=["s3:///x"]),
    break_job("space in a bucket name", "groups[1]", "'My Bucket', which is not a bucket name",
              output_bucket="My Bucket"),
    break_job("output location with ..", "groups[2]", "`output_location` is '../x/",
              output_location="{well}", groups=[{"well": "A01"}, {"well": "../x"}]),
]  # fmt: skip

TABLE_MISTAKES = [
    break_table("row with too few cells", "jobs.csv", "well,plate\nA01,P1\nA02\n", ": line 3, column 2: ",
                "the row has 1 cell, but the header has 2"),
    break_table("row with too many cells", "jobs.tsv", "well\nA01\tP1\n", ": line 2, column 2: ",
                "the row has 2 cells, but the header has 1"),
    break_table("column without a name", "jobs.csv", "well,,x\nA01,P1,1\n", ": line 1, column 2: ",
                "the column has no name; give each column"),
    break_table("duplicate column name", "jobs.csv", "well,well\nA01,P1\n", ": line 1, column 2: ",
                "'well' is also the name of column 1; give each column a"),
    break_table("empty table", "jobs.csv", "", ": line 1: ", "there is no header; write"),
    break_table("not UTF-8", "jobs.csv", b"well\n\xff\n", ": line 2, column 1: ", "this is not UTF-8 text; save"),
    break_table("unclosed quote", "jobs.csv", 'well\n"A01\n', ": line 2, column 1: ",
                "the quote is not closed; add"),
    break_table("invalid JSON", "jobs.jsonl", '{"well": "A01"}\n{well}\n', ": line 2, column 2: ",
                "missing key in double quotes"),
    break_table("number in a JSON lines table", "jobs.jsonl", "7\n", ": line 1: ", "7 is not a job; write an object"),
    Mistake("table: header without rows", SUBMIT, "files/job.json: groups: ", "it contains no jobs",
            {"files/job.json": json.dumps(JOB | {"groups": "jobs.csv"}), "files/jobs.csv": "well\n"}),
]  # fmt: skip

FLEET_MISTAKES = [
    Mistake("fleet: missing file", START, "files/fleet.json: ", "give the path of a fleet file",
            {"files/fleet.json": None}),
    Mistake("fleet: invalid JSON", START, "files/fleet.json: line 1, column 2: ", "not a JSON quote",
            {"files/fleet.json": "{'a'}"}),
    break_fleet("specifications missing", "LaunchSpecifications: ", "this key is missing; list one",
                "LaunchSpecifications"),
    break_fleet("object instead of a list", "LaunchSpecifications: ",
                "is not a list of launch specifications; list one",
                LaunchSpecifications={"ImageId": "ami-1"}),
    break_fleet("string instead of a specification", "LaunchSpecifications[0]: ", "'ami-1' is not an object",
                LaunchSpecifications=["ami-1"]),
    break_fleet("more specifications than types", "LaunchSpecifications: ",
                "2 launch specifications do not match 1 MACHINE_TYPE",
                LaunchSpecifications=FLEET["LaunchSpecifications"] * 2),
    Mistake("fleet: more types than specifications", START, "files/fleet.json: LaunchSpecifications: ",
            "2 launch specifications do not match 3 MACHINE_TYPE",
            {"config.py": format_config(CONFIG | {"MACHINE_TYPE": ["m5.large"] * 3}),
            "files/fleet.json": json.dumps(FLEET | {"LaunchSpecifications": FLEET["LaunchSpecifications"] * 2})}),
    break_fleet("role missing", "IamFleetRole: ", "this key is missing; write the ARN", "IamFleetRole"),
    break_fleet("placeholder role", "IamFleetRole: ", "is a placeholder; replace it with your account's own",
                IamFleetRole="arn:aws:iam::FILL_IN_ACCOUNT_ID:role/x"),
    break_specification("placeholder image", "LaunchSpecifications[0].ImageId: ", "is a placeholder",
                        ImageId="ami-XXXXXXXX"),
    break_fleet("unknown key", "IamFleetRolle: ", "AWS does not recognize this key; write IamFleetRole",
                IamFleetRolle="x"),
    break_specification("unknown key in a specification", "LaunchSpecifications[0].Subnet: ",
                        "does not recognize this key",
                        Subnet="subnet-01"),
    break_specification("number instead of a string", "LaunchSpecifications[0].ImageId: ",
                        "7 is not a string; write it in quotes",
                        ImageId=7),
    break_specification("list instead of a string", "LaunchSpecifications[0].KeyName: ",
                        '["my-key"] is not a string; write it in quotes',
                        KeyName=["my-key"]),
    break_fleet("string instead of true or false", "TerminateInstancesWithExpiration: ",
                "'yes' is not true or false; write",
                TerminateInstancesWithExpiration="yes"),
    break_fleet("string instead of a number", "InstancePoolsToUseCount: ", "'two' is not a whole number; write",
                InstancePoolsToUseCount="two"),
    break_specification("string instead of a list of interfaces", "LaunchSpecifications[0].NetworkInterfaces: ",
                        "is not a list of objects",
                        NetworkInterfaces="eni-1"),
    break_specification("number instead of a disk", "LaunchSpecifications[0].BlockDeviceMappings[0].Ebs: ",
                        "is not an object",
                        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": 30}]),
]  # fmt: skip

MONITOR_MISTAKES = [
    Mistake("monitor: missing file", WATCH, "files/monitor.json: ",
            "a monitor file: startCluster writes files/TryoutSpotFleetRequestId.json; type, as far as you have not:",
            {"files/monitor.json": None}),
    Mistake("monitor: published file with a missing quote", WATCH, "files/monitor.json: line 1, column 22: ",
            "not valid JSON",
            {"files/monitor.json": '{"MONITOR_FLEET_ID": sfr-1}'}),
    *(break_monitor(f"{key} missing", key, "this key is missing; add it, or run startCluster again",
      key) for key in MONITOR if key != "CLEAN_DASHBOARD"),
    break_monitor("instance ID instead of a fleet ID", "MONITOR_FLEET_ID",
                  "'i-0123456789' is not the ID of a Spot Fleet; write one such as",
                  MONITOR_FLEET_ID="i-0123456789"),
    break_monitor("asterisk in an app name", "MONITOR_APP_NAME", "'*' is not a valid name; use at most 80 letters",
                  MONITOR_APP_NAME="*"),
    break_monitor("number instead of a cluster name", "MONITOR_ECS_CLUSTER", "7 is not a valid name; use at most",
                  MONITOR_ECS_CLUSTER=7),
    break_monitor("queue URL instead of a queue name", "MONITOR_QUEUE_NAME", "is not a queue name",
                  MONITOR_QUEUE_NAME="https://sqs/q"),
    break_monitor("bucket name too short", "MONITOR_BUCKET_NAME", "'ab' is not a bucket name",
                  MONITOR_BUCKET_NAME="ab"),
    break_monitor("empty log group name", "MONITOR_LOG_GROUP_NAME", "'' is not a log group name; use",
                  MONITOR_LOG_GROUP_NAME=""),
    break_monitor("word instead of a time", "MONITOR_START_TIME", "'today' is not a whole number; write a whole number",
                  MONITOR_START_TIME="today"),
    break_monitor("True instead of a time", "MONITOR_START_TIME", "true is not a whole number; write a whole number",
                  MONITOR_START_TIME=True),
    break_monitor("time too far in the future", "MONITOR_START_TIME", "write a number from 0 to",
                  MONITOR_START_TIME=10**15),
    break_monitor("neither True nor False", "CLEAN_DASHBOARD", "'maybe' is not true or false; write",
                  CLEAN_DASHBOARD="maybe"),
]  # fmt: skip

COMMAND_MISTAKES = [
    break_command("unknown command", "No such command 'submitjob'", "submitjob"),
    break_command("unknown option", "No such option '--fast'", "setup", "--fast"),
    break_command("job file missing", "Missing argument 'JOBFILE'; see: run.py submitJob --help", "submitJob"),
    break_command("too many arguments", "unexpected extra argument (b.json)", "submitJob", "files/job.json", "b.json"),
    break_command("word instead of minutes", "'soon' is not a valid number", *START, "--wait", "soon"),
    break_command("negative minutes", "-1.0 is not in the range 0<=x<=1440", *START, "--wait", "-1"),
    break_command("nan minutes", "'nan' is not a valid number", *START, "--wait", "nan"),
    break_command("neither True nor False", "'maybe' is not one of 'true', 'false'", *WATCH, "maybe"),
    break_command("interrupt on AWS", "type:\n  python run.py --local ", "interrupt",
                  message_start="interrupt: works only with the local cloud"),
    break_command("stop on AWS", "type:\n  python run.py --local ", "stop",
                  message_start="stop: works only with the local cloud"),
    break_command("project that does not exist", "Directory 'nowhere' does not exist", "--project", "nowhere", "setup"),
    break_command("config that does not exist", "there is no such file; give the path of a config file", "setup",
                  "--config", "mine.py",
                  message_start="mine.py: "),
    break_command("folder instead of a config", "it cannot be read (Is a directory)", "setup", "--config", "files",
                  message_start="files: "),
    break_command("folder instead of a job file", "cannot be read (Is a directory); give the path of a job file",
                  "submitJob", "files", message_start="files: "),
    break_command("report below a file", "this folder cannot be created: Not a directory; choose another with -o",
                  "report", "files/monitor.json", "-o", "files/job.json/here", message_start="files/job.json/here: "),
    break_command("report in a file", "is a file; see: run.py report --help",
                  "report", "files/monitor.json", "-o", "files/job.json", message_start="Invalid value for '-o'"),
]  # fmt: skip

MISTAKES = [
    *CONFIG_MISTAKES, *JOB_MISTAKES, *TABLE_MISTAKES, *FLEET_MISTAKES, *MONITOR_MISTAKES, *COMMAND_MISTAKES,
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _requests_blocked() -> Iterator[None]:
    with block_requests():
        yield


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_reported_in_one_line_and_nothing_else_happens(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    put_files(tmp_path, mistake)
    before = read_all_files(tmp_path)
    outcome = run_command("--project", str(tmp_path), *mistake.arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert all(line.startswith(("run.py: ", "  ")) for line in outcome.err.splitlines()), (
        "commands are below their line"
    )
    assert outcome.err.startswith(f"run.py: {mistake.message_start}")
    assert mistake.message_part in outcome.err
    assert "; " in outcome.err  # separates the problem from the remedy
    assert len(outcome.err) < 1000 + len("".join(mistake.arguments))
    assert read_all_files(tmp_path) == before


def test_the_project_is_valid_without_the_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    message = '{"command": "echo {well}", "group": {"well": "A01"}}'
    outcome = run_command("--project", str(tmp_path), *SUBMIT, "--dry-run")
    assert outcome == Outcome(0, f"2 jobs; the first message:\n{message}\n", "")
    loaded = load_settings(tmp_path / "config.py")
    check_fleet_file(build_ec2_client(), loaded, load_fleet_file(tmp_path / "files" / "fleet.json"), Path("fleet.json"))
    assert load_monitor_file(tmp_path / "files" / "monitor.json").MONITOR_APP_NAME == "Tryout"


def put_files(project: Path, mistake: Mistake) -> None:
    """Write the mistake's files into the project."""
    (project / "files" / "here").mkdir()
    for path, content in mistake.files.items():
        write_or_delete_file(project / path, content)


def write_or_delete_file(path: Path, content: str | bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def read_all_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@cache
def build_ec2_client() -> Any:
    """Return one client for all tests, because building a client takes longer than using it."""
    return boto3.Session("test", "test", region_name="us-east-1").client("ec2")


# Properties. Each one is checked with the same hundred inputs every time.
hundred_examples = settings(
    derandomize=True, max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SPECIAL_TEXTS = [
    "{well}", "{job}", "{", "{{a}}", "'", "$(x)", "../", "/", "s3://b/", "jobs.csv", "\0", "\n", "", "💥", "\ud800",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(SPECIAL_TEXTS) | st.text(max_size=3), max_size=4).map("".join)
JOB_KEYS = (
    "command", "shell", "inputs", "input_bucket", "output_location", "output_bucket", "timeout_minutes",
    "expected_files", "leave_out", "shared_location", "upload_flags", "upload", "_comment", "own",
)  # fmt: skip


def draw_dictionaries(names: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for dictionaries with some of these keys."""
    return st.dictionaries(st.sampled_from(names), values, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("properties") / "project")


def assert_exit_code_0_or_2(outcome: Outcome) -> None:
    """Check that the command succeeded or printed one line for each problem, with printable characters only."""
    assert outcome.code in (0, 2), outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.code == 0 or outcome.err.count("\n") >= 1
    assert all(line.isprintable() for line in outcome.err.splitlines())


def assert_accepted_or_rejected(check: Callable[[], object]) -> None:
    message = ""
    try:
        check()
    except InputError as error:
        message = str(error)
    assert all(line.isprintable() for line in message.splitlines())


def submit_dry_run(folder: Path) -> Outcome:
    return run_command("--project", str(folder), "submitJob", str(folder / "files" / "job.json"), "--dry-run")


def create_test_project(folder: Path, name: str, content: str | bytes) -> Path:
    """Return a project next to `folder` with this content in one file. `name`: a name that only one test uses."""
    path = folder.parent / name
    if not path.exists():
        write_project(path)
    write_or_delete_file(path / "files" / "job.json" if name.startswith("job") else path / "config.py", content)
    return path


@hundred_examples
@given(constants=draw_dictionaries((*Settings.model_fields, "MINE", "PATH"), JSON_VALUES | TEXTS))
@example({"MINE": 10**5000})
@example({"SQS_DEAD_LETTER_QUEUE": "arn:"})
def test_constants_in_a_config_never_cause_a_traceback(folder: Path, constants: dict[str, object]) -> None:
    text = format_config(CONFIG) + "".join(f"{name} = {format_constant(value)}\n" for name, value in constants.items())
    assert_exit_code_0_or_2(submit_dry_run(create_test_project(folder, "config-constants", text)))


def format_constant(value: object) -> str:
    return "10**5000" if isinstance(value, int) and value.bit_length() > 10_000 else ascii(value)


@hundred_examples
@given(content=st.binary(max_size=60))
@example(b"\xa7\r\r\n" + bytes(16))
@example(b"A = '\\d'\nB = 1 is 1")
@example(b"raise ValueError('\\ud800\\x1b[2J')")
def test_a_config_of_any_bytes_never_causes_a_traceback(folder: Path, content: bytes) -> None:
    assert_exit_code_0_or_2(submit_dry_run(create_test_project(folder, "config-bytes", content)))


@hundred_examples
@given(content=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"groups": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"a": ' + b"9" * 5000 + b"}")
def test_a_job_file_of_any_bytes_never_causes_a_traceback(folder: Path, content: bytes) -> None:
    assert_exit_code_0_or_2(submit_dry_run(create_test_project(folder, "job-bytes", content)))


@hundred_examples
@given(
    keys=draw_dictionaries(JOB_KEYS, JSON_VALUES | TEXTS | st.lists(TEXTS, max_size=3)),
    groups=st.lists(draw_dictionaries(("well", "plate"), TEXTS) | JSON_VALUES, max_size=4)
    | st.fixed_dictionaries({"cross": draw_dictionaries(("well", "plate"), st.lists(JSON_VALUES | TEXTS, max_size=2))})
    | JSON_VALUES
    | TEXTS,
)
def test_keys_in_a_job_file_never_cause_a_traceback(folder: Path, keys: dict[str, object], groups: object) -> None:
    if isinstance(groups, dict) and "s3" in groups:
        return  # this would call S3, which is not available here
    content = {"command": "echo {well}"} | keys | {"groups": groups}
    assert_exit_code_0_or_2(submit_dry_run(create_test_project(folder, "job-keys", json.dumps(content))))


@hundred_examples
@given(
    kind=st.sampled_from(["csv", "tsv", "jsonl"]),
    content=st.binary() | TEXTS.map(lambda text: b"well,plate\n" + text.encode(errors="surrogatepass"))
    | st.lists(JSON_VALUES, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode()),
)  # fmt: skip
@example("csv", b"well\n" + b"x" * 200_000)
@example("jsonl", b'{"well": ' + b"[" * 900 + b"]" * 900 + b"}")
def test_a_table_of_any_bytes_never_causes_a_traceback(folder: Path, kind: str, content: bytes) -> None:
    project = create_test_project(folder, "job-table", json.dumps(JOB | {"groups": f"jobs.{kind}"}))
    write_or_delete_file(project / "files" / f"jobs.{kind}", content)
    assert_exit_code_0_or_2(submit_dry_run(project))


FLEET_KEYS = ("IamFleetRole", "TargetCapacity", "SpotPrice", "ValidUntil", "Type", "TagSpecifications", "X")
SPECIFICATION_KEYS = (
    "ImageId", "InstanceType", "UserData", "NetworkInterfaces", "BlockDeviceMappings", "TagSpecifications", "X",
)  # fmt: skip


@hundred_examples
@given(
    keys=draw_dictionaries(FLEET_KEYS, JSON_VALUES | TEXTS),
    specification=draw_dictionaries(
        SPECIFICATION_KEYS, JSON_VALUES | st.lists(draw_dictionaries(("Ebs", "DeviceIndex"), JSON_VALUES))
    ),
    replacement=st.none() | JSON_VALUES | st.binary(),
)  # fmt: skip
@example({}, {}, b'{"LaunchSpecifications": ' + b"[" * 900 + b"]" * 900 + b"}")
def test_a_fleet_file_never_causes_a_traceback_whatever_it_contains(
    folder: Path, keys: object, specification: object, replacement: object
) -> None:
    path = folder / "files" / "any-fleet.json"
    first = FLEET["LaunchSpecifications"][0] | specification
    content = FLEET | {"LaunchSpecifications": [first]} | keys if replacement is None else replacement
    write_or_delete_file(path, content if isinstance(content, bytes) else json.dumps(content))
    loaded, ec2 = load_settings(folder / "config.py"), build_ec2_client()
    assert_accepted_or_rejected(lambda: check_fleet_file(ec2, loaded, load_fleet_file(path), path))


@hundred_examples
@given(keys=draw_dictionaries((*MONITOR, "X"), JSON_VALUES | TEXTS), replacement=st.none() | JSON_VALUES | st.binary())
def test_a_monitor_file_never_causes_a_traceback_whatever_it_contains(
    folder: Path, keys: dict[str, object], replacement: object
) -> None:
    path = folder / "files" / "any-monitor.json"
    content = MONITOR | keys if replacement is None else replacement
    write_or_delete_file(path, content if isinstance(content, bytes) else json.dumps(content))

    def check() -> None:
        assert load_monitor_file(path).run.endswith("Z")

    assert_accepted_or_rejected(check)


# No operating system accepts a null byte in an argument.
random_words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
COMMON_WORDS = [
    "setup", "submitJob", "startCluster", "monitor", "interrupt", "stop", "--help", "--dry-run", "--resume", "--wait",
    "--config", "--project", "--containers", "--cheapest", "--notice", "True", "config.py", "-1", "/", "",
]  # fmt: skip


@hundred_examples
@example(arguments=["interrupt"])
@given(arguments=st.lists(st.sampled_from(COMMON_WORDS) | random_words, max_size=5))
def test_arguments_never_cause_a_traceback(folder: Path, arguments: list[str]) -> None:
    shipped = create_test_project(folder, "config-shipped", format_config(CONFIG | {"AWS_BUCKET": "your-bucket-name"}))
    outcome = run_command("--project", str(shipped), *arguments)
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err
    is_usage, lines = "Usage:" in outcome.err, outcome.err.splitlines()
    assert is_usage or all(line.startswith(("run.py: ", "  ")) for line in lines), "commands to type are indented"
