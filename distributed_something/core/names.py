"""Names of things in AWS: what they look like, those that an app's resources have, and those of an account's roles."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

TASK_FAMILY_SUFFIX, MACHINE_SUFFIX = "Task", "Worker"  # behind APP_NAME


class NameFormat(NamedTuple):
    """What a name looks like: a pattern that it matches as a whole, and in words what to write."""

    pattern: str
    right: str

    def fits(self, value: object) -> bool:
        """Whether `value` is a text of this form."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


RESOURCE_NAME_FORMAT = NameFormat(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", "at most 80 letters, digits, -, _, the first no sign"
)
QUEUE_NAME_FORMAT = NameFormat(r"[A-Za-z0-9_-]{1,80}", "a queue's name: at most 80 letters, digits, - and _")
BUCKET_NAME_FORMAT = NameFormat(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name: 3 to 63 of a-z 0-9 . -")
LOG_GROUP_NAME_FORMAT = NameFormat(
    r"[A-Za-z0-9._/#-]{1,480}", "a log group's name: at most 480 of a-z A-Z 0-9 . - _ / #"
)
FLEET_ID_FORMAT = NameFormat(r"sfr-[0-9a-f-]{8,60}", "a Spot Fleet's id, such as 'sfr-0123abcd-…'")

INSTANCE_ROLE = "ecsInstanceRole"  # and its instance profile: the name that published Fleet files have
FLEET_ROLE = "aws-ec2-spot-fleet-tagging-role"
TASK_ROLE = "distributed-something-task"
EXECUTION_ROLE = "distributed-something-execution"
MONITOR_ROLE = "distributed-something-monitor"
MONITOR_FUNCTION = "distributed-something-monitor"
RULE_NAME_PREFIX = "distributed-something-"
MAX_RULE_NAME_LENGTH = 64  # EventBridge: characters
CHINA_DOMAIN_SUFFIX = ".cn"  # what the names of some services end with there
EXPORT_PREFIX = "exportedlogs"  # where the log export writes in the bucket
MONITOR_PREFIX = "monitors"  # where copies of monitor files lie in the bucket


@dataclass(frozen=True)
class AwsAccount:
    """Whose AWS it is, and where: the account's 12 digits, the region, the partition (`aws`, `aws-cn`, …)."""

    account: str
    region: str
    partition: str = "aws"

    def arn(self, service: str, resource: str, region: str = "*") -> str:
        """Of something of this account, in every region unless one is named."""
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{resource}"

    def role(self, name: str) -> str:
        return self.arn("iam", f"role/{name}", region="")

    def profile(self, name: str) -> str:
        return self.arn("iam", f"instance-profile/{name}", region="")

    def bucket(self, name: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{name}" + (f"/{key}" if key else "")

    @property
    def function(self) -> str:
        """The auto-monitor's ARN."""
        return self.arn("lambda", f"function:{MONITOR_FUNCTION}", self.region)


def build_monitor_rule_name(app_name: str) -> str:
    """The name of the EventBridge rule that wakes the auto-monitor for an app: at most 64 characters."""
    name = RULE_NAME_PREFIX + app_name
    if len(name) <= MAX_RULE_NAME_LENGTH:
        return name
    return f"{name[: MAX_RULE_NAME_LENGTH - 9]}-{hashlib.sha256(app_name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class AppNames:
    """What an app's resources are called in AWS; `app` is its APP_NAME."""

    app: str

    @property
    def service(self) -> str:
        return f"{self.app}Service"

    @property
    def task_family(self) -> str:
        return f"{self.app}{TASK_FAMILY_SUFFIX}"

    @property
    def machine(self) -> str:
        """The tag `Name` of instances and volumes."""
        return f"{self.app}{MACHINE_SUFFIX}"

    @property
    def default_queue(self) -> str:
        """SQS_QUEUE_NAME where a config does not set it."""
        return f"{self.app}Queue"

    @property
    def default_dead_letter_queue(self) -> str:
        """SQS_DEAD_LETTER_QUEUE where a config does not set it."""
        return f"{self.app}DeadMessages"

    def launch_template(self, run: str) -> str:
        """The launch template of the run that is called `run`."""
        return f"{self.app}-{run}"

    @property
    def monitor_rule(self) -> str:
        """The EventBridge rule that wakes the auto-monitor: at most 64 characters."""
        return build_monitor_rule_name(self.app)
