"""Manifests of a job's children.

A pod carries the template's own labels, volumes and sidecars; the container `trainer` gets the agent as its command,
and what the template leaves open is set so that the restricted Pod Security Standard accepts it.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from understudy_contract import names
from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import encode, micro_time
from understudy_contract.names import Annotation, Env, Label, Rank, Role
from understudy_contract.reports import Release
from understudy_contract.status import JobPhase

from understudy_operator.core.actions import CreatePod, OpenRank, Placement
from understudy_operator.core.model import Job, Now

Json = dict[str, Any]

CHECKPOINT_VOLUME: Final = "understudy-checkpoints"
RUN_VOLUME: Final = "understudy-run"
TMP_VOLUME: Final = "understudy-tmp"
ACCOUNT_VOLUME: Final = "understudy-account"
TOKEN_EXPIRES_S: Final = 3600
"""The kubelet replaces the token in time, and the agent looks whether it has."""
DEFAULT_ENV: Final = {"PYTHONUNBUFFERED": "1", "HOME": "/tmp"}  # noqa: S108 - an emptyDir
"""Environment that a template may set otherwise; what tells agent and trainer who they are, it may not."""


def owner(job: Job) -> Json:
    """Build the reference that has a child deleted with its job."""
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": job.name, "uid": job.uid, "controller": True}


def _meta(job: Job, name: str, *, labels: Mapping[Any, str] | None = None, owned: bool = True) -> Json:
    meta: Json = {
        "name": name,
        "namespace": job.namespace,
        "labels": {Label.JOB: job.name, Label.JOB_UID: job.identity, **(labels or {})},
    }
    if owned:
        meta["ownerReferences"] = [owner(job)]
    return meta


def claim(job: Job) -> Json:
    """Build the claim of the checkpoints: it outlives its job, so it has no owner."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _meta(job, job.policy.claim_name, owned=False),
        "spec": dict(job.policy.claim_template or {}),
    }


def service(job: Job) -> Json:
    """Build the headless Service that follows the role label."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(job, names.service_name(job.name)),
        "spec": {
            "clusterIP": "None",
            "selector": {Label.JOB_UID: job.identity, Label.ROLE: Role.PRIMARY},
        },
    }


def account(job: Job, pull_secrets: list[Json]) -> Json:
    """Build the pods' ServiceAccount, which pulls images with these secrets."""
    meta = _meta(job, names.worker_account_name(job.name))
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "imagePullSecrets": pull_secrets}


def worker_role(job: Job, leases: Sequence[str]) -> Json:
    """Build the Role of the pods: Leases that are this job's, by name."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _meta(job, names.worker_role_name(job.name, leases)),
        "rules": [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": list(leases),
                "verbs": ["get", "watch", "patch"],
            }
        ],
    }


def worker_binding(job: Job, leases: Sequence[str]) -> Json:
    """Bind the Role to the pods' account: the template's own, or the one made for the job.

    Named after the account: a binding that exists is never changed, and a suspended job's template may get another one.
    """
    role = names.worker_role_name(job.name, leases)
    own = job.policy.account_name
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _meta(job, names.worker_binding_name(role, own)),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": own or names.worker_account_name(job.name),
                "namespace": job.namespace,
            }
        ],
    }


def disruption_budget(job: Job, rank: Rank) -> Json:
    """Build the budget of a rank: a drain takes one of its pods when another is Ready, stepping or warm."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(job, names.budget_name(job.name, rank), labels={Label.RANK: str(rank)}),
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {Label.JOB_UID: job.identity, Label.RANK: str(rank)}},
            # A pod that does not step yet, or is not warm yet, has nothing to lose.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def rank_lease(job: Job, order: OpenRank, now: Now) -> Json:
    """Build a rank's Lease."""
    notes: dict[Any, str] = {
        Annotation.INCARNATION: str(order.incarnation),
        Annotation.FAILURES: "0",
        Annotation.ACTIVE_SINCE: _started(job) or micro_time(now.wall),
    }
    if order.floor is not None:
        notes[Annotation.FLOOR] = encode(order.floor)
    if order.promotion is not None:
        notes[Annotation.PROMOTION] = encode(order.promotion)
    if order.complete:
        notes[Annotation.RELEASED] = encode(Release(order.term, ReleaseReason.COMPLETED, 0))
    spec = {"holderIdentity": order.holder, "leaseTransitions": order.term, "renewTime": micro_time(now.wall)}
    return _lease(job, names.rank_lease_name(job.name, order.rank), {Label.RANK: str(order.rank)}, notes, spec)


def _started(job: Job) -> str | None:
    """Say since when the job is active, as far as its status tells; a suspension starts that anew."""
    return None if job.status.phase == JobPhase.SUSPENDED else job.status.start_time or None


def slot_lease(job: Job, rank: int, slot: int) -> Json:
    """Build the Lease of a redundant slot that nobody holds yet."""
    labels = {Label.RANK: str(rank), Label.SLOT: str(slot)}
    name = names.slot_lease_name(job.name, rank, slot)
    return _lease(job, name, labels, {Annotation.FAILURES: "0"}, {"leaseTransitions": 0})


def _lease(job: Job, name: str, labels: Mapping[Any, str], annotations: Mapping[Any, str], spec: Json) -> Json:
    meta = _meta(job, name, labels=labels)
    # Never without annotations: a worker's JSON Patch adds below this map.
    meta["annotations"] = dict(annotations)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": {"leaseDurationSeconds": job.policy.lease_duration_s, **spec},
    }


def pod(job: Job, order: CreatePod) -> Json:
    """Build a pod from the job's template."""
    template = copy.deepcopy(dict(job.policy.template))
    spec: Json = template.get("spec", {})
    meta = template.get("metadata") or {}
    role = Role.PRIMARY if order.slot is None else Role.REDUNDANT
    labels = {Label.RANK: str(order.rank), Label.ROLE: role}
    if order.slot is not None:
        labels[Label.SLOT] = str(order.slot)
    ours = _meta(job, order.name, labels=labels)
    ours["labels"] = {**foreign(meta.get("labels")), **ours["labels"]}
    term = {Annotation.TERM: str(order.term)} if role is Role.PRIMARY else {}
    ours["annotations"] = {**foreign(meta.get("annotations")), **term}
    spec["restartPolicy"] = "Never"
    spec["terminationGracePeriodSeconds"] = job.policy.grace_period_s
    spec.pop("serviceAccount", None)  # the old name of the next field
    spec["serviceAccountName"] = job.policy.account_name or names.worker_account_name(job.name)
    spec["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": names.WORKER_UID,
        "runAsGroup": names.WORKER_UID,
        "fsGroup": names.WORKER_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
        **(spec.get("securityContext") or {}),
    }
    spec["volumes"] = [
        *(spec.get("volumes") or ()),
        {"name": CHECKPOINT_VOLUME, "persistentVolumeClaim": {"claimName": job.policy.claim_name}},
        {"name": RUN_VOLUME, "emptyDir": {}},
        {"name": TMP_VOLUME, "emptyDir": {}},
        {"name": ACCOUNT_VOLUME, "projected": _token()},
    ]
    spec["affinity"] = _affinity(job, order.rank, order.placement, spec.get("affinity") or {})
    differs = dict(job.policy.redundant_template) if order.slot is not None else {}
    resources = differs.pop("resources", None)
    spec |= copy.deepcopy(differs)
    for container in spec.get("initContainers") or ():
        container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    for container in spec.get("containers", ()):
        if container.get("name") == names.TRAINER_CONTAINER:
            if resources is not None:
                container["resources"] = copy.deepcopy(resources)
            _equip(job, order, container, shares_network=bool(spec.get("hostNetwork")))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": ours, "spec": spec}


def foreign(given: Mapping[str, str] | None) -> dict[str, str]:
    """Leave labels or annotations of ours out: what a pod is, its template may not say."""
    prefix = f"{names.GROUP}/"
    return {key: value for key, value in (given or {}).items() if not key.startswith(prefix)}


def _token() -> Json:
    """Build what a pod gets by itself, unless it or its account says automountServiceAccountToken: false.

    It is mounted in the trainer alone: the agent renews its Lease with it. Whether sidecars get one is left to the
    template and the account.
    """
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    return {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_EXPIRES_S}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ]
    }


def _equip(job: Job, order: CreatePod, container: Json, *, shares_network: bool) -> None:
    """Put the agent in front of the trainer's command and give both what they need."""
    command = [*(container.get("command") or ()), *(container.get("args") or ())]
    container["command"] = [names.AGENT_COMMAND, "--", *command]
    container.pop("args", None)
    container.pop("terminationMessagePath", None)  # the agent writes to the default
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    container["securityContext"] = _confined(container.get("securityContext") or {})
    # Never the template's: the budget lets a pod go while another is Ready, which has to mean that it steps or is warm.
    container["readinessProbe"] = {**_readiness(shares_network), "periodSeconds": 2}
    mounts = container.get("volumeMounts") or []
    taken = {mount.get("mountPath", "").rstrip("/") for mount in mounts}
    volumes = [(CHECKPOINT_VOLUME, names.CHECKPOINT_DIR), (RUN_VOLUME, names.RUN_DIR), (TMP_VOLUME, "/tmp")]  # noqa: S108 - an emptyDir
    below = {CHECKPOINT_VOLUME: {"subPath": job.policy.sub_path}} if job.policy.sub_path else {}
    added = ({"name": n, "mountPath": p, **below.get(n, {})} for n, p in volumes if p not in taken)
    container["volumeMounts"] = [*mounts, *added]
    if names.ACCOUNT_DIR not in taken:
        container["volumeMounts"].append({"name": ACCOUNT_VOLUME, "mountPath": names.ACCOUNT_DIR, "readOnly": True})
    given = container.get("env") or []
    named = {entry.get("name") for entry in given}
    ours = _environment(job, order, container, shares_network=shares_network)
    defaults = [{"name": name, "value": value} for name, value in DEFAULT_ENV.items() if name not in named]
    # Our variables come first, so that those of the template may refer to them. The template cannot set any of them,
    # not even one that this pod does not get.
    container["env"] = [*ours, *defaults, *(entry for entry in given if entry.get("name") not in set(Env))]


def _readiness(shares_network: bool) -> Json:
    """Build what the kubelet asks: the agent's port, or, where the port is the node's, a file of the pod.

    An exec costs the node 36 ms of CPU each time, 0.018 of a core a pod, a request to the port a fifteenth of that
    (measured once on the local cluster). So only those pods are asked by it that have no port of their own.
    """
    if shares_network:
        return {"exec": {"command": list(names.READY_COMMAND)}, "timeoutSeconds": 5}
    return {"httpGet": {"path": "/readyz", "port": names.AGENT_PORT}, "timeoutSeconds": 2}


def _confined(given: Json) -> Json:
    """Fill in what the restricted Pod Security Standard asks for, where the template says nothing else."""
    added = (given.get("capabilities") or {}).get("add") or ()
    # Kubernetes refuses a privileged container, and one with CAP_SYS_ADMIN, that may not escalate.
    escalates = given.get("privileged") or {"SYS_ADMIN", "CAP_SYS_ADMIN"} & set(added)
    return {
        **({} if escalates else {"allowPrivilegeEscalation": False}),
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        **given,
    }


def _environment(job: Job, order: CreatePod, container: Json, *, shares_network: bool) -> list[Json]:
    values: dict[str, str] = {
        Env.JOB: job.name,
        Env.JOB_UID: job.identity,
        Env.JOB_CREATED: job.created,
        Env.NAMESPACE: job.namespace,
        Env.POD_NAME: order.name,
        Env.RANK: str(order.rank),
        Env.RANKS: str(job.policy.ranks),
        Env.KEEP: str(job.policy.keep),
        Env.RESUME: job.policy.resume,
        Env.HAND_OVER_S: str(job.policy.hand_over_s),
        Env.PROGRESS_S: str(job.policy.progress_deadline_s),
        Env.MAX_FAILURES: str(job.policy.max_failures),
        Env.STARTUP_S: str(job.policy.startup_deadline_s),
        Env.GRACE_S: str(job.policy.grace_period_s),
        Env.END_S: str(job.policy.end_deadline_s),
        Env.CHECKPOINT_DIR: names.CHECKPOINT_DIR,
        Env.RUN_DIR: names.RUN_DIR,
        # Set although empty: else `envFrom` of the template could set it.
        Env.SLOT: "" if order.slot is None else str(order.slot),
        Env.SERVE_PROBES: "false" if shares_network else "true",
    }
    entries: list[Json] = [{"name": str(name), "value": value} for name, value in values.items()]
    entries.append({"name": str(Env.POD_UID), "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})
    if (container.get("resources") or {}).get("limits", {}).get("cpu") is not None:
        limit = {"resource": "limits.cpu", "divisor": "1m"}
        entries.append({"name": str(Env.CPU_LIMIT_M), "valueFrom": {"resourceFieldRef": limit}})
    else:
        entries.append({"name": str(Env.CPU_LIMIT_M), "value": ""})
    return entries


def _affinity(job: Job, rank: int, placement: Placement, own: Json) -> Json:
    affinity = copy.deepcopy(own)
    in_job = {"matchLabels": {Label.JOB_UID: job.identity}}
    if placement.together:
        term = {"labelSelector": in_job, "topologyKey": "kubernetes.io/hostname"}
        _extend(affinity, "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution", [term])
    elif placement.avoid_nodes:
        avoid = [
            {
                "weight": weight,
                "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]}]},
            }
            for node, weight in placement.avoid_nodes
        ]
        _extend(affinity, "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution", avoid)
    else:
        # Only pods that have a role: a lost pod must not repel its replacement.
        peers = {
            "matchLabels": {Label.JOB_UID: job.identity, Label.RANK: str(rank)},
            "matchExpressions": [{"key": str(Label.ROLE), "operator": "Exists"}],
        }
        apart = {"weight": 100, "podAffinityTerm": {"labelSelector": peers, "topologyKey": "kubernetes.io/hostname"}}
        _extend(affinity, "podAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution", [apart])
    return affinity


def _extend(affinity: Json, kind: str, rule: str, terms: list[Json]) -> None:
    section = affinity.setdefault(kind, {})
    section[rule] = [*section.get(rule, ()), *terms]
