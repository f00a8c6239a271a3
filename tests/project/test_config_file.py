"""The config: published configs load, user-defined constants reach the container, and credentials never do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import (
    Settings,
    check_placeholders_replaced,
    find_misspelled_constants,
)
from distributed_something.core.errors import InputError
from distributed_something.project.config_file import load_settings
from tests.support.offline import CONFIG, format_config
from tests.support.paths import ROOT

QUEUES = QueueUrls("https://sqs/1/TryoutQueue", "https://sqs/1/TryoutDead")

# A config from the published system, with an ARN, booleans in any case, arithmetic, and none of the newer keys.
PUBLISHED = """
# Constants (User configurable)
APP_NAME = 'DistributedSomething'                # Used to generate derivative names unique to the application.
DOCKERHUB_TAG = 'someone/distributed-something:1.2.3'
AWS_REGION = 'eu-west-2'
AWS_PROFILE = 'default'
SSH_KEY_NAME = 'my-key.pem'
AWS_BUCKET = 'a-lab.images'
ECS_CLUSTER = 'default'
CLUSTER_MACHINES = 3
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m4.xlarge']
MACHINE_PRICE = 0.13
EBS_VOL_SIZE = 30
DOCKER_CORES = 4
CPU_SHARES = DOCKER_CORES * 1024
MEMORY = 15000
SECONDS_TO_START = 3*60
SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_MESSAGE_VISIBILITY = 1*60
SQS_DEAD_LETTER_QUEUE = 'arn:aws:sqs:eu-west-2:111122223333:DeadMessages'
LOG_GROUP_NAME = APP_NAME
CHECK_IF_DONE_BOOL = 'true'
EXPECTED_NUMBER_FILES = 7
MIN_FILE_SIZE_BYTES = 1
NECESSARY_STRING = ''
CREATE_DASHBOARD = 'FALSE'
SOURCE_BUCKET = 'another-lab'
UPLOAD_FLAGS = '--acl bucket-owner-full-control --metadata-directive REPLACE'
USE_PLUGINS = True
"""


def build_settings(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.py"
    path.write_text(text)
    return path


def test_the_shipped_config_loads() -> None:
    loaded = load_settings(ROOT / "config.py")
    assert loaded.APP_NAME == "DistributedSomething"
    assert loaded.own == {}


def test_an_arn_with_placeholders_as_in_the_published_config_is_only_a_name(tmp_path: Path) -> None:
    text = PUBLISHED.replace("eu-west-2:111122223333", "some-region:111111100000")
    loaded = load_settings(write_config(tmp_path, text))
    assert (loaded.SQS_DEAD_LETTER_QUEUE, loaded.dead_letter_account) == ("DeadMessages", "")


def test_a_published_config_loads_unchanged(tmp_path: Path) -> None:
    loaded = load_settings(write_config(tmp_path, PUBLISHED))
    assert loaded.SQS_QUEUE_NAME == "DistributedSomethingQueue"
    assert (loaded.SQS_DEAD_LETTER_QUEUE, loaded.dead_letter_account) == ("DeadMessages", "111122223333")
    assert (loaded.CHECK_IF_DONE_BOOL, loaded.CREATE_DASHBOARD) == (True, False)
    assert (loaded.CPU_SHARES, loaded.SECONDS_TO_START, loaded.slots) == (4096, 180, 12)
    assert (loaded.names.task_family, loaded.names.service) == (
        "DistributedSomethingTask",
        "DistributedSomethingService",
    )


SHORT = """
APP_NAME = 'CellCount'
DOCKERHUB_TAG = 'ada/cellcount:1'
AWS_BUCKET = 'adas-bucket'
CLUSTER_MACHINES = 2
MACHINE_TYPE = ['m5.large']
MACHINE_PRICE = 0.10
DOCKER_CORES = 2
MEMORY = 7000
"""


def test_a_short_config_uses_the_same_names_as_the_shipped_config(tmp_path: Path) -> None:
    loaded, shipped = load_settings(write_config(tmp_path, SHORT)), load_settings(ROOT / "config.py")
    assert (loaded.CPU_SHARES, loaded.TASKS_PER_MACHINE, loaded.slots) == (2048, 1, 4)
    for name in ("SQS_QUEUE_NAME", "SQS_DEAD_LETTER_QUEUE", "LOG_GROUP_NAME"):
        assert getattr(loaded, name) == getattr(shipped, name).replace(shipped.APP_NAME, "CellCount")


@pytest.mark.parametrize(("app", "key"), [("'a/b'", "APP_NAME"), ("'a' * 80", "SQS_QUEUE_NAME")])
def test_an_app_name_is_rejected_if_names_built_from_it_would_be_invalid(tmp_path: Path, app: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"config\.py: {key}: .* is not a .*; use at most "):
        load_settings(write_config(tmp_path, SHORT.replace("'CellCount'", app)))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("examples/*/config.py")))
def test_all_placeholders_of_an_examples_config_are_reported_at_once_before_aws_is_called(name: str) -> None:
    path = ROOT / "examples" / name / "config.py"
    with pytest.raises(InputError) as caught:
        check_placeholders_replaced(load_settings(path), path)
    keys = [problem.key for problem in caught.value.problems]
    assert {"AWS_BUCKET", "DOCKERHUB_TAG"} <= set(keys)


def test_all_placeholders_of_a_published_config_are_named(tmp_path: Path) -> None:
    own = "SOURCE_BUCKET = 'bucket-name'\nWORKSPACE_BUCKET = 'False'\nDESTINATION_BUCKET = 'your-bucket-name'\n"
    text = PUBLISHED.replace("a-lab.images", "bucket-name").replace("my-key.pem", "your_key_file_name.pem") + own
    path = write_config(tmp_path, text)
    with pytest.raises(InputError) as caught:
        check_placeholders_replaced(load_settings(path), path)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"AWS_BUCKET", "SSH_KEY_NAME", "SOURCE_BUCKET", "DESTINATION_BUCKET"}


def test_if_newer_keys_are_missing_the_defaults_match_the_published_behavior(tmp_path: Path) -> None:
    loaded = load_settings(write_config(tmp_path, PUBLISHED))
    assert loaded.JOB_RETRIES == 10
    assert loaded.ASSIGN_IP is True
    assert loaded.AUTO_MONITOR is False
    assert loaded.CLEAN_DASHBOARD is True


@pytest.mark.parametrize("text", ["True", "TRUE", "true", " tRue ", True])
def test_true_may_be_written_in_any_case(text: object) -> None:
    assert build_settings(CHECK_IF_DONE_BOOL=text).build_worker_environment()["CHECK_IF_DONE_BOOL"] == "True"


@pytest.mark.parametrize("text", ["False", "FALSE", "false", False])
def test_false_may_be_written_in_any_case(text: object) -> None:
    assert build_settings(CHECK_IF_DONE_BOOL=text).build_worker_environment()["CHECK_IF_DONE_BOOL"] == "False"


@pytest.mark.parametrize("value", ["m5.large", ["m5.large"]])
def test_a_single_machine_type_need_not_be_a_list(value: object) -> None:
    assert build_settings(MACHINE_TYPE=value).MACHINE_TYPE == ["m5.large"]


def test_the_users_own_constants_reach_the_container_as_text(tmp_path: Path) -> None:
    own = "MY_NAME = 'Ada'\nSIZE = 3\nRATIO = 0.5\nFAST = True\nSIZES = [1, 2]\nlower = 1\n_HIDDEN = 1\nimport os\n"
    loaded = load_settings(write_config(tmp_path, format_config(CONFIG) + own))
    expected = {"MY_NAME": "Ada", "SIZE": "3", "RATIO": "0.5", "FAST": "True", "SIZES": "[1, 2]"}
    assert loaded.own == expected
    assert expected.items() <= loaded.build_worker_environment().items()


@pytest.mark.parametrize(
    ("key", "placeholder"),
    [
        ("AWS_BUCKET", "your-bucket-name"),
        ("SSH_KEY_NAME", "your-key-file.pem"),
        ("DOCKERHUB_TAG", "user/distributed-something:latest"),
    ],
)
def test_a_placeholder_from_the_shipped_config_is_rejected_before_aws_is_called(key: str, placeholder: str) -> None:
    with pytest.raises(InputError, match=f"config.py: {key}: '{placeholder}' is a placeholder; .*--local"):
        check_placeholders_replaced(build_settings(**{key: placeholder}), Path("config.py"))


def test_a_config_without_placeholders_is_accepted() -> None:
    check_placeholders_replaced(build_settings(), Path("config.py"))


def test_a_worker_gets_exactly_the_documented_environment() -> None:
    environment = get_environment(build_settings(own={"MY_NAME": "Ada"}), run="20261123T104500Z")
    assert environment == {
        "ALLOW_UNSAFE_INPUTS": "False",
        "APP_NAME": "Tryout",
        "AWS_BUCKET": "tryout-bucket",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "CHECK_IF_DONE_BOOL": "True",
        "DOCKER_CORES": "1",
        "DOCKER_IMAGE": "tests/tryout:1",
        "ECS_CLUSTER": "tryout-cluster",
        "EXPECTED_NUMBER_FILES": "1",
        "IDLE_ALARM": "True",
        "JOB_RETRIES": "10",
        "JOURNAL_SECONDS": "60",
        "LOG_GROUP_NAME": "Tryout",
        "MAX_TRANSFER_MINUTES": "120",
        "MIN_FILE_SIZE_BYTES": "1",
        "MOUNT_S3": "False",
        "MY_NAME": "Ada",
        "NECESSARY_STRING": "",
        "RUN": "20261123T104500Z",
        "SECONDS_TO_START": "0",
        "SQS_DEAD_LETTER_QUEUE_URL": QUEUES.dead_letter_url,
        "SQS_MESSAGE_VISIBILITY": "120",
        "SQS_QUEUE_URL": QUEUES.url,
        "STOP_SECONDS": "110",
        "STREAM_JOB_LOGS": "True",
    }


def test_the_environment_contains_no_run_before_a_run_starts() -> None:
    assert "RUN" not in get_environment(build_settings(), run=None)


def test_the_task_definition_contains_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "wJalrXUtnFEMI")
    definition = repr(build_task_definition(build_settings(), QUEUES, "20261123T104500Z"))
    for word in ("wJalrXUtnFEMI", "ACCESS_KEY", "SESSION_TOKEN", "AWS_PROFILE"):
        assert word not in definition


def test_the_task_definition_describes_one_container_with_the_configs_size() -> None:
    definition = build_task_definition(build_settings(), QUEUES, None)
    assert definition["family"] == "TryoutTask"
    assert definition["requiresCompatibilities"] == ["EC2"]
    (container,) = definition["containerDefinitions"]
    assert {key: container[key] for key in ("name", "image", "cpu", "memory", "essential", "stopTimeout")} == {
        "name": "Tryout",
        "image": "tests/tryout:1",
        "cpu": 1024,
        "memory": 2000,
        "essential": True,
        "stopTimeout": 110,
    }
    assert container["logConfiguration"]["options"]["awslogs-group"] == "Tryout_perInstance"


def get_environment(loaded: Settings, run: str | None) -> dict[str, str]:
    (container,) = build_task_definition(loaded, QUEUES, run)["containerDefinitions"]
    return {pair["name"]: pair["value"] for pair in container["environment"]}


# Misspelled constants


@pytest.mark.parametrize(
    ("name", "known"),
    [("JOB_RETRY", "JOB_RETRIES"), ("MEMORI", "MEMORY"), ("MAX_RUN_HOUR", "MAX_RUN_HOURS"), ("MAX_CSOT", "MAX_COST")],
)
def test_a_constant_with_a_name_similar_to_a_known_one_is_found_and_stays_the_users_own(name: str, known: str) -> None:
    settings = build_settings(own={name: "3", "MY_NAME": "x", "THREADS": "4"})
    assert find_misspelled_constants(settings) == {name: known}
    assert settings.build_worker_environment()[name] == "3"


def test_no_constant_of_a_published_or_shipped_config_looks_misspelled(tmp_path: Path) -> None:
    for path in (write_config(tmp_path, PUBLISHED), ROOT / "config.py", *ROOT.glob("examples/*/config.py")):
        assert find_misspelled_constants(load_settings(path)) == {}


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("DOCKER_CORES = 2", "DOCKER_CORES = 'two'\nCPU_SHARES = DOCKER_CORES * 1024", ["DOCKER_CORES"]),
        ("DOCKER_CORES = 2", "DOCKER_CORES = 0\nCPU_SHARES = DOCKER_CORES * 1024", ["DOCKER_CORES"]),
        ("DOCKER_CORES = 2", "DOCKER_CORES = 'two'\nslots = DOCKER_CORES * 2\nCPU_SHARES = slots", ["DOCKER_CORES"]),
        ("DOCKER_CORES = 2", "DOCKER_CORES = 'two'\nCPU_SHARES = f'{DOCKER_CORES}000'\nOWN = (DOCKER_CORES, {1})",
         ["DOCKER_CORES"]),
        ("DOCKER_CORES = 2", "DOCKER_CORES = 'two'\nCPU_SHARES = DOCKER_CORES + 1", ["DOCKER_CORES"]),
        ("DOCKER_CORES = 2", "DOCKER_CORES = 'two'\nCPU_SHARES = (\n  1024 *\n  int(DOCKER_CORES)\n)",
         ["DOCKER_CORES"]),
        ("'CellCount'", "'a/b'\nSQS_QUEUE_NAME = APP_NAME + 'Queue'\nLOG_GROUP_NAME = f'{APP_NAME}:logs'",
         ["APP_NAME"]),
        ("MEMORY = 7000", "MEMORY = 'x'\nMEMORY = MEMORY * 2\nCLUSTER_MACHINES = 'none'",
         ["CLUSTER_MACHINES", "MEMORY"]),
    ],
)  # fmt: skip
def test_values_computed_from_a_mistaken_constant_are_not_reported_as_mistakes(
    tmp_path: Path, old: str, new: str, keys: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        load_settings(write_config(tmp_path, SHORT.replace(old, new)))
    assert sorted(problem.key for problem in caught.value.problems) == sorted(keys)


def test_a_value_computed_from_a_valid_constant_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    text = SHORT.replace("MEMORY = 7000", "MEMORY = str(DOCKER_CORES) + ' GB'\nSQS_QUEUE_NAME = APP_NAME + '?'")
    with pytest.raises(InputError) as caught:
        load_settings(write_config(tmp_path, text))
    assert {problem.key for problem in caught.value.problems} == {"MEMORY", "SQS_QUEUE_NAME"}
    with pytest.raises(InputError, match="line 10: TypeError"):
        load_settings(write_config(tmp_path, f"{SHORT}CPU_SHARES = DOCKER_CORES + 'x'\n"))


@pytest.mark.parametrize(
    ("constants", "names"),
    [
        ({"MODEL": "x" * 200_000}, ["MODEL"]),
        ({"NECESSARY_STRING": "x" * 60_000}, ["NECESSARY_STRING"]),
        ({"TABLE": ["é" * 6] * 2_000, "SMALL": "x" * 10_000}, ["TABLE"]),
        ({f"PART_{number}": "x" * 20_000 for number in range(4)}, ["PART_0", "PART_1"]),
    ],
)
def test_constants_that_do_not_fit_into_a_task_definition_are_refused_by_name(
    tmp_path: Path, constants: dict[str, object], names: list[str]
) -> None:
    path = tmp_path / "config.py"
    path.write_text(format_config(CONFIG | constants))
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert [problem.key for problem in caught.value.problems] == names
    assert re.search(
        r"but a task definition holds 57,344 for all constants, which have [\d,]+ together", str(caught.value)
    )


def test_constants_that_just_fit_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(format_config(CONFIG | {"TEXT": "x" * 55_000}))
    settings = load_settings(path)
    request = build_task_definition(settings, QueueUrls("https://sqs/" + "q" * 200, "https://sqs/" + "d" * 200), "R")
    assert len(json.dumps(request)) < 64 * 1024


TOPIC = "arn:aws:sns:us-east-1:123456789012:lab"


@pytest.mark.parametrize("topic", ["", TOPIC, "arn:aws-us-gov:sns:us-gov-west-1:123456789012:a_b-c"])
def test_notify_is_a_topic_or_empty(topic: str) -> None:
    region = topic.split(":")[3] if topic else "us-east-1"

    settings = build_settings(NOTIFY=topic, AWS_REGION=region)

    assert topic == settings.NOTIFY


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("me@example.org", "is not a topic; type setupAWS --notify me@example.org"),
        ("https://example.org", "is not a topic; type setupAWS --notify https://example.org"),
        (f"{TOPIC}.fifo", "is a FIFO topic, which sends no e-mail; use a standard topic"),
        (f"{TOPIC}:01234567-89ab", f"is a subscription, not its topic; write '{TOPIC}'"),
        ("lab", "is not the ARN of an SNS topic; write the one that setupAWS --notify ADDRESS prints"),
        ("arn:aws:sqs:us-east-1:123456789012:lab", "is not the ARN of an SNS topic"),
        ("arn:aws:sns:us-east-1:1234:lab", "is not the ARN of an SNS topic"),
        (TOPIC.replace("us-east-1", "eu-west-1"), "is in eu-west-1; use a topic in us-east-1"),
    ],
)
def test_an_invalid_topic_is_refused_with_what_to_write(tmp_path: Path, value: str, problem: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(format_config(CONFIG | {"NOTIFY": value}))
    with pytest.raises(InputError) as raised:
        load_settings(path)

    assert "NOTIFY" in str(raised.value)
    assert problem in str(raised.value)


# Syntax errors


def explain(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_settings(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("import {name}", "line 2"),
        ("import os\n\nimport {name}", "line 4"),
        ("import importlib\nimportlib.import_module('{name}')", "line 3"),
        ("def load():\n    import {name}\n\nload()", "line 3"),
    ],
)
def test_a_mistake_in_a_file_that_the_config_imports_is_reported_there(
    tmp_path: Path, code: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"helper_{tmp_path.name}"
    helper = tmp_path / f"{name}.py"
    helper.write_text("a = 1\nb = 2\nc = 3\nd = 4\ne = = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write_config(tmp_path, f"APP_NAME = 'A'\n{code.format(name=name)}\n")
    remedy = f"correct this line or the one before it; config.py uses this file in {where}"
    assert explain(path) == f"{helper}: line 5: this is not valid Python (invalid syntax); {remedy}"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("Y = eval('1 +')", "invalid syntax"),
        ("import null_bytes", "source code string cannot contain null bytes"),  # Python does not name the file
    ],
)
def test_a_mistake_in_code_without_a_known_file_is_reported_in_the_line_that_uses_it(
    tmp_path: Path, code: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "null_bytes.py").write_text("a = '\0'\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write_config(tmp_path, f"X = 1\n{code}\n")
    assert explain(path) == f"{path}: line 2: SyntaxError: {problem}; correct this line or what it uses"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"APP_NAME = 'a\0b'\n", "source code string cannot contain null bytes"),
        (b"# -*- coding: klingon -*-\nAPP_NAME = 'A'\n", "unknown encoding: klingon"),
    ],
)
def test_a_config_that_is_not_plain_text_is_reported_without_a_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "config.py"
    path.write_bytes(content)
    assert explain(path) == f"{path}: this is not valid Python ({problem}); save it as plain text in UTF-8"


def test_a_mistake_in_the_config_itself_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write_config(tmp_path, "APP_NAME = 'A'\nMEMORY = = 1\n")
    remedy = "correct this line or the one before it"
    assert explain(path) == f"{path}: line 2: this is not valid Python (invalid syntax); {remedy}"
