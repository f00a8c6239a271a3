"""Keeps the messages that SNS would send in a file, because nothing may leave this computer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from moto.sns.exceptions import InvalidParameterValue
from moto.sns.models import Subscription, Topic

from distributed_something.localcloud.emulators.moto_ec2 import MethodReplacer

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
_SUBJECT_FORMAT = re.compile(r"[!-~][ -~]{0,99}")
_original_publish: Any = Topic.publish


def patch_moto_sns(replace: MethodReplacer, file: Path) -> None:
    """Make moto write each message to `file`, and send none."""

    def publish(topic: Topic, message: str, subject: str | None = None, **options: Any) -> Any:
        if subject is not None and not _SUBJECT_FORMAT.fullmatch(subject):
            raise InvalidParameterValue("Invalid parameter: Subject")
        with file.open("a") as lines:
            lines.write(json.dumps({"topic": topic.arn, "subject": subject, "message": message}) + "\n")
        return _original_publish(topic, message, subject=subject, **options)

    replace(Topic, publish)
    replace(Subscription, publish=lambda *_, **__: None)
