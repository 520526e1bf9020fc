"""An example of each field of a template: of what is taken as it is, and of what the definition refuses.

Named after the field, `pod.` or `container.`; a unit test holds docs/reference/template.md against these names.
"""

from typing import Any

TRAINER = {"name": "trainer", "image": "any:1", "command": ["python", "train.py"]}
PROBE = {"exec": {"command": ["true"]}}
ROOT = {"securityContext": {"runAsUser": 0}}


def job(containers: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """A job whose template has these containers and fields."""
    return {"metadata": {"name": "good"}, "spec": {"template": {"spec": {"containers": containers, **spec}}}}


def of_pod(**spec: Any) -> dict[str, Any]:
    return job([TRAINER], **spec)


def of_trainer(**container: Any) -> dict[str, Any]:
    return job([{**TRAINER, **container}])


def beside(**container: Any) -> dict[str, Any]:
    """A sidecar with these fields, before the trainer."""
    return job([{"name": "proxy", "image": "any:1", **container}, TRAINER])


def mounted(path: str, volume: str = "data", **mount: Any) -> dict[str, Any]:
    return of_trainer(volumeMounts=[{"name": volume, "mountPath": path, **mount}])


_NO_ROOT = "runAsUser 0 is root"
_PORT = "port 8476 is the one on which Understudy's agent"
_MOUNTS = "may mount nothing at /run/understudy"
_RESTART_ALL = "RestartAllContainers would restart the trainer"
_NO_RESTART = "restartPolicy of the container 'trainer' must be Never or absent"

REFUSED_TEMPLATE: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "pod.activeDeadlineSeconds": {
        "a deadline of each pod": (of_pod(activeDeadlineSeconds=60), "activeDeadlineSeconds would end each pod"),
    },
    "pod.serviceAccount": {
        "two accounts": (
            of_pod(serviceAccount="a", serviceAccountName="b"),
            "serviceAccount is the old name of serviceAccountName",
        ),
    },
    "pod.nodeName": {"a node by name": (of_pod(nodeName="node-a"), "nodeName passes the scheduler by")},
    "pod.readinessGates": {
        "a readiness gate": (of_pod(readinessGates=[{"conditionType": "a/b"}]), "readinessGates keep a pod"),
    },
    "pod.ephemeralContainers": {
        "an ephemeral container": (of_pod(ephemeralContainers=[{"name": "x"}]), "ephemeralContainers cannot be"),
    },
    "pod.os": {"pods of Windows": (of_pod(os={"name": "windows"}), "os.name must be linux or absent")},
    "pod.schedulingGroup": {
        "a gang": (of_pod(schedulingGroup={"podGroupName": "g"}), "schedulingGroup makes a pod wait"),
    },
    "pod.volumes": {
        "a volume of a name of ours": (
            of_pod(volumes=[{"name": "understudy-run", "emptyDir": {}}]),
            "names of volumes that begin with understudy-",
        ),
    },
    "pod.initContainers": {
        "an init container named trainer": (
            of_pod(initContainers=[{"name": "trainer"}]),
            "an init container cannot be named 'trainer'",
        ),
        "an init container that is root": (
            of_pod(initContainers=[{"name": "x", **ROOT}]),
            f"a container with {_NO_ROOT}",
        ),
        "a native sidecar on the agent's port": (
            of_pod(initContainers=[{"name": "x", "ports": [{"containerPort": 8476}]}]),
            _PORT,
        ),
        "a native sidecar that restarts all": (
            of_pod(initContainers=[{"name": "x", "restartPolicyRules": [{"action": "RestartAllContainers"}]}]),
            _RESTART_ALL,
        ),
    },
    "pod.securityContext": {"a pod that is root": (of_pod(**ROOT), _NO_ROOT)},
    "container.livenessProbe": {
        "a liveness probe": (of_trainer(livenessProbe=PROBE), "a livenessProbe of the container 'trainer' would end")
    },
    "container.startupProbe": {
        "a startup probe": (of_trainer(startupProbe=PROBE), "a startupProbe of the container 'trainer' would end")
    },
    "container.lifecycle": {
        hook: (of_trainer(lifecycle={hook: value}), "lifecycle hooks of the container 'trainer' are refused")
        for hook, value in {"preStop": PROBE, "postStart": PROBE, "stopSignal": "SIGUSR1"}.items()
    },
    "container.restartPolicy": {
        "a trainer that is restarted": (of_trainer(restartPolicy="OnFailure"), _NO_RESTART),
    },
    "container.restartPolicyRules": {
        "a trainer with rules": (
            of_trainer(restartPolicy="Never", restartPolicyRules=[{"action": "Restart"}]),
            _NO_RESTART,
        ),
        "a sidecar that restarts all": (beside(restartPolicyRules=[{"action": "RestartAllContainers"}]), _RESTART_ALL),
    },
    "container.ports": {
        "a trainer on the agent's port": (of_trainer(ports=[{"containerPort": 8476}]), _PORT),
        "a sidecar on the agent's port": (beside(ports=[{"containerPort": 8476}]), _PORT),
    },
    "container.securityContext": {
        "a trainer that is root": (of_trainer(**ROOT), f"a container with {_NO_ROOT}"),
        "a sidecar that is root and says so wrongly": (
            beside(securityContext={"runAsUser": 0, "runAsNonRoot": True}),
            f"a container with {_NO_ROOT}",
        ),
    },
    "container.volumeMounts": {
        "something at the run folder": (mounted("/run/understudy"), _MOUNTS),
        "something at the checkpoints": (mounted("/understudy/checkpoints/"), _MOUNTS),
        "checkpoints that cannot be written": (
            mounted("/understudy/checkpoints", "understudy-checkpoints", readOnly=True),
            _MOUNTS,
        ),
    },
}

ACCEPTED_TEMPLATE: dict[str, dict[str, Any]] = {
    "an account by its old name": of_pod(serviceAccount="a"),
    "an account by both names": of_pod(serviceAccount="a", serviceAccountName="a"),
    "pods of Linux": of_pod(os={"name": "linux"}),
    "root that says so": of_pod(
        securityContext={"runAsUser": 0, "runAsNonRoot": False}, initContainers=[{"name": "x", **ROOT}]
    ),
    "an init container that is root and says so": of_pod(
        initContainers=[{"name": "chown", "securityContext": {"runAsUser": 0, "runAsNonRoot": False}}]
    ),
    "probes and hooks of a sidecar": beside(
        livenessProbe=PROBE, startupProbe=PROBE, lifecycle={"preStop": PROBE}, restartPolicy="Always"
    ),
    "the agent's port in the network of the node": job(
        [{**TRAINER, "ports": [{"containerPort": 8476}]}], hostNetwork=True
    ),
    "a folder of the checkpoints' volume": mounted("/understudy/checkpoints", "understudy-checkpoints", subPath="a/b"),
    "the checkpoints' volume in a sidecar": beside(
        volumeMounts=[{"name": "understudy-checkpoints", "mountPath": "/understudy/checkpoints", "readOnly": True}]
    ),
    "a readiness probe, which is replaced": of_trainer(readinessProbe=PROBE),
    "all that is null": of_pod(
        serviceAccount=None, volumes=None, os=None, securityContext=None, activeDeadlineSeconds=None
    ),
}

HOST = {"kubernetes.io/hostname": "node-1"}
LABELS = {"matchLabels": {"understudy.dev/job": "good"}}

TAKEN: dict[str, Any] = {
    "pod.affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "pod.automountServiceAccountToken": False,
    "pod.containers": [{"name": "proxy", "image": "any:1"}],
    "pod.dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "pod.dnsPolicy": "ClusterFirstWithHostNet",
    "pod.enableServiceLinks": False,
    "pod.hostAliases": [{"ip": "10.0.0.1", "hostnames": ["data"]}],
    "pod.hostIPC": True,
    "pod.hostNetwork": True,
    "pod.hostPID": True,
    "pod.hostUsers": False,
    "pod.hostname": "trainer",
    "pod.hostnameOverride": "trainer",
    "pod.imagePullSecrets": [{"name": "registry"}],
    "pod.initContainers": [{"name": "fetch", "image": "any:1", "restartPolicy": "Always", "livenessProbe": PROBE}],
    "pod.nodeSelector": HOST,
    "pod.os": {"name": "linux"},
    "pod.overhead": {"cpu": "1m"},
    "pod.preemptionPolicy": "PreemptLowerPriority",
    "pod.priority": 0,
    "pod.priorityClassName": "system-cluster-critical",
    "pod.resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
    "pod.resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
    "pod.restartPolicy": "Never",
    "pod.runtimeClassName": "RUNTIME_CLASS",
    "pod.schedulerName": "another",
    "pod.schedulingGates": [{"name": "queue.example/admission"}],
    "pod.securityContext": {"runAsUser": 12345, "supplementalGroups": [7]},
    "pod.serviceAccount": "default",
    "pod.serviceAccountName": "default",
    "pod.setHostnameAsFQDN": True,
    "pod.shareProcessNamespace": True,
    "pod.subdomain": "workers",
    "pod.terminationGracePeriodSeconds": 40,
    "pod.tolerations": [{"operator": "Exists"}],
    "pod.topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": LABELS}
    ],
    "pod.volumes": [{"name": "data", "emptyDir": {}}],
    "container.args": ["--steps", "5"],
    "container.command": ["python", "other.py"],
    "container.env": [{"name": "A", "value": "$(UNDERSTUDY_RANK)"}],
    "container.envFrom": [{"configMapRef": {"name": "settings", "optional": True}}],
    "container.image": "any:2",
    "container.imagePullPolicy": "Always",
    "container.name": "trainer",
    "container.ports": [{"containerPort": 80, "protocol": "TCP"}],
    "container.resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    "container.resources": {"limits": {"cpu": "1500m"}, "requests": {"cpu": "1"}},
    "container.restartPolicy": "Never",
    "container.securityContext": {"runAsUser": 12345, "privileged": True},
    "container.stdin": True,
    "container.stdinOnce": True,
    "container.terminationMessagePolicy": "File",
    "container.tty": True,
    "container.volumeDevices": [{"name": "block", "devicePath": "/dev/block"}],
    "container.volumeMounts": [{"name": "data", "mountPath": "/tmp"}],
    "container.workingDir": "/work",
}
"""Values that pods have as the template gives them, or with more beside them."""

GOES_WITH: dict[str, dict[str, Any]] = {
    "pod.dnsPolicy": {"hostNetwork": True},
    "pod.overhead": {"runtimeClassName": "RUNTIME_CLASS"},
    "container.volumeDevices": {"volumes": [{"name": "block", "persistentVolumeClaim": {"claimName": "block"}}]},
    "container.volumeMounts": {"volumes": [{"name": "data", "emptyDir": {}}]},
}
"""What else the pod must have for Kubernetes to take the value."""


def with_field(field: str, value: Any) -> dict[str, Any]:
    """Build the job whose template has the value in a field, and what goes with it."""
    part, _, name = field.partition(".")
    beside_it = GOES_WITH.get(field, {})
    if part == "container":
        return job([{**TRAINER, name: value}], **beside_it)
    if name == "containers":
        return job([*value, TRAINER], **beside_it)
    return of_pod(**beside_it, **{name: value})
