"""Names in AWS: their formats, the names of an app's resources, and the names of an account's roles."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

TASK_FAMILY_SUFFIX, MACHINE_SUFFIX = "Task", "Worker"  # appended to APP_NAME
EXAMPLE_ACCOUNT_ID = "123456789012"  # AWS's documentation and the local cloud use it; no real account has it
SHARED_APP = "shared"  # the tag `app` of a dead-letter queue that belongs to no single app


class NameFormat(NamedTuple):
    """The format of a kind of name.

    `pattern`: a regular expression that matches the whole name. `noun`: what the name is, with its article. `remedy`:
    what to write, for an error message.
    """

    pattern: str
    noun: str
    remedy: str

    def fits(self, value: object) -> bool:
        """Return whether `value` is a string in this format."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


RESOURCE_NAME_FORMAT = NameFormat(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}",
    "a valid name",
    "use at most 80 letters, digits, - or _, starting with a letter or digit, such as 'CellCount'",
)
QUEUE_NAME_FORMAT = NameFormat(
    r"[A-Za-z0-9_-]{1,80}", "a queue name", "use at most 80 letters, digits, - or _, such as 'CellCountQueue'"
)
BUCKET_NAME_FORMAT = NameFormat(
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "a bucket name",
    "use 3 to 63 lowercase letters, digits, . or -, such as 'my-lab-data'",
)
LOG_GROUP_NAME_FORMAT = NameFormat(
    r"[A-Za-z0-9._/#-]{1,480}",
    "a log group name",
    "use at most 480 letters, digits, or any of . - _ / #, such as 'CellCount'",
)
FLEET_ID_FORMAT = NameFormat(
    r"sfr-[0-9a-f-]{8,60}", "the ID of a Spot Fleet", "write one such as 'sfr-0123abcd-…', or run startCluster again"
)
TYPED_TEXT_FORMAT = NameFormat(
    r"[^\x00-\x1f]{0,2000}", "one line of text", "leave this key out, or write at most 2,000 characters"
)

# The ARN of a standard topic of SNS, which sends e-mail; a FIFO topic cannot, and its name ends with .fifo.
# https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
TOPIC_ARN_FORMAT = NameFormat(
    r"arn:aws(-[a-z]+)*:sns:[a-z]{2}(-[a-z]+)+-\d:\d{12}:[A-Za-z0-9_-]{1,256}",
    "the ARN of an SNS topic",
    "write the one that setupAWS --notify ADDRESS prints, such as"
    " 'arn:aws:sns:us-east-1:123456789012:distributed-something'",
)

INSTANCE_ROLE = "ecsInstanceRole"  # also the name of its instance profile, as in published Fleet files
FLEET_ROLE = "aws-ec2-spot-fleet-tagging-role"
TASK_ROLE = "distributed-something-task"
EXECUTION_ROLE = "distributed-something-execution"
MONITOR_ROLE = "distributed-something-monitor"
MONITOR_FUNCTION = "distributed-something-monitor"
DEFAULT_TOPIC = "distributed-something"  # the topic that setupAWS --notify makes if the config names no other one
RULE_NAME_PREFIX = "distributed-something-"
MAX_RULE_NAME_LENGTH = 64  # characters; EventBridge's limit
MAX_QUEUE_NAME_LENGTH = 80  # characters; SQS's limit
TEST_APP_SUFFIX = "-testRun"  # of the APP_NAME under which `testRun` creates resources; policies know it too
CHINA_DOMAIN_SUFFIX = ".cn"  # some service names end with this in China
EXPORT_PREFIX = "exportedlogs"  # prefix of exported logs in the bucket
MONITOR_PREFIX = "monitors"  # prefix of the copies of monitor files in the bucket


@dataclass(frozen=True)
class AwsAccount:
    """An AWS account (12 digits) in a region and partition (`aws`, `aws-cn`, …), and the ARNs of its resources."""

    account_id: str
    region: str
    partition: str = "aws"

    def arn(self, service: str, resource: str, region: str = "*") -> str:
        """Return the ARN of a resource in this account, in all regions unless `region` is given."""
        return f"arn:{self.partition}:{service}:{region}:{self.account_id}:{resource}"

    def role(self, name: str) -> str:
        return self.arn("iam", f"role/{name}", region="")

    def profile(self, name: str) -> str:
        return self.arn("iam", f"instance-profile/{name}", region="")

    def bucket(self, name: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{name}" + (f"/{key}" if key else "")

    def topic(self, arn: str = "") -> str:
        """Return the ARN of the topic in the config, or of the default one if the config names none."""
        return arn or self.arn("sns", DEFAULT_TOPIC, self.region)

    @property
    def function(self) -> str:
        """Return the ARN of the auto-monitor."""
        return self.arn("lambda", f"function:{MONITOR_FUNCTION}", self.region)


def build_monitor_rule_name(app_name: str) -> str:
    """Return the name of the EventBridge rule that starts the auto-monitor for an app: at most 64 characters."""
    return _shorten_name(RULE_NAME_PREFIX + app_name, MAX_RULE_NAME_LENGTH, app_name)


def build_test_app_name(app_name: str) -> str:
    """Return the APP_NAME of the app's `testRun`, which no real run uses. All names built from it are valid."""
    longest_suffix = AppNames(TEST_APP_SUFFIX).default_dead_letter_queue
    return _shorten_name(app_name, MAX_QUEUE_NAME_LENGTH - len(longest_suffix), app_name) + TEST_APP_SUFFIX


def is_test_run_name(name: str) -> bool:
    """Return whether an app, cluster, or queue with this name may be that of a `testRun`. The config refuses them."""
    names = AppNames(TEST_APP_SUFFIX)
    return name.endswith((names.app, names.default_queue, names.default_dead_letter_queue))


def _shorten_name(name: str, most: int, app_name: str) -> str:
    """Return the name in at most `most` characters. The end of a shortened name depends on all of APP_NAME."""
    return name if len(name) <= most else f"{name[: most - 9]}-{hashlib.sha256(app_name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class AppNames:
    """The names of an app's resources in AWS; `app` is its APP_NAME."""

    app: str

    @property
    def service(self) -> str:
        return f"{self.app}Service"

    @property
    def task_family(self) -> str:
        return f"{self.app}{TASK_FAMILY_SUFFIX}"

    @property
    def machine(self) -> str:
        """Return the value of the tag `Name` of instances and volumes."""
        return f"{self.app}{MACHINE_SUFFIX}"

    @property
    def default_queue(self) -> str:
        """Return SQS_QUEUE_NAME for a config that does not set it."""
        return f"{self.app}Queue"

    @property
    def default_dead_letter_queue(self) -> str:
        """Return SQS_DEAD_LETTER_QUEUE for a config that does not set it."""
        return f"{self.app}DeadMessages"

    def launch_template(self, run: str) -> str:
        """Return the name of the launch template for the run with the name `run`."""
        return f"{self.app}-{run}"

    @property
    def monitor_rule(self) -> str:
        """Return the name of the EventBridge rule that starts the auto-monitor: at most 64 characters."""
        return build_monitor_rule_name(self.app)
