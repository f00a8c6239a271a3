"""Tests for the check of the container image: what registries answer, and what `check` says about it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import pytest

from distributed_something.core.image_name import parse_image_reference
from distributed_something.core.names import AwsAccount
from distributed_something.diagnose.check.container_image.check_image import (
    check_container_image,
    judge_container_image,
)
from distributed_something.diagnose.check.container_image.digest import find_image_digest
from distributed_something.diagnose.check.container_image.ecr import EcrImage
from distributed_something.diagnose.check.container_image.http import (
    HttpResponse,
    RegistryHttp,
    UnreachableRegistryError,
)
from distributed_something.diagnose.check.container_image.manifests import (
    INDEX_MEDIA_TYPES,
    MANIFEST_MEDIA_TYPES,
    ImageLookupError,
    ImageProblem,
    find_architectures,
)
from distributed_something.diagnose.check.container_image.registry import (
    find_registry_url,
    find_repository_path,
)
from distributed_something.diagnose.check.findings import Finding, FindingLevel
from distributed_something.diagnose.check.lookups import Lookups
from tests.support.account import emulate_account
from tests.support.fakes import SETTINGS, ExactClients, expect_exact_calls
from tests.support.registry_server import FakeRegistry, build_errors, serve_registry

ACCOUNT = AwsAccount("111122223333", "us-east-1")
ECR = f"{ACCOUNT.account_id}.dkr.ecr.us-east-1.amazonaws.com/tools/app:1"
MANIFEST = "user/app/manifests/1"
CONFIG = "user/app/blobs/sha256:cafe"
SINGLE_IMAGE = {"schemaVersion": 2, "config": {"digest": "sha256:cafe"}}
ATTESTATION = {"platform": {"architecture": "unknown", "os": "unknown"}, "digest": "sha256:a"}
WINDOWS = {"platform": {"architecture": "amd64", "os": "windows"}, "digest": "sha256:b"}


def build_index(*architectures: str) -> dict[str, Any]:
    entries = [{"platform": {"architecture": name, "os": "linux"}, "digest": "sha256:c"} for name in architectures]
    return {"schemaVersion": 2, "manifests": [*entries, ATTESTATION]}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with serve_registry(FakeRegistry()) as served:
        yield served


def check_image(registry: FakeRegistry, name: str = "user/app:1", *types: str) -> Finding:
    """Return the finding about an image in this registry for machines of these types (default: m5.large)."""
    with emulate_account({"ec2.DescribeInstanceTypes": _describe_types}) as aws:
        settings = SETTINGS.model_copy(
            update={"DOCKERHUB_TAG": f"{registry.host}/{name}", "MACHINE_TYPE": list(types) or ["m5.large"]}
        )
        lookups = Lookups(settings, aws.clients, None, None, RegistryHttp().fetch)  # type: ignore[arg-type]
        (finding,) = check_container_image(lookups)
    return finding


def _describe_types(parameters: dict[str, Any]) -> dict[str, Any]:
    names = parameters["Filters"][0]["Values"]
    return {"InstanceTypes": [
        {"InstanceType": name, "VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 8192},
         "ProcessorInfo": {"SupportedArchitectures": ["arm64" if "g." in name else "x86_64"]}}
        for name in names]}  # fmt: skip


# What the image is for


@pytest.mark.parametrize("index", [build_index("arm64"), build_index("arm64") | {"manifests": [
    *build_index("arm64")["manifests"], WINDOWS]}], ids=["arm64", "arm64 and Windows"])  # fmt: skip
def test_an_image_for_another_processor_is_wrong_and_says_how_to_build_it(
    registry: FakeRegistry, index: dict[str, Any]
) -> None:
    registry.documents[MANIFEST] = index
    finding = check_image(registry)
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert finding.message == f"{registry.host}/user/app:1 is for arm64, which m5.large cannot run"
    assert "make push" in finding.remedy


def test_an_image_for_windows_only_is_wrong_although_its_processor_fits(registry: FakeRegistry) -> None:
    registry.documents[MANIFEST] = {"schemaVersion": 2, "manifests": [WINDOWS, ATTESTATION]}
    finding = check_image(registry)
    assert finding.level is FindingLevel.WRONG
    assert finding.message == f"{registry.host}/user/app:1 is for windows/amd64, which m5.large cannot run"


def test_an_image_for_several_processors_runs_on_all_of_them(registry: FakeRegistry) -> None:
    registry.documents[MANIFEST] = build_index("amd64", "arm64")
    finding = check_image(registry, "user/app:1", "m5.large", "m6g.large")
    assert finding.level is FindingLevel.OK
    assert finding.message.endswith("for arm64, x86_64")


def test_one_machine_type_that_cannot_run_the_image_is_named(registry: FakeRegistry) -> None:
    registry.documents[MANIFEST] = build_index("amd64")
    finding = check_image(registry, "user/app:1", "m5.large", "m6g.large")
    assert finding.level is FindingLevel.WRONG
    assert finding.message.endswith("is for x86_64, which m6g.large cannot run")


def test_the_processor_of_a_single_image_is_in_its_config_which_the_registry_keeps_elsewhere(
    registry: FakeRegistry,
) -> None:
    registry.documents[MANIFEST] = SINGLE_IMAGE
    with serve_registry(FakeRegistry(documents={"/storage/cafe": {"architecture": "arm64", "os": "linux"}})) as storage:
        registry.documents[CONFIG] = f"http://{storage.host}/storage/cafe?signature=1"
        assert "is for arm64, which m5.large cannot run" in check_image(registry).message
        assert storage.authorizations == [""], "another host must not get the token"


@pytest.mark.parametrize(
    "documents",
    [
        {MANIFEST: {"schemaVersion": 1, "architecture": "arm64"}},
        {
            MANIFEST: {"manifests": [{"digest": "sha256:d"}]},
            "user/app/manifests/sha256:d": SINGLE_IMAGE,
            CONFIG: {"architecture": "arm64"},
        },
    ],
    ids=["Docker's oldest format", "an index without platforms"],
)
def test_other_forms_of_manifests_are_read_too(registry: FakeRegistry, documents: dict[str, Any]) -> None:
    registry.documents |= documents
    assert "is for arm64, which m5.large cannot run" in check_image(registry).message


@pytest.mark.parametrize("config", [None, [], {"os": "linux"}, "<html>"])
def test_an_image_without_an_architecture_still_exists(registry: FakeRegistry, config: Any) -> None:
    registry.documents[MANIFEST] = SINGLE_IMAGE
    if config is not None:
        registry.refusals[CONFIG] = (200, config)
    finding = check_image(registry)
    assert (finding.level, finding.message) == (FindingLevel.OK, f"{registry.host}/user/app:1 is in {registry.host}")


def test_a_digest_is_looked_up_instead_of_a_tag(registry: FakeRegistry) -> None:
    digest = "sha256:" + "0" * 64
    registry.documents[f"user/app/manifests/{digest}"] = build_index("amd64")
    assert check_image(registry, f"user/app@{digest}").level is FindingLevel.OK
    registry.documents["user/app/manifests/latest"] = build_index("amd64")
    assert check_image(registry, "user/app").level is FindingLevel.OK


# What registries answer


@pytest.mark.parametrize("key", ["token", "access_token"])
@pytest.mark.parametrize("with_scope", [True, False])
def test_a_token_for_the_repository_is_requested_where_the_registry_says(
    registry: FakeRegistry, key: str, with_scope: bool
) -> None:
    registry.token_key, registry.with_scope = key, with_scope
    registry.documents[MANIFEST] = build_index("amd64")
    assert check_image(registry).level is FindingLevel.OK
    assert registry.requests == [f"/v2/{MANIFEST}", "/token", f"/v2/{MANIFEST}"]
    assert registry.token_queries == [{"service": ["registry.example"], "scope": ["repository:user/app:pull"]}]
    assert registry.accepted == {*INDEX_MEDIA_TYPES, *MANIFEST_MEDIA_TYPES}


def test_a_registry_that_needs_no_token_is_asked_once(registry: FakeRegistry) -> None:
    registry.asks_for_token = False
    registry.documents[MANIFEST] = build_index("amd64")
    assert check_image(registry).level is FindingLevel.OK
    assert registry.requests == [f"/v2/{MANIFEST}"]


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"])
def test_a_tag_that_does_not_exist_is_wrong(registry: FakeRegistry, code: str) -> None:
    registry.refusals[MANIFEST] = (404, build_errors(code))
    finding = check_image(registry)
    assert (finding.level, finding.is_user_error) == (FindingLevel.WRONG, True)
    assert finding.message == f"{registry.host}/user/app:1 is not in {registry.host}"
    assert finding.remedy == "push it (make push), or correct DOCKERHUB_TAG"


@pytest.mark.parametrize(
    ("path", "status", "body", "text"),
    [
        (MANIFEST, 401, build_errors("UNAUTHORIZED"), "nobody who is not logged in"),  # Docker Hub
        (MANIFEST, 403, build_errors("DENIED"), "nobody who is not logged in"),
        ("token", 403, build_errors("DENIED"), "nobody who is not logged in"),  # GHCR
        ("token", 401, "", "nobody who is not logged in"),
        ("token", 200, {}, "nobody who is not logged in"),
        ("token", 429, "", "limits how often"),
        (MANIFEST, 429, build_errors("TOOMANYREQUESTS"), "limits how often"),
        (MANIFEST, 404, "<html>no registry here</html>", "HTTP status 404"),
        (MANIFEST, 500, "", "HTTP status 500"),
        (MANIFEST, 200, "<html>welcome</html>", "not a manifest"),
    ],
)
def test_an_image_that_cannot_be_read_gets_a_warning(
    registry: FakeRegistry, path: str, status: int, body: Any, text: str
) -> None:
    registry.refusals[path] = (status, body)
    finding = check_image(registry)
    assert finding.level is FindingLevel.WARNING
    assert text in finding.message
    assert finding.remedy


def test_a_registry_that_wants_a_password_gets_a_warning(registry: FakeRegistry) -> None:
    registry.challenge_scheme = "Basic"
    assert "nobody who is not logged in" in check_image(registry).message
    assert registry.requests == [f"/v2/{MANIFEST}"]


def test_a_registry_that_cannot_be_reached_gets_a_warning() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        registry = FakeRegistry(host=f"127.0.0.1:{unused.getsockname()[1]}")
        finding = check_image(registry)
    assert finding.level is FindingLevel.WARNING
    assert "did not answer" in finding.message


def test_all_requests_of_a_check_share_one_time_limit(registry: FakeRegistry) -> None:
    registry.asks_for_token = False
    registry.documents[MANIFEST] = build_index("amd64")
    times = iter([0.0, 14.0, 15.1])
    http = RegistryHttp(lambda: next(times))
    url = f"http://{registry.host}/v2/{MANIFEST}"
    assert [http.fetch(url, {}).status for _ in range(2)] == [200, 200]
    with pytest.raises(UnreachableRegistryError, match="no answer within 15 seconds"):
        http.fetch(url, {})


@contextmanager
def serve_slowly(start: bytes) -> Iterator[str]:
    """Serve an answer that begins with `start` and goes on for 3 seconds, byte by byte. Yield its address."""
    is_over = Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(start)
            for _ in range(300):
                if is_over.wait(0.01):
                    return
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/v2/app"
        finally:
            is_over.set()
            thread.join()


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 "],
    ids=["body", "header", "status"],
)
def test_a_registry_that_sends_its_answer_byte_by_byte_cannot_exceed_the_time_limit(
    registry: FakeRegistry, start: bytes
) -> None:
    registry.asks_for_token = False
    registry.documents[MANIFEST] = build_index("amd64")
    times = iter([0.0, 14.5])
    http = RegistryHttp(lambda: next(times))
    http.fetch(f"http://{registry.host}/v2/{MANIFEST}", {})
    with serve_slowly(start) as url, pytest.raises(UnreachableRegistryError, match="no answer within 15 seconds"):
        http.fetch(url, {})


@pytest.mark.parametrize("target", ["http://a[@registry.example/x", "//]@", "http://[bad", "http://registry:port/x"])
def test_a_redirect_to_an_invalid_address_gets_a_warning(registry: FakeRegistry, target: str) -> None:
    registry.asks_for_token = False
    registry.documents[MANIFEST] = target
    finding = check_image(registry)
    assert finding.level is FindingLevel.WARNING
    assert "did not answer" in finding.message


def test_only_the_address_of_a_redirect_is_read() -> None:
    with serve_slowly(b"HTTP/1.1 200 OK\r\nLocation: http://a[@b\r\nContent-Length: 0\r\n\r\n") as url:
        assert RegistryHttp().fetch(url, {}).status == 200


def test_a_token_service_with_an_invalid_address_gets_a_warning(registry: FakeRegistry) -> None:
    registry.token_url = "http://[bad"
    assert "did not answer" in check_image(registry).message


def test_an_answer_of_nothing_but_brackets_is_not_a_manifest(registry: FakeRegistry) -> None:
    registry.refusals[MANIFEST] = (200, "[" * 200_000)
    finding = check_image(registry)
    assert finding.level is FindingLevel.WARNING
    assert "not a manifest" in finding.message


@pytest.mark.parametrize(
    "manifest",
    [
        {"manifests": [{"platform": {"os": ["x"], "architecture": {}}}]},
        {"manifests": [{"platform": {"os": "linux", "architecture": ["arm64"]}}]},
        {"manifests": [{"platform": {"os": 5, "architecture": "arm64"}}]},
        {"architecture": {"a": "arm64"}},
        {"manifests": [{"digest": {"a": "sha256:d"}}]},
    ],
)
def test_a_platform_that_is_not_text_is_none(registry: FakeRegistry, manifest: dict[str, Any]) -> None:
    registry.documents[MANIFEST] = manifest
    finding = check_image(registry)
    assert (finding.level, finding.message) == (FindingLevel.OK, f"{registry.host}/user/app:1 is in {registry.host}")


def test_a_circle_of_redirects_ends(registry: FakeRegistry) -> None:
    registry.asks_for_token = False
    registry.documents |= {MANIFEST: "/v2/other", "other": f"/v2/{MANIFEST}"}
    assert "too many redirects" in check_image(registry).message


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("debian", "https://registry-1.docker.io/v2/library/debian"),
        ("user/app:1", "https://registry-1.docker.io/v2/user/app"),
        ("docker.io/user/app", "https://registry-1.docker.io/v2/user/app"),
        ("docker.io/debian:12", "https://registry-1.docker.io/v2/library/debian"),
        ("ghcr.io/user/app:1", "https://ghcr.io/v2/user/app"),
        ("quay.io/biocontainers/bwa:0.7", "https://quay.io/v2/biocontainers/bwa"),
        ("public.ecr.aws/docker/library/debian", "https://public.ecr.aws/v2/docker/library/debian"),
        ("registry.example.org:5000/app", "https://registry.example.org:5000/v2/app"),
        ("localhost:5000/app", "http://localhost:5000/v2/app"),
    ],
)
def test_each_registry_is_read_at_its_own_address(name: str, address: str) -> None:
    image = parse_image_reference(name)
    assert image is not None
    assert f"{find_registry_url(image.registry)}/v2/{find_repository_path(image)}" == address


# ECR


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as exact_clients:
        yield exact_clients


def expect_ecr_manifest(aws: ExactClients, manifest: Any) -> None:
    request = {
        "registryId": ACCOUNT.account_id, "repositoryName": "tools/app", "imageIds": [{"imageTag": "1"}],
        "acceptedMediaTypes": [*INDEX_MEDIA_TYPES, *MANIFEST_MEDIA_TYPES],
    }  # fmt: skip
    aws.expect_call("ecr.batch_get_image", request, images=[{"imageManifest": json.dumps(manifest)}])


def expect_ecr_config(aws: ExactClients) -> None:
    request = {"registryId": ACCOUNT.account_id, "repositoryName": "tools/app", "layerDigest": "sha256:cafe"}
    aws.expect_call("ecr.get_download_url_for_layer", request, downloadUrl="https://layers/cafe")


def find_ecr_architectures(aws: ExactClients, config: bytes | Exception) -> tuple[set[str], list[str]]:
    """Return the architectures of the image in ECR, and the URLs that were fetched for them."""
    image = parse_image_reference(ECR)
    assert image is not None
    fetched: list[str] = []

    def fetch(url: str, headers: Any) -> HttpResponse:
        assert headers == {}, "a presigned URL must get no other credentials"
        fetched.append(url)
        if isinstance(config, Exception):
            raise config
        return HttpResponse(200, {}, config)

    return find_architectures(EcrImage(aws.clients.ecr, image, fetch)), fetched


def test_an_index_in_ecr_takes_one_call(aws: ExactClients) -> None:
    expect_ecr_manifest(aws, build_index("amd64", "arm64"))
    assert find_ecr_architectures(aws, b"") == ({"x86_64", "arm64"}, [])


def test_the_architecture_of_a_single_image_in_ecr_is_read_from_its_config(aws: ExactClients) -> None:
    expect_ecr_manifest(aws, SINGLE_IMAGE)
    expect_ecr_config(aws)
    assert find_ecr_architectures(aws, b'{"architecture": "arm64"}') == ({"arm64"}, ["https://layers/cafe"])


@pytest.mark.parametrize("config", [b"", b"<html>", b"[]", b"{}", UnreachableRegistryError("offline")])
def test_an_image_in_ecr_without_an_architecture_still_exists(aws: ExactClients, config: bytes | Exception) -> None:
    expect_ecr_manifest(aws, SINGLE_IMAGE)
    expect_ecr_config(aws)
    architectures, _ = find_ecr_architectures(aws, config)
    assert architectures == set()
    (finding,) = judge_container_image(ECR, "ECR", architectures, {"m5.large": frozenset({"x86_64"})})
    assert finding.level is FindingLevel.OK


def test_a_missing_repository_in_ecr_is_a_missing_image(aws: ExactClients) -> None:
    aws.expect_error("ecr.batch_get_image", "RepositoryNotFoundException")
    with pytest.raises(ImageLookupError) as raised:
        find_ecr_architectures(aws, b"")
    assert raised.value.problem is ImageProblem.MISSING


def find_registry_digest(registry: FakeRegistry, name: str) -> str | None:
    return find_image_digest(f"{registry.host}/{name}", "us-east-1", None, RegistryHttp().fetch)


def test_the_digest_of_an_image_is_that_of_its_manifest(registry: FakeRegistry) -> None:
    registry.documents[MANIFEST] = SINGLE_IMAGE
    digest = find_registry_digest(registry, "user/app:1")
    assert digest is not None
    assert digest.startswith("sha256:")
    assert find_registry_digest(registry, "user/app:2") is None
    assert find_registry_digest(registry, f"user/app@sha256:{'a' * 64}") == f"sha256:{'a' * 64}"


def test_the_digest_of_an_image_in_ecr_is_read_with_its_client_in_its_own_region(aws: ExactClients) -> None:
    request = {
        "registryId": ACCOUNT.account_id, "repositoryName": "tools/app", "imageIds": [{"imageTag": "1"}],
        "acceptedMediaTypes": [*INDEX_MEDIA_TYPES, *MANIFEST_MEDIA_TYPES],
    }  # fmt: skip
    aws.expect_call("ecr.batch_get_image", request, images=[{"imageId": {"imageDigest": "sha256:cafe"}}])
    fetch = RegistryHttp().fetch
    assert find_image_digest(ECR, "us-east-1", aws.clients.ecr, fetch) == "sha256:cafe"
    assert find_image_digest(ECR, "eu-west-1", aws.clients.ecr, fetch) is None
    aws.expect_error("ecr.batch_get_image", "AccessDeniedException")
    assert find_image_digest(ECR, "us-east-1", aws.clients.ecr, fetch) is None
