"""The chart, rendered by helm: manifests/ has not drifted, rights are few, the operator's pod is restricted."""

import json
import re
import runpy
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from understudy_contract.lease import renewal_patch
from understudy_contract.names import Label, Term
from understudy_contract.reports import Heartbeat, Notice, Phase, Release
from understudy_operator import readiness
from understudy_operator.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
RENDER = runpy.run_path(str(ROOT / "charts" / "render.py"))
CHART: Path = RENDER["CHART"]

WORKER_VERBS = {"get", "watch", "patch"}
"""What a job's Role grants on its Leases; the operator can grant only what it holds."""


@pytest.fixture(scope="module")
def helm() -> Path:
    found: Path | None = RENDER["find_helm"]()
    if found is None:
        pytest.skip("helm is missing: run `make cluster`, which builds it, or put it on PATH")
    return found


@pytest.fixture(scope="module")
def objects(helm: Path) -> dict[str, dict[str, Any]]:
    """Every object of the default rendering, by kind; each kind occurs once."""
    documents = [document for document in yaml.safe_load_all(RENDER["template"](helm)) if document]
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def render(helm: Path, *arguments: str) -> dict[str, Any]:
    """The Deployment, rendered with these arguments."""
    return yaml.safe_load(RENDER["template"](helm, "--show-only", "templates/deployment.yaml", *arguments))


def test_manifests_are_what_the_chart_renders(helm: Path) -> None:
    assert RENDER["drifted"](RENDER["render"](helm)) == [], "run `make manifests`"


def test_helm_lint_is_content(helm: Path) -> None:
    ran = subprocess.run([str(helm), "lint", "--strict", str(CHART)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_rights_name_every_verb_and_no_secret(objects: dict[str, dict[str, Any]]) -> None:
    for rule in objects["ClusterRole"]["rules"]:
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert "secrets" not in rule["resources"]
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])


def test_the_operator_holds_what_it_grants_to_workers(objects: dict[str, dict[str, Any]]) -> None:
    rules = objects["ClusterRole"]["rules"]
    held = {verb for rule in rules if "leases" in rule["resources"] for verb in rule["verbs"]}
    assert held >= WORKER_VERBS


def test_claims_are_never_deleted(objects: dict[str, dict[str, Any]]) -> None:
    rules = objects["ClusterRole"]["rules"]
    assert all("delete" not in rule["verbs"] for rule in rules if "persistentvolumeclaims" in rule["resources"])


def test_the_pod_meets_the_restricted_standard(objects: dict[str, dict[str, Any]]) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("emptyDir" in volume for volume in pod["volumes"])


def test_an_upgrade_ends_no_operator_before_another_is_ready(objects: dict[str, dict[str, Any]]) -> None:
    spec = objects["Deployment"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_probes_ask_for_what_the_operator_serves(
    objects: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readiness is not its liveness: it lives before it knows anything."""
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    for name in ("UNDERSTUDY_HEALTH_PORT", "UNDERSTUDY_READY_PORT"):
        assert name not in [entry["name"] for entry in container["env"]]
        monkeypatch.delenv(name, raising=False)
    settings = Settings.from_environment()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: (ports[get["port"]], get["path"]) for kind, get in asked.items()} == {
        "startup": (settings.health_port, "/healthz"),
        "liveness": (settings.health_port, "/healthz"),
        "readiness": (settings.ready_port, readiness.PATH),
    }


def test_a_drain_takes_one_operator_at_a_time(objects: dict[str, dict[str, Any]]) -> None:
    budget, deployment = objects["PodDisruptionBudget"]["spec"], objects["Deployment"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": deployment["selector"]}


def test_replicas_prefer_different_nodes(objects: dict[str, dict[str, Any]]) -> None:
    deployment = objects["Deployment"]["spec"]
    (preference,) = deployment["template"]["spec"]["affinity"]["podAntiAffinity"].values()
    assert preference[0]["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": deployment["selector"],
    }


def test_the_operators_of_a_lost_node_are_replaced_soon(objects: dict[str, dict[str, Any]]) -> None:
    tolerations = objects["Deployment"]["spec"]["template"]["spec"]["tolerations"]
    common = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
    assert tolerations == [{"key": f"node.kubernetes.io/{why}"} | common for why in ("not-ready", "unreachable")]


def test_one_replica_has_no_budget_that_would_stop_every_drain(helm: Path) -> None:
    kinds = [document["kind"] for document in yaml.safe_load_all(RENDER["template"](helm, "--set=replicas=1"))]
    assert "Deployment" in kinds
    assert "PodDisruptionBudget" not in kinds


def test_the_selector_finds_the_pods_it_makes(objects: dict[str, dict[str, Any]]) -> None:
    spec = objects["Deployment"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def kinds(helm: Path, *arguments: str) -> set[str]:
    """The kinds of all objects, rendered with these arguments."""
    return {document["kind"] for document in yaml.safe_load_all(RENDER["template"](helm, *arguments)) if document}


def variable(policy: dict[str, Any], name: str) -> str:
    """The expression of a variable of the policy."""
    (found,) = [each["expression"] for each in policy["spec"]["variables"] if each["name"] == name]
    return str(found)


def test_the_policy_is_bound_and_denies(objects: dict[str, dict[str, Any]]) -> None:
    policy, binding = (objects[kind] for kind in sorted(POLICIES))
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"
    (chosen,) = policy["spec"]["matchConstraints"]["objectSelector"]["matchExpressions"]
    assert chosen == {"key": Label.JOB_UID, "operator": "Exists"}


def test_the_policy_leaves_the_operators_account_alone(objects: dict[str, dict[str, Any]]) -> None:
    account = objects["ServiceAccount"]["metadata"]
    exempt = objects["ValidatingAdmissionPolicy"]["spec"]["matchConditions"][1]["expression"]
    assert f"'system:serviceaccount:{account['namespace']}:{account['name']}'" in exempt


def test_the_policy_lets_pass_what_a_renewal_writes_and_no_other_annotation(objects: dict[str, dict[str, Any]]) -> None:
    everything = renewal_patch(
        Heartbeat(pod="digits-0-0", term=1, phase=Phase.TRAINING),
        datetime(2026, 1, 2, tzinfo=UTC),
        release=Release(Term(1), "HandedOver", 0),
        notice=Notice("Any", "any"),
    )
    below = "/metadata/annotations/"
    paths = [each["path"] for each in json.loads(everything) if each["op"] != "test"]
    written = {path.removeprefix(below).replace("~1", "/") for path in paths if path.startswith(below)}
    policy = objects["ValidatingAdmissionPolicy"]
    assert set(re.findall(r"'(understudy\.dev/[^']+)'", variable(policy, "changedNotes"))) == written
    assert {path for path in paths if not path.startswith(below)} == {"/spec/renewTime"}


def test_every_refusal_names_the_lease(objects: dict[str, dict[str, Any]]) -> None:
    for rule in objects["ValidatingAdmissionPolicy"]["spec"]["validations"]:
        assert rule["messageExpression"].startswith("variables.lease + ' was not changed: ")
        assert rule["reason"] == "Forbidden", "a worker takes 422 for a Lease that was passed on"


def test_the_policy_can_be_switched_off(helm: Path) -> None:
    assert kinds(helm) >= POLICIES
    assert not POLICIES & kinds(helm, "--set=admissionPolicy.enabled=false")


@pytest.mark.parametrize(("version", "known"), [("1.29.14", False), ("1.30.0-gke.100", True), ("1.36.3", True)])
def test_the_policy_is_left_out_where_the_api_server_does_not_know_it(helm: Path, version: str, known: bool) -> None:
    assert (kinds(helm, f"--kube-version={version}") >= POLICIES) is known


def test_values_reach_the_deployment(helm: Path) -> None:
    deployment = render(
        helm,
        "--set=image.repository=registry.example/u,image.tag=v9,image.pullPolicy=Always,logLevel=DEBUG",
        "--set=priorityClassName=system-cluster-critical,nodeSelector.disk=ssd",
        "--set=tolerations[0].operator=Exists,imagePullSecrets[0].name=pull,podLabels.team=ml",
        '--set-json=affinity={"podAntiAffinity":{}}',
    )
    template = deployment["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example/u:v9", "Always")
    assert {"name": "UNDERSTUDY_LOG_LEVEL", "value": "DEBUG"} in container["env"]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"][-1] == {"operator": "Exists"}
    assert pod["affinity"] == {"podAntiAffinity": {}}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert template["metadata"]["labels"]["team"] == "ml"


@pytest.mark.parametrize(
    "argument",
    [
        "replica=2",
        "replicas=0",
        "replicas=two",
        "image.tga=v9",
        "logLevel=LOUD",
        "image.pullPolicy=Sometimes",
        "image.tag=a/b",
        "resources.limit=1Gi",
        "admissionPolicy.enable=true",
    ],
)
def test_a_misspelt_value_is_refused(helm: Path, argument: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, f"--set={argument}")
    assert argument.split("=")[0].split(".")[-1] in refused.value.stderr
