"""What a Fleet file and a config ask of EC2 together: types and subnets combined, launch templates, limits, tags."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from control import fleetrequest, launchtemplate, model, tags, userdata
from control.errors import CloudError, InputError
from control.settings import Settings
from tests.offline import CONFIG, no_way_out

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
RUN = "20261123T104500Z"
PATH = Path("fleet.json")
ROLE = "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role"
TYPES = ["m5.large", "m5a.large"]
MARKS = {"app": "Tryout", "run": RUN, "owner": "alice"}
TAG_LIST = [{"Key": key, "Value": value} for key, value in MARKS.items()]
TAGGED = [{"Key": "Name", "Value": "TryoutWorker"}, *TAG_LIST]


def of(**constants: object) -> Settings:
    return Settings.model_validate(CONFIG | constants)


def client(service: str = "ec2") -> Any:
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client(service, region_name="us-east-1", **keys)  # type: ignore[call-overload]


def written(*specifications: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"IamFleetRole": ROLE, "LaunchSpecifications": list(specifications), **more}


def templated(*overrides: dict[str, Any], **specification: str) -> dict[str, Any]:
    named = specification or {"LaunchTemplateName": "lab"}
    return {
        "IamFleetRole": ROLE,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": named, "Overrides": list(overrides)}],
    }


def network(subnets: str) -> dict[str, Any]:
    return {"ImageId": "ami-1", "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnets, "Groups": ["sg-1"]}]}


def request_of(content: dict[str, Any], **constants: object) -> dict[str, Any]:
    return fleetrequest.request_of(content, of(**constants), NOW, "Tryout-1", "alice")


def check(content: dict[str, Any], tmp_path: Path, **constants: object) -> None:
    """The file written, read and checked as startCluster does; nothing reaches AWS."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(content))
    with no_way_out():
        fleetrequest.check(fleetrequest.load(path), path, of(**constants), client())


def pools(request: dict[str, Any]) -> list[tuple[str, str]]:
    found = request["LaunchSpecifications"]
    return [(one["InstanceType"], one["NetworkInterfaces"][0].get("SubnetId", "")) for one in found]


def shell(script: str) -> str:
    return base64.b64encode(script.encode()).decode()


# types and subnets


def test_one_specification_is_combined_with_every_type_and_every_subnet(tmp_path: Path) -> None:
    content = written(network("subnet-a, subnet-b"))
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    wanted = [(kind, subnet) for kind in TYPES for subnet in ("subnet-a", "subnet-b")]
    assert pools(request_of(content, MACHINE_TYPE=TYPES)) == wanted


def test_as_many_specifications_as_types_are_paired_as_published(tmp_path: Path) -> None:
    content = written(network("subnet-a"), network("subnet-b,subnet-c"))
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    wanted = [("m5.large", "subnet-a"), ("m5a.large", "subnet-b"), ("m5a.large", "subnet-c")]
    assert pools(request_of(content, MACHINE_TYPE=TYPES)) == wanted


@pytest.mark.parametrize(("blocks", "types"), [(2, 1), (2, 3), (3, 2)])
def test_any_other_number_of_specifications_is_refused(tmp_path: Path, blocks: int, types: int) -> None:
    content = written(*[network("subnet-a")] * blocks)
    with pytest.raises(InputError, match=f"there are {blocks} for {types} MACHINE_TYPE in the config; give one, for"):
        check(content, tmp_path, MACHINE_TYPE=["m5.large", "m5a.large", "m6i.large"][:types])


def test_a_type_or_a_subnet_that_is_named_twice_makes_one_pool() -> None:
    """EC2 refuses a request with the same pool twice."""
    content = written(network("subnet-a,subnet-a"))
    assert pools(request_of(content, MACHINE_TYPE=["m5.large", "m5.large"])) == [("m5.large", "subnet-a")]


def test_no_subnet_leaves_the_choice_to_ec2() -> None:
    assert pools(request_of(written({"ImageId": "ami-1"}))) == [("m5.large", "")]


def test_more_pools_than_ec2_takes_are_refused(tmp_path: Path) -> None:
    subnets = ",".join(f"subnet-{number}" for number in range(101))
    for content in (written(network(subnets)), templated({"SubnetId": subnets})):
        check(content, tmp_path, MACHINE_TYPE=TYPES)
        with pytest.raises(InputError, match=r"MACHINE_TYPE: 303 combinations .* than EC2 takes \(300\)"):
            check(content, tmp_path, MACHINE_TYPE=[*TYPES, "m6i.large"])


@pytest.mark.parametrize("public", [True, False])
def test_a_subnet_without_an_interface_gets_one_that_says_whether_it_is_public(tmp_path: Path, public: bool) -> None:
    content = written({"ImageId": "ami-1", "SubnetId": "subnet-a,subnet-b", "SecurityGroups": [{"GroupId": "sg-1"}]})
    check(content, tmp_path)
    for one, subnet in zip(
        request_of(content, ASSIGN_IP=str(public))["LaunchSpecifications"], ("subnet-a", "subnet-b"), strict=True
    ):
        assert "SubnetId" not in one
        assert "SecurityGroups" not in one  # EC2 takes neither beside an interface
        assert one["NetworkInterfaces"] == [
            {
                "DeviceIndex": 0,
                "DeleteOnTermination": True,
                "Groups": ["sg-1"],
                "SubnetId": subnet,
                "AssociatePublicIpAddress": public,
            }
        ]


# what every specification gets


def test_a_file_without_disks_gets_the_images_own_in_the_configs_size() -> None:
    (one,) = request_of(written({"ImageId": "ami-1"}), EBS_VOL_SIZE=77)["LaunchSpecifications"]
    disk = {"VolumeType": "gp3", "DeleteOnTermination": True, "VolumeSize": 77}
    assert one["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": disk}]


def test_no_disk_outlives_its_machine_unless_the_file_says_so() -> None:
    disks = [{"Ebs": {}}, {"Ebs": {"DeleteOnTermination": False}}, {"Ebs": {}}]
    (one,) = request_of(written({"BlockDeviceMappings": disks}))["LaunchSpecifications"]
    assert [disk["Ebs"]["DeleteOnTermination"] for disk in one["BlockDeviceMappings"]] == [True, False, True]


def test_every_machine_and_the_fleet_carry_app_run_and_owner_beside_the_files_own_tags(tmp_path: Path) -> None:
    own = {"Key": "grant", "Value": "R01"}
    machine = {"TagSpecifications": [{"ResourceType": "instance", "Tags": [own, {"Key": "app", "Value": "x"}]}]}
    fleet = [{"ResourceType": "spot-fleet-request", "Tags": [own]}]
    content = written(machine, TagSpecifications=fleet)
    check(content, tmp_path)
    request = request_of(content)
    assert request["TagSpecifications"] == [{"ResourceType": "spot-fleet-request", "Tags": [own, *TAG_LIST]}]
    (found,) = request["LaunchSpecifications"][0]["TagSpecifications"]
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == MARKS | {"grant": "R01", "Name": "TryoutWorker"}


def test_a_price_of_the_file_cannot_pass_the_configs() -> None:
    request = request_of(written({"SpotPrice": "9.99"}), MACHINE_PRICE=0.123456)
    assert request["SpotPrice"] == "0.123456"
    assert "SpotPrice" not in request["LaunchSpecifications"][0]


def test_the_fleet_ends_with_its_machines_after_the_configs_hours_whatever_the_file_says() -> None:
    request = request_of(written({}, TerminateInstancesWithExpiration=False), MAX_RUN_HOURS=1.5)
    assert request["ValidUntil"] == NOW + timedelta(minutes=90)
    assert request["TerminateInstancesWithExpiration"] is True


# what EC2 would refuse is refused here, in one line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            written({}, AllocationStrategy="cheapest"),
            r"AllocationStrategy: 'cheapest' is none .*; write one of lowestP",
        ),
        (written({}, Type="maintained"), r"Type: 'maintained' is none of AWS's; write one of request, maintain"),
        (written({}, Type="instant"), "Type: a Spot Fleet cannot be 'instant'"),
        (written({}, InstanceInterruptionBehavior="end"), "InstanceInterruptionBehavior: 'end' is none of AWS's"),
        (
            written({"BlockDeviceMappings": [{"Ebs": {"VolumeType": "gp9"}}]}),
            r"LaunchSpecifications\[0\]\.BlockDeviceMappings\[0\]\.Ebs\.VolumeType: 'gp9' is none of AWS's; write one",
        ),
        (written({}, TagSpecifications=[{"ResourceType": "volume"}]), "EC2 tags no other kind of thing here"),
        (written({"TagSpecifications": [{"ResourceType": "volume"}]}), "EC2 tags no other kind of thing here"),
        (written(network("subnet-a") | {"SubnetId": "subnet-b"}), "EC2 takes none beside NetworkInterfaces"),
        (written({"SecurityGroups": [{"GroupName": "lab"}]}), "a group has no GroupId"),
        (written({}) | templated(), "EC2 takes no LaunchTemplateConfigs beside them"),
        (templated({"WeightedCapacity": 2}), r"Overrides\[0\]\.WeightedCapacity: the config decides this; take it out"),
        (templated(LaunchTemplateId="lt-1", LaunchTemplateName="lab"), "EC2 takes its id or its name"),
        (templated(Version="3"), "EC2 takes its id or its name"),
        (templated(LaunchTemplateName="FILL_IN"), "is a placeholder"),
    ],
)
def test_what_ec2_would_refuse_is_said_in_one_line(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        check(content, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_type_newer_than_this_botocore_is_left_to_ec2() -> None:
    shape = client().meta.service_model.shape_for("SpotFleetLaunchSpecification")
    assert model.no_such_value({"InstanceType": "m99.large"}, shape) is None


# launch templates


def test_a_template_gets_every_type_in_every_subnet_as_overrides(tmp_path: Path) -> None:
    content = templated({"SubnetId": "subnet-a"}, {"SubnetId": "subnet-b,subnet-a", "InstanceType": "x1.large"})
    check(content, tmp_path, MACHINE_TYPE=TYPES)
    (config,) = request_of(content, MACHINE_TYPE=TYPES)["LaunchTemplateConfigs"]
    assert config == {
        "LaunchTemplateSpecification": {"LaunchTemplateName": "lab", "Version": "$Default"},
        "Overrides": [{"InstanceType": kind, "SubnetId": f"subnet-{end}"} for kind in TYPES for end in "ab"],
    }


def test_on_demand_machines_are_a_part_of_all_machines(tmp_path: Path) -> None:
    content = templated()
    check(content, tmp_path, ON_DEMAND_MACHINES=2)
    request = request_of(content, ON_DEMAND_MACHINES=2)
    assert (request["TargetCapacity"], request["OnDemandTargetCapacity"]) == (2, 2)
    assert "OnDemandTargetCapacity" not in request_of(content)
    with pytest.raises(InputError, match=r"ON_DEMAND_MACHINES: 3 are more than CLUSTER_MACHINES \(2\)"):
        check(content, tmp_path, ON_DEMAND_MACHINES=3)


def test_on_demand_machines_without_a_template_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ON_DEMAND_MACHINES: .*; make a launch template and name it in LaunchTem"):
        check(written({}), tmp_path, ON_DEMAND_MACHINES=1)


TEMPLATE: dict[str, Any] = {
    "ImageId": "ami-1",
    "InstanceType": "t3.micro",
    "InstanceMarketOptions": {"MarketType": "spot"},
    "SecurityGroupIds": ["sg-1"],
    "UserData": shell("#!/bin/bash\nyum -y install htop"),
    "MetadataOptions": {"State": "applied", "HttpTokens": "optional"},
    "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}]}],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}],
    "LicenseSpecifications": [],
}


def make(content: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The request after the run's copy was made; `data`: what EC2 must be given for it."""
    ec2, request = client(), request_of(content)
    with Stubber(ec2) as stub:
        marks = [{"ResourceType": "launch-template", "Tags": TAG_LIST}]
        name = f"Tryout-{RUN}"
        wanted = {
            "LaunchTemplateName": name,
            "ClientToken": name,
            "LaunchTemplateData": data,
            "TagSpecifications": marks,
        }
        stub.add_response("create_launch_template", {"LaunchTemplate": {"LaunchTemplateId": "lt-run"}}, wanted)
        return launchtemplate.make(request, copy.deepcopy(TEMPLATE), of(), MARKS, ec2)


def test_the_runs_copy_keeps_the_template_and_joins_the_cluster() -> None:
    script = "#!/bin/bash\nyum -y install htop\n" + userdata.joining(of())
    data = {
        "ImageId": "ami-1",
        "UserData": shell(script),
        "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2},
        "TagSpecifications": [
            {"ResourceType": "volume", "Tags": [{"Key": "grant", "Value": "R01"}, *TAGGED]},
            {"ResourceType": "instance", "Tags": TAGGED},
        ],
        "BlockDeviceMappings": TEMPLATE["BlockDeviceMappings"],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "DeleteOnTermination": True, "Groups": ["sg-1"], "AssociatePublicIpAddress": True}
        ],
    }
    request = make(templated({"SubnetId": "subnet-a"}), data)
    assert request["LaunchTemplateConfigs"] == [
        {
            "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-run", "Version": "1"},
            "Overrides": [{"InstanceType": "m5.large", "SubnetId": "subnet-a"}],
        }
    ]


def test_a_template_that_says_nothing_of_metadata_gets_imdsv2_for_containers_too() -> None:
    made = launchtemplate.of_run({}, of(), MARKS, subnets=False)
    assert made["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}


@pytest.mark.parametrize(("subnets", "left"), [(True, {}), (False, {"SubnetId": "subnet-t"})])
def test_a_templates_subnet_gives_way_to_the_files(subnets: bool, left: dict[str, str]) -> None:
    content = {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-t"}]}
    made = launchtemplate.of_run(content, of(ASSIGN_IP="False"), MARKS, subnets=subnets)
    assert made["NetworkInterfaces"] == [{"DeviceIndex": 0, "AssociatePublicIpAddress": False, **left}]


def read(*versions: dict[str, Any]) -> dict[str, Any] | None:
    ec2 = client()
    with Stubber(ec2) as stub:
        found = [{"LaunchTemplateData": one} for one in versions]
        wanted = {"LaunchTemplateName": "lab", "Versions": ["7"]}
        stub.add_response("describe_launch_template_versions", {"LaunchTemplateVersions": found}, wanted)
        request = request_of(templated(LaunchTemplateName="lab", Version="7"))
        return launchtemplate.read(request, PATH, of(), ec2)


def test_the_version_that_the_file_names_is_read() -> None:
    assert read({"ImageId": "ami-7"}) == {"ImageId": "ami-7"}


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([], "lab has no version 7; name another version"),
        ([{"UserData": shell("MIME-Version: 1.0\n")}], "its user data is no shell script; begin it with #!/bin/bash"),
        ([{"UserData": "~"}], "its user data is no text; use a script"),
        ([{"UserData": shell("#!/bin/sh\n" + "x" * 16_300)}], "its user data is too long; shorten it to 16"),
        ([{"SecurityGroups": ["lab"]}], "names security groups by name, .*; name them by id there"),
    ],
)
def test_a_template_that_cannot_be_used_is_wrong_input(versions: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(*versions)


def test_a_file_without_a_template_reads_none() -> None:
    assert launchtemplate.read(request_of(written({})), PATH, of(), client()) is None


# the machine's script


def test_a_machine_joins_its_cluster_by_its_script_alone_and_says_whose_it_is() -> None:
    script = base64.b64decode(userdata.user_data(of(ECS_CLUSTER="ours"))).decode()
    assert script.splitlines() == [
        "#!/bin/bash",
        "cat >> /etc/ecs/ecs.config <<'EOF'",
        "ECS_CLUSTER=ours",
        'ECS_INSTANCE_ATTRIBUTES={"app":"Tryout"}',
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
        "ECS_CONTAINER_STOP_TIMEOUT=110s",
        "EOF",
    ]


def test_the_runs_cluster_counts_before_one_that_the_template_names() -> None:
    theirs = shell("#!/bin/bash\necho ECS_CLUSTER=theirs >> /etc/ecs/ecs.config")
    script = base64.b64decode(userdata.after(theirs, of(ECS_CLUSTER="ours"))).decode()
    assert script.index("ECS_CLUSTER=theirs") < script.index("ECS_CLUSTER=ours")  # the agent takes the last


# whose it is


@pytest.mark.parametrize(
    ("arn", "owner"),
    [
        ("arn:aws:iam::111122223333:user/lab/alice", "alice"),
        ("arn:aws:sts::111122223333:assumed-role/Scientist/bob@lab.org", "bob@lab.org"),
        ("arn:aws:iam::111122223333:root", "root"),
        ("arn:aws:sts::111122223333:federated-user/carol,dave", "carol-dave"),
    ],
)
def test_the_owner_is_who_is_logged_in(arn: str, owner: str) -> None:
    sts = client("sts")
    with Stubber(sts) as stub:
        stub.add_response("get_caller_identity", {"Arn": arn}, {})
        assert tags.owner_of(of(), sts) == owner


def test_an_owner_in_the_config_needs_no_look() -> None:
    with no_way_out():
        assert tags.owner_of(of(OWNER="Imaging core"), client("sts")) == "Imaging core"


def test_who_cannot_be_looked_up_is_told_what_spares_it() -> None:
    sts = client("sts")
    with Stubber(sts) as stub:
        stub.add_client_error("get_caller_identity", "ExpiredToken", "expired")
        with pytest.raises(CloudError, match=r"looking up who you are \(OWNER in the config spares it\): ExpiredToken"):
            tags.owner_of(of(), sts)


def test_what_has_no_run_or_owner_has_no_such_tag() -> None:
    assert tags.of(of()) == {"app": "Tryout"}
    assert len(tags.of(of(), owner="x" * 300)["owner"]) == 256  # AWS: characters of a tag's value
