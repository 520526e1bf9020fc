"""The pod that is made of a template."""

from dataclasses import replace
from typing import Any

import pytest
from understudy_contract import names
from understudy_contract.names import Env, Rank, Term
from understudy_operator import children
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.model import Job
from understudy_operator.core.policy import read_policy
from understudy_operator.creation import TroubleError, build_pod

from tests.unit.operator.builders import a_job

ORDER = CreatePod("digits-0-3", Rank(0), None, Term(2), Placement(together=False, avoid_nodes=()))


def made(**container: Any) -> dict[str, Any]:
    """Build the pod of a template whose trainer has these fields; give the container."""
    job: Job = a_job()
    template = {"spec": {"containers": [{"name": "trainer", "command": ["python", "train.py"], **container}]}}
    pod = children.pod(replace(job, policy=replace(job.policy, template=template)), ORDER)
    (found,) = pod["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "container",
    [
        {"env": {"HOME": "/home/me"}},
        {"volumeMounts": {"mountPath": "/data"}},
        {"resources": {"limits": None}},
        {"securityContext": "none"},
    ],
    ids=str,
)
def test_a_template_of_another_shape_is_told(container: dict[str, Any]) -> None:
    job = a_job()
    template = {"spec": {"containers": [{"name": "trainer", "command": ["python", "train.py"], **container}]}}
    with pytest.raises(TroubleError, match="No pod can be made of the pod template") as told:
        build_pod(replace(job, policy=replace(job.policy, template=template)), ORDER)
    assert told.value.reason == "InvalidTemplate"


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Read an environment as the kubelet does: the last entry of a name counts."""
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_a_template_cannot_tell_a_pod_that_it_is_another() -> None:
    found = environment(made(env=[{"name": Env.RANK, "value": "7"}, {"name": Env.SLOT, "value": "0"}]))
    assert found[Env.RANK] == "0"
    assert Env.SLOT not in found, "a primary that takes itself for a redundant pod never trains"


def test_a_templates_own_environment_is_kept_and_may_refer_to_ours() -> None:
    found = made(env=[{"name": "HOME", "value": "/home/me"}, {"name": "RUN", "value": "$(UNDERSTUDY_JOB)"}])
    assert environment(found)["HOME"] == "/home/me"
    assert environment(found)["PYTHONUNBUFFERED"] == "1"
    given = [entry["name"] for entry in found["env"]]
    assert given.index("UNDERSTUDY_JOB") < given.index("RUN"), "a reference finds only what stands before it"
    assert len(given) == len(set(given))


def test_the_agent_stands_before_the_templates_command_and_arguments() -> None:
    found = made(args=["--steps", "5"])
    assert found["command"] == ["understudy-agent", "--", "python", "train.py", "--steps", "5"]
    assert "args" not in found


def test_the_last_words_of_an_init_container_are_kept_unless_the_template_says_otherwise() -> None:
    job = a_job()
    init = [{"name": "fetch"}, {"name": "quiet", "terminationMessagePolicy": "File"}]
    template = {"spec": {"containers": [{"name": "trainer", "command": ["true"]}], "initContainers": init}}
    spec = children.pod(replace(job, policy=replace(job.policy, template=template)), ORDER)["spec"]
    assert [c["terminationMessagePolicy"] for c in spec["initContainers"]] == ["FallbackToLogsOnError", "File"]


def test_a_templates_own_readiness_probe_gives_way_to_the_agents_and_its_others_stay() -> None:
    """A drain goes by readiness: a probe that only asks whether something runs would let it take the last warm pod."""
    probe = {"exec": {"command": ["true"]}}
    found = made(readinessProbe=probe, livenessProbe=probe)
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": names.AGENT_PORT}
    assert found == made(livenessProbe=probe)
    assert found["livenessProbe"] == probe


def test_a_redundant_pod_differs_as_the_spec_says_and_a_primary_does_not() -> None:
    cheap = {
        "resources": {"requests": {"cpu": "50m"}},
        "priorityClassName": "spare",
        "nodeSelector": {"pool": "spot"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    }
    job = a_job(redundantTemplate=cheap)
    primary, redundant = (
        children.pod(job, CreatePod("digits-0-0", Rank(0), slot, Term(1), Placement(False, ())))["spec"]
        for slot in (None, 0)
    )
    (trainer,) = redundant["containers"]
    assert {**{k: redundant[k] for k in cheap if k != "resources"}, "resources": trainer["resources"]} == cheap
    assert not {"priorityClassName", "nodeSelector", "tolerations"} & set(primary)
    assert "resources" not in primary["containers"][0]


def checkpoints_mount(sub_path: str | None, **container: Any) -> dict[str, Any] | None:
    job = a_job()
    template = {"spec": {"containers": [{"name": "trainer", "command": ["python", "train.py"], **container}]}}
    pod = children.pod(replace(job, policy=replace(job.policy, template=template, sub_path=sub_path)), ORDER)
    (found,) = pod["spec"]["containers"]
    return next((mount for mount in found["volumeMounts"] if mount["name"] == children.CHECKPOINT_VOLUME), None)


def test_a_job_sees_its_own_folder_of_a_claim_alone() -> None:
    assert checkpoints_mount("team-a/digits") == {
        "name": children.CHECKPOINT_VOLUME,
        "mountPath": names.CHECKPOINT_DIR,
        "subPath": "team-a/digits",
    }
    assert checkpoints_mount(None) == {"name": children.CHECKPOINT_VOLUME, "mountPath": names.CHECKPOINT_DIR}


def test_the_folder_of_the_claim_is_read_from_the_spec() -> None:
    spec = {"template": {"spec": {}}, "checkpoint": {"claimName": "data", "subPath": "team-a/digits"}}
    assert read_policy("digits", spec).sub_path == "team-a/digits"
    assert read_policy("digits", {"template": {"spec": {}}}).sub_path is None
