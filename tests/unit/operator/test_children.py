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
from understudy_operator.core.template import changes
from understudy_operator.creation import TroubleError, build_pod

from tests.unit.operator.builders import a_job

ORDER = CreatePod("digits-0-3", Rank(0), None, Term(2), Placement(together=False, avoid_nodes=()))


def pod_of(spec: dict[str, Any], metadata: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """Build the pod of a template with these fields, and these of its trainer."""
    job: Job = a_job()
    containers = [{"name": "trainer", "command": ["python", "train.py"], **container}]
    template = {"metadata": metadata or {}, "spec": {"containers": containers, **spec}}
    return children.pod(replace(job, policy=replace(job.policy, template=template)), ORDER)


def made(**container: Any) -> dict[str, Any]:
    """Build the pod of a template whose trainer has these fields; give the container."""
    (found,) = pod_of({}, **container)["spec"]["containers"]
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
    assert not found[Env.SLOT], "a primary that takes itself for a redundant pod never trains"


def test_no_variable_that_the_agent_reads_is_left_for_env_from() -> None:
    """A ConfigMap with UNDERSTUDY_SLOT would have a primary take itself for a redundant pod, were it not set."""
    found = {entry["name"] for entry in made(envFrom=[{"configMapRef": {"name": "any"}}])["env"]}
    told_by_the_agent = {Env.SOCKET, Env.COUNTERS}
    assert set(Env) - told_by_the_agent <= found


def test_a_pod_in_the_nodes_network_is_asked_by_a_file_of_its_own_and_no_other_is() -> None:
    """Two pods on a node would fight over one port, and the kubelet would ask one about the other."""
    found = pod_of({"hostNetwork": True})["spec"]["containers"][0]
    assert found["readinessProbe"]["exec"] == {"command": ["/usr/bin/test", "-e", "/run/understudy/ready"]}
    assert "httpGet" not in found["readinessProbe"]
    assert environment(found)[Env.SERVE_PROBES] == "false"
    assert {"name": children.RUN_VOLUME, "mountPath": "/run/understudy"} in found["volumeMounts"]
    assert environment(made())[Env.SERVE_PROBES] == "true"


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
def test_an_account_of_the_templates_own_is_used_by_either_name_and_bound(field: str) -> None:
    spec = pod_of({field: "cloud-reader"})["spec"]
    assert spec["serviceAccountName"] == "cloud-reader" and "serviceAccount" not in spec
    job = a_job(template={"spec": {"containers": [], field: "cloud-reader"}})
    assert children.worker_binding(job, ("digits-0",))["subjects"][0]["name"] == "cloud-reader"


def test_the_agent_has_a_token_whatever_pod_and_account_say_of_mounting_one() -> None:
    spec = pod_of({"automountServiceAccountToken": False})["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == names.ACCOUNT_DIR]
    (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
    assert {"serviceAccountToken", "configMap", "downwardAPI"} == {
        key for s in volume["projected"]["sources"] for key in s
    }
    assert spec["automountServiceAccountToken"] is False, "sidecars get none"
    own = {"name": "own", "mountPath": names.ACCOUNT_DIR + "/"}
    mounts = made(volumeMounts=[own])["volumeMounts"]
    assert [m for m in mounts if m["mountPath"].rstrip("/") == names.ACCOUNT_DIR] == [own]


@pytest.mark.parametrize(
    "given",
    [{"privileged": True}, {"capabilities": {"add": ["SYS_ADMIN"]}}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}],
)
def test_a_container_that_must_be_able_to_escalate_is_not_kept_from_it(given: dict[str, Any]) -> None:
    """The API server refuses the two together."""
    assert "allowPrivilegeEscalation" not in made(securityContext=given)["securityContext"]
    assert made(securityContext={"runAsUser": 5})["securityContext"]["allowPrivilegeEscalation"] is False


def test_what_the_template_may_not_say_is_left_out_and_told() -> None:
    given = {"understudy.dev/slot": "3", "team": "vision"}
    trainer = {
        "env": [{"name": Env.RANK, "value": "7"}],
        "readinessProbe": {"exec": {"command": ["true"]}},
        "terminationMessagePath": "/tmp/last-words",
    }
    pod = pod_of({}, {"labels": given, "annotations": given}, **trainer)
    (container,) = pod["spec"]["containers"]
    assert "understudy.dev/slot" not in {**pod["metadata"]["labels"], **pod["metadata"]["annotations"]}
    assert pod["metadata"]["labels"]["team"] == pod["metadata"]["annotations"]["team"] == "vision"
    assert "terminationMessagePath" not in container
    template = {
        "metadata": {"labels": given, "annotations": given},
        "spec": {"containers": [{"name": "trainer", **trainer}]},
    }
    told = changes(template)
    for word in (
        "readinessProbe",
        "terminationMessagePath",
        Env.RANK,
        "the labels are without understudy.dev/slot",
        "the annotations are without",
    ):
        assert any(word in sentence for sentence in told), word
    assert len(told) == 5


@pytest.mark.parametrize("nonsense", [None, 7, "x", [], {}, [None], {"a": None}, [{"name": []}], True])
def test_any_json_can_be_looked_through(nonsense: Any) -> None:
    """A report on a template keeps no promotion back."""
    trainer = {"name": "trainer", "env": nonsense, "readinessProbe": nonsense, "terminationMessagePath": nonsense}
    for template in (
        {"metadata": nonsense, "spec": nonsense},
        {"metadata": {"labels": nonsense, "annotations": nonsense}, "spec": {"containers": nonsense}},
        {"spec": {"containers": [nonsense, trainer]}},
    ):
        changes(template)


def test_a_plain_template_is_changed_in_nothing_worth_telling() -> None:
    assert changes(a_job().policy.template) == ()


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
    assert "exec" not in found["readinessProbe"]
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
