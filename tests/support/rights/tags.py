"""The tags of everything in moto at one moment, as AWS would look them up to evaluate a condition on a resource's tags.

Names of resources are the ends of their ARNs, after the account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.logs.models import logs_backends
from moto.sqs.models import sqs_backends

# EC2's kinds of resources that have tags, keyed by the start of their IDs
_EC2_KINDS = {"i": "instance", "vol": "volume", "lt": "launch-template", "sg": "security-group", "subnet": "subnet",
              "vpc": "vpc", "ami": "image", "eni": "network-interface"}  # fmt: skip

Tags = dict[str, dict[str, str]]


def read_tags(account: str, region: str) -> Tags:
    """Return the tags of each resource that has any, keyed by the end of its ARN."""
    found = dict(_iter_tags(account, region))
    return {name: dict(tags) for name, tags in found.items() if tags}


def _iter_tags(account: str, region: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    ec2 = ec2_backends[account][region]
    for identifier, tags in dict(ec2.tags).items():
        kind = _EC2_KINDS.get(identifier.split("-")[0])
        if kind:
            yield f"{kind}/{identifier}", tags
    for identifier, template in dict(ec2.launch_templates).items():
        yield f"launch-template/{template.name}", ec2.tags.get(identifier, {})
    for identifier, fleet in dict(ec2.spot_fleet_requests).items():
        yield f"spot-fleet-request/{identifier}", fleet.tags.get("spot-fleet-request", {})
    for name, queue in dict(sqs_backends[account][region].queues).items():
        yield name, queue.tags
    ecs = ecs_backends[account][region]
    for name, cluster in dict(ecs.clusters).items():
        yield f"cluster/{name}", _to_dict(cluster.tags)
    for service in list(ecs.services.values()):
        yield f"service/{service.cluster_name}/{service.name}", _to_dict(service.tags)
    logs = logs_backends[account][region]
    for name, group in dict(logs.groups).items():
        tags = logs.tagger.get_tag_dict_for_resource(group.arn.removesuffix(":*"))
        yield f"log-group:{name}", tags or logs.tagger.get_tag_dict_for_resource(group.arn)


def _to_dict(tags: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in tags or ()}
