"""What tests do to the operators' pods."""

import signal
from typing import Final

from testbed import Testbed, operator
from testbed.kube import PODS, Object
from tests.e2e import see

REPLICAS: Final = 2
"""The chart's default."""
DEPLOYMENT: Final = f"/apis/apps/v1/namespaces/{operator.NAMESPACE}/deployments/understudy-operator"


def end(testbed: Testbed, name: str) -> None:
    """Delete an operator's pod without a grace period; the Deployment makes a new one."""
    testbed.kube.delete(f"{PODS.format(operator.NAMESPACE)}/{name}", gracePeriodSeconds=0)


def crash(testbed: Testbed, name: str) -> None:
    """Kill an operator's process, which has no time to release anything; the kubelet starts it anew in its pod."""
    (process, *_) = testbed.cluster.processes(operator.NAMESPACE, name)
    testbed.cluster.send_signal(process, signal.SIGKILL)


def end_all(testbed: Testbed) -> None:
    """Delete all of them at once."""
    for pod in operator.pods(testbed.kube):
        end(testbed, pod["metadata"]["name"])


def restart(testbed: Testbed) -> None:
    """Roll the Deployment over, as an upgrade does; wait until it has ended."""
    where, what = f"--namespace={operator.NAMESPACE}", "deployment/understudy-operator"
    see.kubectl(testbed, where, "rollout", "restart", what)
    see.kubectl(testbed, where, "rollout", "status", what, f"--timeout={see.WAIT_S:.0f}s")
    wait_ready(testbed)


def wait_ready(testbed: Testbed, replicas: int = REPLICAS) -> None:
    """Wait until so many operators are ready, and no other is left."""

    def available(found: list[Object]) -> bool:
        return len(found) == replicas and all(map(operator.is_ready, found))

    path = PODS.format(operator.NAMESPACE)
    see.until(testbed, path, available, f"{replicas} operators that are ready", labelSelector=operator.SELECTOR)


def wait_none(testbed: Testbed) -> None:
    """Wait until no operator is left."""
    path = PODS.format(operator.NAMESPACE)
    see.until(testbed, path, lambda found: not found, "the end of all operators", labelSelector=operator.SELECTOR)


def scale(testbed: Testbed, replicas: int) -> None:
    """Run so many operators, and wait until it is so."""
    testbed.kube.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})
    if replicas:
        wait_ready(testbed, replicas)
    else:
        wait_none(testbed)
