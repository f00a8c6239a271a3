"""Tests for the facts about a container that its jobs' records contain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distributed_something.worker.machine.container_facts import (
    TASK_METADATA_ATTEMPTS,
    ContainerFacts,
    get_container_name,
    read_container_facts,
    read_image_digest,
    read_memory_limit,
)
from distributed_something.worker.version import VERSION
from tests.support.metadata_server import MetadataServer

DIGEST = "sha256:d691691e9652791a60114e67b365688d20d19940dde7c4736ea30e660d8d3553"  # from the ECS Developer Guide
RESPONSE = json.dumps({"Name": "curl", "Image": "curltest:latest", "ImageID": DIGEST}).encode()


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "1048576000\n", 1048576000),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "1048576000\n", 1048576000),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory.max", "", None),
        ("other", "1", None),
    ],
)
def test_the_memory_limit_is_read_from_the_control_group(
    tmp_path: Path, file: str, text: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert read_memory_limit(tmp_path) == limit


def test_the_image_digest_comes_from_the_ecs_agent(server: MetadataServer) -> None:
    server.responses = [(200, RESPONSE)]
    env = {"ECS_CONTAINER_METADATA_URI_V4": f"{server.url}/v4/abc", "IMAGE_DIGEST": "sha256:other"}
    assert read_image_digest(env) == DIGEST
    assert server.requests == ["GET /v4/abc"]


@pytest.mark.parametrize(
    "response", [(500, b"{}"), (200, b"not JSON"), (200, b"[]"), (404, RESPONSE), (200, b"{" + b"x" * 10**6)]
)
def test_a_bad_response_of_the_ecs_agent_is_requested_again(
    server: MetadataServer, response: tuple[int, bytes]
) -> None:
    env = {"ECS_CONTAINER_METADATA_URI_V4": f"{server.url}/v4/abc"}
    server.responses = [response, (200, RESPONSE)]
    assert read_image_digest(env) == DIGEST
    server.responses = [response] * TASK_METADATA_ATTEMPTS
    assert read_image_digest(env) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v4/abc", "file:///etc/passwd", "nonsense", ""])
def test_without_an_ecs_agent_the_image_digest_comes_from_the_environment(url: str) -> None:
    assert read_image_digest({"ECS_CONTAINER_METADATA_URI_V4": url, "IMAGE_DIGEST": DIGEST}) == DIGEST
    assert read_image_digest({"ECS_CONTAINER_METADATA_URI_V4": url}) is None


def test_metadata_without_an_image_falls_back_to_the_environment(server: MetadataServer) -> None:
    server.responses = [(200, b'{"ImageID": ""}')]
    env = {"ECS_CONTAINER_METADATA_URI_V4": f"{server.url}/v4/abc", "IMAGE_DIGEST": DIGEST}
    assert read_image_digest(env) == DIGEST


def test_the_containers_name_is_safe_in_an_s3_key() -> None:
    assert get_container_name({}, lambda: "ea32192c8553") == "ea32192c8553"
    assert get_container_name({}, lambda: "größe/a b") == "gr--e-a-b"
    assert get_container_name({"LOCAL_CONTAINER": "0f-1"}, lambda: "laptop") == "0f-1"


def test_a_worker_outside_a_container_still_has_facts(tmp_path: Path) -> None:
    assert read_container_facts({"LOCAL_CONTAINER": "a"}, tmp_path) == ContainerFacts("a", None, None, VERSION)
