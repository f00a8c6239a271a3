"""runScript: programs that know nothing of the local cloud use it instead of AWS."""

from __future__ import annotations

from pathlib import Path

from tests.support.offline import run_command
from tests.support.project import create_project

# Neither names an address nor has credentials, like the scripts of labs.
SCRIPT = """
import sys
import boto3

s3 = boto3.client("s3")
for bucket in ("tryout-bucket", "lab-images", "lab-results"):
    s3.put_object(Bucket=bucket, Key="a.txt", Body=b"1")
print(sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]), sys.argv[1:])
sys.exit(7)
"""


def test_a_script_with_boto3_uses_the_buckets_of_the_config_and_keeps_its_options_and_exit_code(tmp_path: Path) -> None:
    buckets = {"SOURCE_BUCKET": "lab-images", "WORKSPACE_BUCKET": "False", "DESTINATION_BUCKET": "lab-results"}
    with create_project(tmp_path / "project", **buckets) as project:
        (tmp_path / "script.py").write_text(SCRIPT)
        words = ["python3", str(tmp_path / "script.py"), "--local", "--help", "x y"]
        result = project.run("runScript", *words, check=False, AWS_PROFILE="ada", AWS_DEFAULT_REGION="eu-west-1")
        assert result.stdout == "['lab-images', 'lab-results', 'tryout-bucket'] ['--local', '--help', 'x y']\n"
        assert result.returncode == 7
        killed = project.run("runScript", "sh", "-c", "kill -9 $$", check=False)
        assert killed.returncode == 128 + 9
        unknown = project.run("runScript", "no-such-program", check=False)
        assert unknown.returncode == 2
        problem = "'no-such-program' cannot be started (No such file or directory)"
        assert unknown.stderr == f"run.py: runScript: {problem}; check the name, or give the path of the program\n"


def test_it_is_refused_on_aws_where_a_script_needs_no_help() -> None:
    outcome = run_command("runScript", "python", "my script.py")
    assert outcome.code == 2
    assert outcome.err.endswith("run.py --local runScript python 'my script.py'\n")
