"""The example helloworld: Distributed-HelloWorld's job files give its commands, and its outputs where they were."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from distributed_something.worker.job.job import Folders, Job
from tests.examples.example import Example, example, worker_of
from tests.support.engine import docker, require_engine

SAID = {
    "Hi, my name is FirstName LastName, and my favorite ice_cream is salted caramel, and my favorite pizza is "
    "four cheeses",
    "Hi, my name is FirstName LastName, and my favorite ice_cream is vanilla, and my favorite pizza is margherita",
}


def said(made: Example) -> set[str]:
    """What the files of all jobs say; each lies where the published program writes it, in a folder of its own job."""
    files = made.files()
    assert all(key.startswith("ice_cream-pizza/") and key.endswith("/HelloWorld.txt") for key in files)
    return {path.read_text() for path in files.values()}


def test_two_groups_say_hello_in_two_files(tmp_path: Path) -> None:
    with example("helloworld", tmp_path) as made:
        assert "jobs done       2" in made.four_commands()
        assert said(made) == SAID
        assert len(made.files()) == 2


@pytest.mark.containers
def test_its_image_says_the_same(tmp_path: Path) -> None:
    require_engine()
    with example("helloworld", tmp_path) as made:
        image = made.build()
        assert "jobs done       2" in made.four_commands("files/exampleJob.json", "--containers")
        assert said(made) == SAID
        assert {record["image"] for record in made.records()} == {image}
    assert "example-helloworld" not in docker("ps", "--all", "--format", "{{.Image}}")


# The command


def job(group: object, monkeypatch: pytest.MonkeyPatch, name: str = "Ada Lovelace") -> Job:
    monkeypatch.setenv("MY_NAME", name)
    settings = SimpleNamespace(aws_bucket="bucket", app_name="app")
    made: Job = worker_of("helloworld")["make_job"](
        {"favorite_color": "blue", "group": group}, Folders(Path("job")), settings
    )
    return made


def test_the_command_is_the_published_one_word_for_word(monkeypatch: pytest.MonkeyPatch) -> None:
    made = job({"pizza": "pepperoni", "ice_cream": "cookie dough"}, monkeypatch)
    assert made.command == (
        'printf "Hi, my name is Ada Lovelace, and my favorite ice_cream is cookie dough, '
        'and my favorite pizza is pepperoni" > job/output/HelloWorld.txt'
    )


@pytest.mark.parametrize("odd", ["100 % fior\\di latte", "\"; touch pwned; $(id) `id` '", "{name}", "%s%n"])
def test_no_favorite_thing_is_read_by_the_shell_or_by_printf(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job({"ice_cream": odd, "pizza": odd}, monkeypatch, name=odd)
    (tmp_path / "job" / "output").mkdir(parents=True)
    subprocess.run(["/bin/sh", "-c", str(made.command)], cwd=tmp_path, check=True)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    expected = f"Hi, my name is {odd}, and my favorite ice_cream is {odd}, and my favorite pizza is {odd}"
    assert [path.read_text() for path in written] == [expected]


@pytest.mark.parametrize("group", ["vanilla", {"ice_cream": "vanilla"}, {}])
def test_a_group_without_two_favorites_is_a_bad_message(group: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="a group needs two favorite things"):
        job(group, monkeypatch)


def test_jobs_that_differ_in_anything_write_to_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [{"ice_cream": cream, "pizza": pizza} for cream in ("a", "b") for pizza in ("c", "d")]
    assert len({job(group, monkeypatch).output_location for group in groups}) == 4
