"""The helloworld example: Distributed-HelloWorld's Job files produce the published commands and output locations."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from distributed_something.worker.job.job import Folders, Job
from tests.examples.example import Example, load_worker, open_example
from tests.support.engine import require_engine, run_docker

GREETINGS = {
    "Hi, my name is FirstName LastName, and my favorite ice_cream is salted caramel, and my favorite pizza is "
    "four cheeses",
    "Hi, my name is FirstName LastName, and my favorite ice_cream is vanilla, and my favorite pizza is margherita",
}


def read_greetings(example: Example) -> set[str]:
    """Return all jobs' greetings, after checking that the published system would write each file to the same folder."""
    files = example.list_result_files()
    assert all(key.startswith("ice_cream-pizza/") and key.endswith("/HelloWorld.txt") for key in files)
    return {path.read_text() for path in files.values()}


def test_two_groups_produce_two_greetings(tmp_path: Path) -> None:
    with open_example("helloworld", tmp_path) as example:
        assert "jobs done       2" in example.run_four_commands()
        assert read_greetings(example) == GREETINGS
        assert len(example.list_result_files()) == 2


@pytest.mark.long
@pytest.mark.containers
def test_jobs_in_containers_write_the_same_greetings(tmp_path: Path) -> None:
    require_engine()
    with open_example("helloworld", tmp_path) as example:
        image = example.build_image()
        assert "jobs done       2" in example.run_four_commands("files/exampleJob.json", "--containers")
        assert read_greetings(example) == GREETINGS
        assert {record["image"] for record in example.read_records()} == {image}
    assert "example-helloworld" not in run_docker("ps", "--all", "--format", "{{.Image}}")


# The command


def make_job(group: object, monkeypatch: pytest.MonkeyPatch, name: str = "Ada Lovelace") -> Job:
    monkeypatch.setenv("MY_NAME", name)
    settings = SimpleNamespace(aws_bucket="bucket", app_name="app")
    job: Job = load_worker("helloworld")["make_job"](
        {"favorite_color": "blue", "group": group}, Folders(Path("job")), settings
    )
    return job


def test_the_command_is_exactly_the_published_command(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job({"pizza": "pepperoni", "ice_cream": "cookie dough"}, monkeypatch)
    assert job.command == (
        'printf "Hi, my name is Ada Lovelace, and my favorite ice_cream is cookie dough, '
        'and my favorite pizza is pepperoni" > job/output/HelloWorld.txt'
    )


@pytest.mark.parametrize("text", ["100 % fior\\di latte", "\"; touch pwned; $(id) `id` '", "{name}", "%s%n"])
def test_neither_the_shell_nor_printf_interprets_a_favorite_thing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job({"ice_cream": text, "pizza": text}, monkeypatch, name=text)
    (tmp_path / "job" / "output").mkdir(parents=True)
    subprocess.run(["/bin/sh", "-c", str(job.command)], cwd=tmp_path, check=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    expected = f"Hi, my name is {text}, and my favorite ice_cream is {text}, and my favorite pizza is {text}"
    assert [path.read_text() for path in files] == [expected]


@pytest.mark.parametrize("group", ["vanilla", {"ice_cream": "vanilla"}, {}])
def test_a_group_with_fewer_than_two_favorite_things_is_rejected(
    group: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="`group` needs two favorite things"):
        make_job(group, monkeypatch)


def test_different_jobs_write_to_different_output_locations(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [{"ice_cream": cream, "pizza": pizza} for cream in ("a", "b") for pizza in ("c", "d")]
    assert len({make_job(group, monkeypatch).output_location for group in groups}) == 4
