"""A call that AWS refused, as a line for who must give the right: «needs ec2:DescribeImages»."""

from __future__ import annotations

import re

from botocore.exceptions import ClientError

from control.errors import code_of, one_line

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden"}
_LOGIN = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "UnrecognizedClientException", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException",
    "IncompleteSignature", "InvalidAccessKeyId", "RequestExpired",
}  # fmt: skip
_NAMED = re.compile(r"perform:? ([a-z0-9-]+:[A-Za-z]+)")  # AWS's own words: «is not authorized to perform: …»
_OTHERWISE_NAMED = {  # calls whose right has another name than the call
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
}
_SERVICES = {  # the service of a call, where AWS does not name the right
    "sts": ("GetCallerIdentity",),
    "s3": ("GetBucketPolicy", "AbortMultipartUpload", "GetObject"),
    "iam": ("GetRole", "GetInstanceProfile"),
    "sqs": ("GetQueueUrl", "GetQueueAttributes", "ListQueueTags"),
    "ecs": ("DescribeClusters", "DescribeServices", "ListContainerInstances", "DescribeContainerInstances",
            "ListTasks", "DescribeTasks"),
    "ecr": ("BatchGetImage", "GetDownloadUrlForLayer"),
    "servicequotas": ("GetServiceQuota",),
    "logs": ("DescribeLogStreams", "GetLogEvents"),
}  # fmt: skip
_SERVICE_OF = {call: service for service, calls in _SERVICES.items() for call in calls}


def missing_right(error: BaseException) -> str | None:
    """The right that the refused call needs, as a policy names it; None where the call failed for another reason."""
    if not isinstance(error, ClientError) or code_of(error) not in _DENIED:
        return None
    named = _NAMED.search(str(error.response.get("Error", {}).get("Message", "")))
    call = error.operation_name
    if named:
        return named[1]
    return _OTHERWISE_NAMED.get(call) or f"{_SERVICE_OF.get(call, 'ec2')}:{call}"


def is_login(error: BaseException) -> bool:
    """Whether no call can succeed, because AWS does not know who calls."""
    return code_of(error) in _LOGIN


def why_not(error: BaseException) -> str:
    """Why something could not be looked up: the right that it needs, or AWS's words."""
    right = missing_right(error)
    if right:
        return f"needs {right}"
    message = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    return one_line(f"{code_of(error)}: {message}")
