"""Starting, finding, and stopping a project's local cloud, and its isolation from AWS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ProxyConnectionError

from distributed_something.localcloud import LocalCloud, LocalCloudError, start_local_cloud, stop_local_cloud
from distributed_something.localcloud.base.layout import CloudState, build_layout, read_cloud_state
from tests.support.local_lab import Lab, stop_lab, wait_until


def test_a_second_command_uses_the_running_local_cloud(lab: Lab) -> None:
    first = lab.cloud
    assert lab.start_cloud().state == first.state


def test_commands_that_start_at_the_same_time_share_one_local_cloud(tmp_path: Path) -> None:
    clouds: list[LocalCloud] = []
    threads = [
        threading.Thread(target=lambda: clouds.append(start_local_cloud(tmp_path, default_worker=tmp_path / "worker")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({cloud.state for cloud in clouds}) == 1
    finally:
        stop_local_cloud(tmp_path)


def test_the_local_clouds_of_two_projects_are_independent(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "project-two")
    try:
        lab.create_service(1)
        other.create_service(1)
        lab.request_fleet(1)
        wait_until(lambda: lab.describe_service()["runningCount"] == 1)
        assert other.describe_service()["runningCount"] == 0
        assert stop_local_cloud(other.project)
        assert lab.describe_service()["runningCount"] == 1
    finally:
        stop_lab(other)


def test_a_copy_of_a_project_has_its_own_local_cloud(lab: Lab, tmp_path: Path) -> None:
    lab.cloud.ensure_buckets(["copied"])
    lab.cloud.build_client("s3").put_object(Bucket="copied", Key="a", Body=b"1")
    original, copy = lab.cloud.state, tmp_path / "copy"
    shutil.copytree(lab.project, copy)
    assert stop_local_cloud(copy) is False
    cloud = start_local_cloud(copy, default_worker=copy / "worker")
    try:
        assert cloud.state.moto != original.moto
        assert (cloud.export_buckets(["copied"]) / "copied" / "a").read_text() == "1"
        assert stop_local_cloud(copy) is True
        assert lab.start_cloud().state == original
        assert "copied" in lab.cloud.list_bucket_names()
    finally:
        stop_local_cloud(copy)


def test_stop_returns_whether_a_local_cloud_was_running(tmp_path: Path) -> None:
    assert stop_local_cloud(tmp_path) is False
    start_local_cloud(tmp_path, default_worker=tmp_path / "worker")
    assert stop_local_cloud(tmp_path) is True
    assert stop_local_cloud(tmp_path) is False
    assert read_cloud_state(build_layout(tmp_path)) is None


def test_a_failed_start_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(LocalCloudError) as error:
        start_local_cloud(tmp_path, default_worker=tmp_path / "worker")
    assert "\n" not in str(error.value)
    assert "cloud.log" in str(error.value)


def test_starting_with_containers_fails_if_no_engine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(LocalCloudError, match="container"):
        start_local_cloud(tmp_path, containers=True, default_worker=tmp_path / "worker")
    assert stop_local_cloud(tmp_path) is False


def test_the_local_cloud_listens_only_on_the_loopback_interface(lab: Lab) -> None:
    for url in (lab.cloud.state.moto, lab.cloud.state.ministack):
        assert url.startswith("http://127.0.0.1:")
    environment = lab.cloud.build_environment()
    addresses = {value for name, value in environment.items() if name.startswith("AWS_ENDPOINT_URL")}
    assert addresses == {lab.cloud.state.moto, lab.cloud.state.ministack}


@pytest.fixture
def user_variables(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "user-config").write_text("[profile someone]\nregion = eu-west-3\n")
    return {
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "someone",
        "AWS_CONFIG_FILE": str(tmp_path / "user-config"),
        "AWS_SESSION_TOKEN": "secret",
        "AWS_CA_BUNDLE": "/nowhere.pem",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_DYNAMODB": "https://example.com",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }


def test_the_users_aws_settings_have_no_effect(lab: Lab, user_variables: dict[str, str]) -> None:
    script = """if True:
        import boto3
        assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
        assert boto3.client("dynamodb").meta.endpoint_url.startswith("http://127.0.0.1:")
        boto3.client("sqs").create_queue(QueueName="apples")
        boto3.client("s3").list_buckets()
        boto3.client("logs").describe_log_groups()
        boto3.client("cloudwatch").list_dashboards()
    """
    environment = user_variables | build_environment(lab, user_variables)
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_session_ignores_the_users_aws_settings_and_leaves_the_environment_as_it_is(
    lab: Lab, user_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in user_variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    session = lab.cloud.build_session()

    assert session.client("sts").get_caller_identity()["Account"] == "123456789012"
    for service in ("sqs", "s3", "logs", "cloudwatch"):
        assert session.client(service).meta.endpoint_url == lab.cloud.state.ministack
    for service in ("ec2", "events", "kms", "dynamodb"):
        assert session.client(service).meta.endpoint_url == lab.cloud.state.moto
    session.client("s3").list_buckets()
    session.client("sqs").list_queues()
    assert session.region_name == "us-east-1"
    credentials = session.get_credentials()
    assert credentials is not None
    assert (credentials.access_key, credentials.token) == ("local", None)
    assert os.environ == before


def test_a_session_reaches_another_server_as_the_user_would(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    client = lab.cloud.build_session().client("s3", endpoint_url="https://s3.example.org")
    assert client.meta.endpoint_url == "https://s3.example.org"
    with pytest.raises(ProxyConnectionError):
        client.list_buckets()


def build_environment(lab: Lab, user_variables: dict[str, str]) -> dict[str, str]:
    """Return the environment variables for a command run by a user who has set `user_variables`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user_variables.items():
            patch.setenv(name, value)
        return lab.cloud.build_environment()


def test_a_command_never_reads_an_incomplete_profile_while_other_commands_start(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    cloud = LocalCloud(layout, CloudState(1, "token", "http://moto", "http://ministack", layout.key), "us-east-1")
    profile = Path(cloud.build_environment()["AWS_CONFIG_FILE"])
    threads = [threading.Thread(target=lambda: [cloud.build_environment() for _ in range(500)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    texts = set()
    while any(thread.is_alive() for thread in threads):
        texts.add(profile.read_text())
    assert texts == {"[default]\n"}
