"""What is left of a run, of all runs, of older runs: whole stories on moto, and AWS's late answers one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.observe.resources import ResourceKind, ResourceState, format_resource
from distributed_something.run.cleanup.find_run import NO_FLEET_ID, recover_monitor_file
from distributed_something.run.cleanup.inventory import (
    ENDING_WAIT_SECONDS,
    REMAINING_WAIT_SECONDS,
    Inventory,
    RunNames,
    format_inventory,
    observe_all_resources,
    observe_run_resources,
    wait_for_removal,
)
from distributed_something.run.cleanup.orphans import (
    delete_orphans,
    find_orphans,
    format_orphan_removal,
    format_orphans,
)
from distributed_something.run.cleanup.report import format_cleanup_report
from distributed_something.run.dashboard import build_dashboard
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from tests.support.account import Account, account
from tests.support.emulated_runs import Runs, emulated_account, pairs
from tests.support.fakes import MISSING_QUEUE, MONITOR_FILE, QUEUE_URL, RUN, SETTINGS, START, FakeTime
from tests.support.run_account import EMPTY_ACCOUNT

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
NAMES = RunNames(MONITOR_FILE, "AppDead")
OLDER = "20260101T000000Z"


@pytest.fixture
def clients() -> Iterator[Clients]:
    with emulated_account() as made:
        yield made


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def runs(clients: Clients) -> Runs:
    return Runs(clients)


def kinds(left: Inventory, state: ResourceState = ResourceState.LEFT, app: str = "App") -> dict[str, int]:
    found = [thing.kind for thing in left.of(state) if thing.app == app]
    return {kind: found.count(kind) for kind in sorted(set(found))}


EVERYTHING = {"alarm": 2, "cluster": 1, "dashboard": 1, "fleet": 1, "launch template": 1, "machine": 2, "queue": 2,
              "rule": 1, "service": 1, "task definition": 1, "volume": 1}  # fmt: skip


# Stories


def test_a_run_that_goes_on_is_seen_whole_by_its_names_and_among_all_runs(runs: Runs) -> None:
    fleet_id = runs.start()
    for left in (observe_run_resources(runs.clients, runs.names("App", fleet_id)), observe_all_resources(runs.clients)):
        assert left.unseen == []
        assert kinds(left) == EVERYTHING
        assert not left.clean


def test_after_a_clean_up_nothing_is_left_of_the_run_and_all_of_another_is(runs: Runs, time: FakeTime) -> None:
    fleet_id = runs.start()
    runs.start("AppTwo")
    names = runs.names("App", fleet_id)
    report = runs.clean(names)
    assert report.failed == []
    left = wait_for_removal(runs.clients, names, time.sleep)
    assert left.clean, format_inventory(left)
    assert format_inventory(left) == "nothing is left"
    assert not wait_for_removal(runs.clients, None, time.sleep).clean, "of all runs the other one is"
    every = observe_all_resources(runs.clients)
    assert kinds(every) == {}
    assert kinds(every, app="AppTwo") == EVERYTHING
    assert runs.clean(names).removed == [], "a second clean-up finds nothing"


def test_a_clean_up_from_another_computer_needs_no_monitor_file(runs: Runs, time: FakeTime) -> None:
    """Not even the bucket: the config's names and the tags do."""
    runs.start()
    settings = SETTINGS.model_copy(update={
        "SQS_DEAD_LETTER_QUEUE": "AppDeadMessages", "ECS_CLUSTER": "App-cluster", "SQS_QUEUE_NAME": "AppQueue"
    })  # fmt: skip
    file = recover_monitor_file(settings, runs.clients, time.now)
    names = RunNames(file, "AppDeadMessages")
    assert runs.clean(names, whole_app=True).failed == []
    assert wait_for_removal(runs.clients, names, time.sleep).clean
    assert observe_all_resources(runs.clients).clean
    assert file.run == RUN, "as the fleet's tag says"
    again = recover_monitor_file(settings, runs.clients, time.now)
    assert again.MONITOR_FLEET_ID == NO_FLEET_ID
    assert runs.clean(RunNames(again, "AppDeadMessages"), whole_app=True).removed == []


def test_two_fleets_of_an_app_are_both_ended_by_a_clean_up_of_the_app(runs: Runs) -> None:
    fleet_id = runs.start()
    runs.fleet("App", run=OLDER)
    names = runs.names("App", fleet_id)
    report = runs.clean(names, whole_app=True)
    assert len(report.list_removed(ResourceKind.FLEET)) == 2
    assert kinds(observe_run_resources(runs.clients, names)) == {}


def test_failed_jobs_are_kept_and_nothing_else(runs: Runs) -> None:
    names = runs.names("App", runs.start())
    url = runs.clients.sqs.get_queue_url(QueueName="AppDeadMessages")["QueueUrl"]
    runs.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")
    told = "kept            dead-letter queue AppDeadMessages (it holds 1 failed jobs)"
    assert told in format_cleanup_report(runs.clean(names)).splitlines()
    for left in (observe_run_resources(runs.clients, names), observe_all_resources(runs.clients)):
        assert left.clean
        assert [format_resource(one) for one in left.of(ResourceState.KEPT)] == [
            "queue AppDeadMessages (app App, holds 1 failed job)"
        ]
    assert runs.clean(names, failed_too=True).list_removed(ResourceKind.DEAD_LETTER_QUEUE) == ["AppDeadMessages"]
    assert observe_run_resources(runs.clients, names).things == []


def test_waiting_jobs_are_told_where_they_are_left(runs: Runs) -> None:
    runs.start(jobs=3)
    assert "LEFT            queue AppQueue (app App, holds 3 jobs)" in format_inventory(
        observe_all_resources(runs.clients)
    )


def test_what_others_tag_with_the_word_app_is_doubted_and_never_counted(runs: Runs) -> None:
    """`app` is a common tag. Where nothing of such an app is surely ours, it is listed as not ours."""
    runs.clients.sqs.create_queue(QueueName="orders", tags={"app": "webshop"})
    runs.clients.ecs.create_cluster(clusterName="shop", tags=[{"key": "app", "value": "webshop"}])
    runs.clients.cloudwatch.put_metric_alarm(
        AlarmName="webshop_i-0123456789abcdef0", Namespace="AWS/EC2", MetricName="CPUUtilization", Statistic="Maximum",
        Dimensions=[{"Name": "InstanceId", "Value": "i-0123456789abcdef0"}], Period=300, EvaluationPeriods=3,
        Threshold=1, ComparisonOperator="LessThanThreshold", AlarmActions=["arn:aws:sns:us-east-1:123456789012:mail"],
    )  # fmt: skip
    tags: Any = [{"key": "app", "value": "webshop"}]
    containers: Any = [{"name": "shop", "image": "shop", "memory": 100}]
    for family in ("webshopTask", "shop"):
        runs.clients.ecs.register_task_definition(family=family, containerDefinitions=containers, tags=tags)
    runs.clients.ecs.create_service(cluster="shop", serviceName="webshopService", taskDefinition="shop", tags=tags)
    left = observe_all_resources(runs.clients)
    assert left.clean
    assert kinds(left, ResourceState.UNKNOWN, "webshop") == {"cluster": 1, "queue": 1}
    assert find_orphans(runs.clients, later).dead == []
    assert "not ours?       queue orders (app webshop, empty)" in format_inventory(left)


STRANGERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("active", {"app": "webshop"}),
    ("active", {"app": "webshop", "run": "nightly"}),
    ("active", {"app": "webshop", "run": "20261399T104500Z"}),
    ("cancelled_terminating", {"app": "webshop"}),
)


@pytest.mark.parametrize(("state", "tags"), STRANGERS)
def test_a_fleet_of_somebody_elses_with_the_tag_app_is_neither_dead_nor_left(
    empty: Account, state: str, tags: dict[str, str]
) -> None:
    """Only a run's name beside it says that a fleet is ours: cancelled, it takes its machines with it."""
    theirs = fleet(state, Tags=pairs(**tags))
    ends = {"InstanceId": "i-0", "State": {"Name": "shutting-down"}, "Tags": pairs(app="webshop")}
    empty.answers["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [theirs]}
    empty.answers["ec2.DescribeInstances"] = {"Reservations": [{"Instances": [ends]}]}
    empty.answers["ecs.DescribeTaskDefinition"] = nowhere("DescribeTaskDefinition", "ClientException")
    found = find_orphans(empty.clients, lambda: START + 7200)
    assert [one for one in found.dead if one.kind == "fleet"] == []
    left = observe_all_resources(empty.clients)
    assert left.clean
    assert kinds(left, ResourceState.UNKNOWN, "webshop") == {"fleet": 1, "machine": 1}


# AWS's late answers


def fleet(state: str = "active", **more: Any) -> dict[str, Any]:
    return {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": state, "Tags": pairs(app="App", run=RUN),
            "SpotFleetRequestConfig": {"IamFleetRole": "role", "TargetCapacity": 3},
            "CreateTime": datetime.fromtimestamp(START, UTC), **more}  # fmt: skip


def machine(state: str, name: str = "i-0a", **tags: str) -> dict[str, Any]:
    marks = pairs(app="App", run=RUN, Name="AppWorker", **tags)
    marks.append({"Key": "aws:ec2spot:fleet-request-id", "Value": FLEET_ID})
    return {"Reservations": [{"Instances": [{"InstanceId": name, "State": {"Name": state}, "Tags": marks}]}]}


def nowhere(call: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "none"}}, call)


@pytest.fixture
def empty() -> Iterator[Account]:
    with account(EMPTY_ACCOUNT) as made:
        yield made


class Then:
    """Answers that change from one look to the next; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, parameters: dict[str, Any]) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_nothing_is_said_after_one_look_of_a_dozen_calls(empty: Account, time: FakeTime) -> None:
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    assert (left.clean, time.slept) == (True, [])
    assert len(empty.calls) == 12
    wanted = {"Filters": [{"Name": "tag:app", "Values": ["App"]}]}
    assert empty.parameters("ec2.DescribeLaunchTemplates") == wanted
    assert empty.parameters("events.ListRules") == {"NamePrefix": "distributed-something-App"}


def test_a_volume_that_its_fleet_file_keeps_is_listed_as_kept_and_is_no_leftover(
    empty: Account, time: FakeTime
) -> None:
    tags = pairs(app="App", run=RUN, Name="AppWorker", keep="DeleteOnTermination is false")
    empty.answers["ec2.DescribeVolumes"] = {"Volumes": [{"VolumeId": "vol-0", "Tags": tags}]}
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    told = f"kept            volume vol-0 (app App, run {RUN}, kept, as the Fleet file requests)"
    assert format_inventory(left) == f"{told}\nnothing is left"


def test_a_fleet_that_still_shows_and_a_machine_that_shuts_down_are_waited_for(empty: Account, time: FakeTime) -> None:
    fleets = [{"SpotFleetRequestConfigs": [fleet(state)]} for state in ("active", "cancelled_terminating", "cancelled")]
    empty.answers["ec2.DescribeSpotFleetRequests"] = Then(*fleets)
    gone: dict[str, Any] = {"Reservations": []}
    empty.answers["ec2.DescribeInstances"] = Then(
        machine("running"), machine("running"), machine("shutting-down"), gone
    )
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    assert left.clean
    assert time.slept == [10.0] * 3


def test_a_machine_that_goes_on_is_told_after_a_minute(empty: Account, time: FakeTime) -> None:
    empty.answers["ec2.DescribeInstances"] = machine("running")
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    assert format_inventory(left) == f"LEFT            machine i-0a (app App, run {RUN}, running)"
    assert sum(time.slept) == REMAINING_WAIT_SECONDS


def test_what_does_not_end_is_told_after_five_minutes(empty: Account, time: FakeTime) -> None:
    empty.answers["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [fleet("cancelled_terminating")]}
    empty.answers["ec2.DescribeInstances"] = machine("running")
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    assert kinds(left, ResourceState.ENDING) == {"fleet": 1, "machine": 1}
    assert not left.clean
    assert sum(time.slept) == ENDING_WAIT_SECONDS


def test_a_queue_that_was_deleted_a_minute_ago_is_not_left(empty: Account, time: FakeTime) -> None:
    empty.answers["sqs.GetQueueUrl"] = {"QueueUrl": QUEUE_URL}
    empty.answers["sqs.GetQueueAttributes"] = nowhere("GetQueueAttributes", MISSING_QUEUE)
    assert wait_for_removal(empty.clients, NAMES, time.sleep).clean
    empty.answers["sqs.ListQueues"] = {"QueueUrls": [QUEUE_URL]}
    empty.answers["sqs.ListQueueTags"] = Then(nowhere("ListQueueTags", MISSING_QUEUE), {"Tags": {"app": "App"}})
    for _ in range(2):
        assert observe_all_resources(empty.clients).things == []


def test_where_it_may_not_look_nothing_is_proven(empty: Account, time: FakeTime) -> None:
    empty.refuse("cloudwatch.DescribeAlarms", "AccessDenied")
    left = wait_for_removal(empty.clients, NAMES, time.sleep)
    assert not left.clean
    (part,) = left.unseen
    assert part.denied
    (line,) = format_inventory(left).splitlines()
    assert line.startswith("NOT SEEN        ")
    assert "looking for alarms: AccessDenied" in line
    assert "events.ListRules" in empty.calls, "the look after it is taken"
    assert time.slept == [], "a right does not come by waiting"


def test_a_throttled_look_is_taken_again(empty: Account, time: FakeTime) -> None:
    throttled = nowhere("DescribeVolumes", "RequestLimitExceeded")
    empty.answers["ec2.DescribeVolumes"] = Then(throttled, {"Volumes": []})
    assert wait_for_removal(empty.clients, NAMES, time.sleep).clean
    assert time.slept == [10.0]


def test_the_pages_of_all_answers_are_read(empty: Account) -> None:
    """Each kind's only thing lies on the second page."""
    arn = "arn:aws:ecs:us-east-1:123456789012"

    def paged(key: str, token: str, *, asked: str = "", **second: Any) -> Any:
        def answer(parameters: dict[str, Any]) -> Any:
            return second if parameters.get(asked or token) == "more" else {key: [], token: "more"}

        return answer

    volume = {"VolumeId": "vol-0", "Tags": pairs(app="App", run=RUN)}
    template = {"LaunchTemplateId": "lt-0", "LaunchTemplateName": f"App-{RUN}", "Tags": pairs(app="App")}
    empty.answers |= {
        "ec2.DescribeSpotFleetRequests": paged(
            "SpotFleetRequestConfigs", "NextToken", SpotFleetRequestConfigs=[fleet()]
        ),
        "ec2.DescribeInstances": paged("Reservations", "NextToken", **machine("running")),
        "ec2.DescribeVolumes": paged("Volumes", "NextToken", Volumes=[volume]),
        "ec2.DescribeLaunchTemplates": paged("LaunchTemplates", "NextToken", LaunchTemplates=[template]),
        "sqs.ListQueues": paged("QueueUrls", "NextToken", QueueUrls=[QUEUE_URL]),
        "sqs.ListQueueTags": {"Tags": {"app": "App"}},
        "sqs.GetQueueAttributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
        "ecs.ListClusters": paged("clusterArns", "nextToken", clusterArns=[f"{arn}:cluster/app-cluster"]),
        "ecs.DescribeClusters": {
            "clusters": [{"clusterName": "app-cluster", "status": "ACTIVE", "tags": [{"key": "app", "value": "App"}]}]
        },
        "ecs.ListServices": paged("serviceArns", "nextToken", serviceArns=[f"{arn}:service/app-cluster/AppService"]),
        "ecs.DescribeServices": {
            "services": [
                {
                    "serviceName": "AppService",
                    "status": "DRAINING",
                    "runningCount": 1,
                    "taskDefinition": f"{arn}:task-definition/AppTask:7",
                    "tags": [{"key": "app", "value": "App"}],
                }
            ]
        },
        "ecs.ListTaskDefinitions": paged(
            "taskDefinitionArns", "nextToken", taskDefinitionArns=[f"{arn}:task-definition/AppTask:7"]
        ),
        "ecs.DescribeTaskDefinition": {
            "taskDefinition": {
                "containerDefinitions": [{"environment": [{"name": "SQS_QUEUE_URL", "value": QUEUE_URL}]}]
            },
            "tags": [{"key": "app", "value": "App"}],
        },
        "cloudwatch.DescribeAlarms": paged("MetricAlarms", "NextToken", MetricAlarms=[alarm("App", "i-0a")]),
        "cloudwatch.ListDashboards": paged(
            "DashboardEntries", "NextToken", DashboardEntries=[{"DashboardName": "App"}]
        ),
        "cloudwatch.GetDashboard": {"DashboardBody": json.dumps(build_dashboard(SETTINGS, FLEET_ID))},
        "events.ListRules": paged("Rules", "NextToken", Rules=[{"Name": build_monitor_rule_name("App")}]),
    }
    left = observe_all_resources(empty.clients)
    assert left.unseen == []
    assert kinds(left) == {"alarm": 1, "cluster": 1, "dashboard": 1, "fleet": 1, "launch template": 1, "machine": 1,
                           "queue": 1, "rule": 1, "task definition": 1, "volume": 1}  # fmt: skip
    assert kinds(left, ResourceState.ENDING) == {"service": 1}


def alarm(app: str, machine_id: str) -> dict[str, Any]:
    request = build_alarm_request(app, machine_id, "us-east-1", "aws")
    return {key: value for key, value in request.items() if key != "Tags"}


# Older runs


def later(hours: float = 48) -> float:
    return (datetime.now(UTC) + timedelta(hours=hours)).timestamp()


def test_of_a_run_that_goes_on_nothing_is_dead(runs: Runs) -> None:
    runs.start(jobs=1)
    found = find_orphans(runs.clients, later)
    assert (found.dead, found.unseen) == ([], [])
    assert format_orphans(found) == "nothing of older runs is left"


def test_what_a_crashed_clean_up_of_an_older_run_left_is_found_told_and_removed(runs: Runs) -> None:
    """Its queue and service went, all else stayed. A run of another app goes on, and a third has a queue."""
    runs.start()
    runs.start("AppTwo", jobs=1)
    runs.start("AppThree", jobs=1)
    runs.clients.sqs.delete_queue(QueueUrl=runs.queue("App"))
    runs.clients.ecs.delete_service(cluster="App-cluster", service="AppService", force=True)
    found = find_orphans(runs.clients, later)
    assert found.unseen == []
    assert [(one.kind, one.reason) for one in found.dead] == [("fleet", "the queue of its app App is gone")]
    assert delete_orphans(runs.clients, found).failed == []
    found = find_orphans(runs.clients, later)  # the fleet and its machines are gone now, and with them what needed them
    assert sorted(one.kind for one in found.dead) == [
        "alarm", "alarm", "dashboard", "launch template", "log group", "log group", "rule", "task definition", "volume",
    ]  # fmt: skip
    assert delete_orphans(runs.clients, found).failed == []
    assert find_orphans(runs.clients, later).dead == []
    every = observe_all_resources(runs.clients)
    assert kinds(every) == {"cluster": 1, "queue": 1}
    for app in ("AppTwo", "AppThree"):
        assert kinds(every, app=app) == EVERYTHING


def test_what_is_young_may_be_a_start_under_way(runs: Runs) -> None:
    runs.start()
    runs.clients.sqs.delete_queue(QueueUrl=runs.queue("App"))
    assert [one for one in find_orphans(runs.clients, lambda: later(0)).dead if one.kind == "fleet"] == []
    assert [one.kind for one in find_orphans(runs.clients, lambda: later(2)).dead] == ["fleet"]


def test_machines_whose_fleet_is_gone_are_dead(empty: Account) -> None:
    empty.answers["ec2.DescribeInstances"] = machine("running")
    found = find_orphans(empty.clients, lambda: START)
    assert format_orphans(found) == f"dead            machine i-0a: running, but its fleet {FLEET_ID} is gone"
    empty.answers["ec2.TerminateInstances"] = {}
    removal = delete_orphans(empty.clients, found)
    assert removal.removed == found.dead
    assert format_orphan_removal(removal, found) == "removed         machine i-0a"
    assert empty.parameters("ec2.TerminateInstances") == {"InstanceIds": ["i-0a"]}
    empty.answers["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [fleet("cancelled_running")]}
    empty.answers["ecs.DescribeTaskDefinition"] = nowhere("DescribeTaskDefinition", "ClientException")
    dead = find_orphans(empty.clients, lambda: START + 7200).dead
    assert [one.kind for one in dead] == ["fleet"], "with the fleet its machines go"


def test_alarms_of_dead_machines_go_by_hundreds(empty: Account) -> None:
    """Machines are asked for by a filter: named outright, one that EC2 has forgotten would refuse the whole call."""
    ids = [f"i-{number:017x}" for number in range(450)]
    living = set(ids[100:200])
    empty.answers["cloudwatch.DescribeAlarms"] = {"MetricAlarms": [alarm("App", one) for one in ids]}

    def machines(parameters: dict[str, Any]) -> Any:
        names = parameters["Filters"][0]
        found = [one for one in names["Values"] if one in living] if names["Name"] == "instance-id" else []
        instances: Any = [{"InstanceId": one, "State": {"Name": "running"}} for one in found]
        dead = [{"InstanceId": ids[0], "State": {"Name": "terminated"}}]
        assert len(names["Values"]) <= 200
        return {"Reservations": [{"Instances": [*instances, *dead]}]}

    empty.answers["ec2.DescribeInstances"] = machines
    empty.answers["cloudwatch.DeleteAlarms"] = {}
    found = find_orphans(empty.clients, lambda: START)
    assert len(found.dead) == 350
    assert len(delete_orphans(empty.clients, found).removed) == 350
    batches = [asked["AlarmNames"] for call, asked in empty.asked if call == "cloudwatch.DeleteAlarms"]
    assert [len(batch) for batch in batches] == [100, 100, 100, 50]
    assert not {f"App_{one}" for one in living} & {name for batch in batches for name in batch}


def test_what_the_published_version_left_without_a_tag_is_listed_with_its_command_and_never_touched(
    empty: Account,
) -> None:
    named = [{"ResourceType": "instance", "Tags": pairs(Name="OldAppWorker")}]
    config = {"IamFleetRole": "role", "TargetCapacity": 3, "LaunchSpecifications": [{"TagSpecifications": named}]}
    foreign = {"IamFleetRole": "role", "TargetCapacity": 3, "LaunchSpecifications": [{}]}
    fleets = [fleet(Tags=[], SpotFleetRequestConfig=config),
              fleet(Tags=[], SpotFleetRequestConfig=foreign, SpotFleetRequestId="sfr-0ther")]  # fmt: skip
    old = {
        "widgets": [{"properties": {"metrics": [["AWS/EC2Spot", "FulfilledCapacity", "FleetRequestId", "sfr-gone"]]}}]
    }
    arn = "arn:aws:logs:us-east-1:123456789012:log-group"
    groups = [{"logGroupName": name, "storedBytes": 0, "creationTime": 0, "arn": f"{arn}:{name}:*"}
              for name in ("Old", "Old_perInstance", "alone")]  # fmt: skip
    rule = build_monitor_rule_name("A" * 80)
    empty.answers |= {
        "ec2.DescribeSpotFleetRequests": {"SpotFleetRequestConfigs": fleets},
        "cloudwatch.ListDashboards": {"DashboardEntries": [{"DashboardName": "OldApp"}]},
        "cloudwatch.GetDashboard": {"DashboardBody": json.dumps(old)},
        "logs.DescribeLogGroups": {"logGroups": groups},
        "logs.ListTagsForResource": {"tags": {}},
        "events.ListRules": {"Rules": [{"Name": rule}]},
    }
    found = find_orphans(empty.clients, lambda: START + 7200)
    assert found.unseen == []
    assert [(one.kind, one.name, one.ours) for one in found.dead] == [
        ("fleet", FLEET_ID, False), ("rule", rule, False), ("dashboard", "OldApp", False),
        ("log group", "Old", False), ("log group", "Old_perInstance", False),
    ]  # fmt: skip
    command = f"aws ec2 cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {FLEET_ID}"
    assert found.dead[0].reason.endswith(command)
    asked = [parameters for call, parameters in empty.asked if call == "logs.ListTagsForResource"]
    assert asked[0] == {"resourceArn": f"{arn}:Old"}, "tags are asked for without the :* of the ARN"
    calls = len(empty.calls)
    removal = delete_orphans(empty.clients, found)
    assert (removal.removed, removal.failed, len(empty.calls)) == ([], [], calls)
    lines = format_orphan_removal(removal, found).splitlines()
    assert [line.split()[0] for line in lines] == ["kept"] * 5


def test_dashboards_of_others_and_of_apps_that_live_are_let_be(empty: Account) -> None:
    """One shows no fleet, one went between two calls, one shows a fleet that is there, one has a queue."""
    shows = {"theirs": {"widgets": []}, "OldApp": build_dashboard(SETTINGS, FLEET_ID),
             "App": build_dashboard(SETTINGS, "sfr-gone")}  # fmt: skip
    empty.answers["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [fleet(Tags=[])]}
    empty.answers["cloudwatch.ListDashboards"] = {
        "DashboardEntries": [{"DashboardName": name} for name in (*shows, "gone")]
    }

    def body(parameters: dict[str, Any]) -> Any:
        if parameters["DashboardName"] == "gone":
            raise nowhere("GetDashboard", "ResourceNotFound")
        return {"DashboardBody": json.dumps(shows[parameters["DashboardName"]])}

    empty.answers["cloudwatch.GetDashboard"] = body
    empty.answers["ecs.DescribeTaskDefinition"] = nowhere("DescribeTaskDefinition", "ClientException")
    empty.answers["sqs.GetQueueUrl"] = {"QueueUrl": QUEUE_URL}
    found = find_orphans(empty.clients, lambda: START)
    assert (found.dead, found.unseen) == ([], [])
    empty.answers["sqs.GetQueueUrl"] = nowhere("GetQueueUrl", MISSING_QUEUE)
    assert [one.name for one in find_orphans(empty.clients, lambda: START).dead] == ["App"]


def test_one_kind_that_is_refused_keeps_no_other_from_being_found_or_removed(empty: Account) -> None:
    empty.refuse("ecs.ListTaskDefinitions")
    empty.answers["ec2.DescribeInstances"] = machine("running")
    empty.answers["cloudwatch.DescribeAlarms"] = {"MetricAlarms": [alarm("App", "i-0b")]}
    found = find_orphans(empty.clients, lambda: START)
    assert [one.kind for one in found.dead] == ["machine", "alarm"]
    told = "looking for task definitions of older runs: AccessDeniedException"
    assert told in format_orphans(found).partition("NOT SEEN")[2]
    empty.refuse("ec2.TerminateInstances", "UnauthorizedOperation")
    empty.answers["cloudwatch.DeleteAlarms"] = {}
    lines = format_orphan_removal(delete_orphans(empty.clients, found), found).splitlines()
    assert lines[0] == "removed         alarm App_i-0b"
    assert told in lines[1].partition("NOT REMOVED")[2]
    assert lines[2].startswith("NOT REMOVED     machine i-0a: ")
    assert len(lines) == 3


def test_a_fleet_that_ec2_does_not_cancel_is_told(empty: Account) -> None:
    empty.answers["ec2.DescribeSpotFleetRequests"] = {"SpotFleetRequestConfigs": [fleet()]}
    empty.answers["ecs.DescribeTaskDefinition"] = nowhere("DescribeTaskDefinition", "ClientException")
    refused = {"SpotFleetRequestId": FLEET_ID, "Error": {"Code": "unexpectedError", "Message": "not now"}}
    empty.answers["ec2.CancelSpotFleetRequests"] = {"UnsuccessfulFleetRequests": [refused]}
    found = find_orphans(empty.clients, lambda: START + 7200)
    (line,) = format_orphan_removal(delete_orphans(empty.clients, found), found).splitlines()
    assert line.startswith(f"NOT REMOVED     fleet {FLEET_ID}: ")
    assert "unexpectedError: not now" in line
    wanted = {"SpotFleetRequestIds": [FLEET_ID], "TerminateInstances": True}
    assert empty.parameters("ec2.CancelSpotFleetRequests") == wanted
