"""Everybody in the cluster but the operator and the workers: scheduler, kubelets, node controller, volume binder.

As simple as is truthful: a kubelet starts what is bound to its node, ends what is being deleted or is gone, and reports
how containers end; cut off, it goes on running what it runs and learns of all this later. A node whose kubelet is not
heard for 40 s is not Ready, and its pods are evicted after a while. The scheduler believes what the API says.
"""

from collections.abc import Callable
from random import Random

import msgspec
from understudy_contract.names import Label

from tests.simulation.network import Link, Network
from tests.simulation.server import Change, Json
from tests.simulation.volume import Mount
from tests.simulation.worker import Container

NOT_READY_AFTER_S = 40.0
KUBELET = "kubelet"


class Node:
    """One machine with a kubelet."""

    def __init__(self, name: str, link: Link, mount: Mount, rate: float, wall_error_s: float) -> None:
        self.name = name
        self.link = link
        self.mount = mount
        self.rate = rate
        self.wall_error_s = wall_error_s
        self.powered = True
        self.paused = False
        self.containers: dict[str, Container] = {}
        """By uid of their pod; ended ones until they are reported and their pod is gone."""

    @property
    def speaks(self) -> bool:
        """Its kubelet reaches the API server."""
        return self.powered and self.link.whole and not self.paused


class Cluster:
    """The nodes and the control plane's own parts."""

    def __init__(
        self,
        network: Network,
        random: Random,
        nodes: list[Node],
        modes: list[str],
        start: Callable[[Node, Json], Container],
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.eviction_s = 60.0
        self._network, self._server, self._random = network, network.server, random
        self._timeline = network.timeline
        self._modes = modes
        self._start = start
        self.volume_node: str | None = None
        """The node of a volume that only one node can mount."""
        for node in nodes:
            body = {"metadata": {"name": node.name}}
            self._server.post("node", "/api/v1/nodes", _encode(body))
            self._set_ready(node, ready=True)
            node.link.listeners.append(lambda node=node: self._heard(node))  # type: ignore[misc]
        self._server.observers.append(self._changed)

    # Faults of nodes

    def cut_power(self, node: Node) -> None:
        """Take a node's power: all that runs there is gone."""
        node.powered = False
        for container in list(node.containers.values()):
            container.kill(255, "")
        self.silent(node)

    def restore_power(self, node: Node) -> None:
        """Give it back."""
        if not node.powered:
            node.powered = True
            node.mount.forget()
            self._heard(node)

    def pause(self, node: Node, *, clock_too: bool) -> None:
        """Stop everything on a node."""
        node.paused = True
        for container in node.containers.values():
            container.pause(clock_too=clock_too)
        self.silent(node)

    def resume(self, node: Node) -> None:
        """Let it go on."""
        if node.paused:
            node.paused = False
            for container in node.containers.values():
                container.resume()
            self._heard(node)

    def silent(self, node: Node) -> None:
        """Take note that a kubelet may have stopped reporting."""
        since = self._timeline.now
        self._timeline.after(NOT_READY_AFTER_S, self._suspect, node, since)

    def look_everywhere(self) -> None:
        """Let kubelets, scheduler and binder compare what is with what should be."""
        for claim in self._server.all("persistentvolumeclaims"):
            self._bind(claim["metadata"]["name"])
        for node in self.nodes.values():
            self._heard(node)
        for pod in self._server.all("pods"):
            if not pod["spec"].get("nodeName"):
                self._timeline.after(0.1, self._schedule, pod["metadata"]["name"], pod["metadata"]["uid"])

    def _suspect(self, node: Node, since: float) -> None:
        if node.speaks or self._network.down:
            return
        self._set_ready(node, ready=False)
        self._timeline.after(self.eviction_s, self._evict, node)

    def _evict(self, node: Node) -> None:
        if node.speaks:
            return
        for pod in self._server.all("pods"):
            if pod["spec"].get("nodeName") == node.name and not pod["metadata"].get("deletionTimestamp"):
                self._server.delete(
                    "node-controller", f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", None
                )

    def _heard(self, node: Node) -> None:
        if node.speaks:
            self._timeline.after(self._random.uniform(0.1, 3.0), self._report, node)

    def _report(self, node: Node) -> None:
        if node.speaks:
            self._set_ready(node, ready=True)
            for pod in self._server.all("pods"):
                if pod["spec"].get("nodeName") == node.name:
                    self._sync_soon(node, pod["metadata"]["name"], pod["metadata"]["uid"])
            for uid, container in node.containers.items():
                self._sync_soon(node, container.name, uid)

    def _set_ready(self, node: Node, *, ready: bool) -> None:
        status = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
        self._server.update("node-controller", "nodes", node.name, {"status": status})

    # What follows from changes of objects

    def _changed(self, change: Change) -> None:
        new = change.new
        if change.resource == "persistentvolumeclaims" and change.old is None:
            self._timeline.after(self._random.uniform(0.1, 1.0), self._bind, change.name)
        if change.resource != "pods":
            return
        pod = new or change.old
        assert pod is not None
        where = pod["spec"].get("nodeName")
        if where is not None:
            self._sync_soon(self.nodes[where], change.name, pod["metadata"]["uid"])
        elif change.old is None:
            self._timeline.after(self._random.uniform(0.02, 0.2), self._schedule, change.name, pod["metadata"]["uid"])

    def _bind(self, claim: str) -> None:
        status = {"phase": "Bound", "accessModes": self._modes}
        self._server.update("binder", "persistentvolumeclaims", claim, {"status": status})

    def _schedule(self, name: str, uid: str) -> None:
        pod = self._pod(name, uid)
        if pod is None or pod["spec"].get("nodeName"):
            return
        fit = [node["metadata"]["name"] for node in self._server.all("nodes") if _ready(node)]
        if "ReadWriteMany" not in self._modes and self.volume_node is not None:
            fit = [node for node in fit if node == self.volume_node]
        if not fit:
            said = {"type": "PodScheduled", "status": "False", "message": "0 nodes are available."}
            self._server.update("scheduler", "pods", name, {"status": {"conditions": [said]}})
            self._timeline.after(3.0, self._schedule, name, uid)
            return
        cost = {node: self._cost(pod, node) for node in fit}
        chosen = min(fit, key=lambda node: (cost[node], node))
        self.volume_node = self.volume_node or chosen
        self._server.update("scheduler", "pods", name, {"spec": {"nodeName": chosen}, "status": {"conditions": []}})

    def _cost(self, pod: Json, node: str) -> int:
        rules = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        cost = 0
        for rule in rules.get("preferredDuringSchedulingIgnoredDuringExecution", ()):
            if node in rule["preference"]["matchFields"][0]["values"]:
                cost += rule["weight"]
        labels = pod["metadata"]["labels"]
        for peer in self._server.all("pods"):
            theirs = peer["metadata"]["labels"]
            if (
                peer["spec"].get("nodeName") == node
                and Label.ROLE in theirs
                and theirs[Label.RANK] == labels[Label.RANK]
            ):
                cost += 50
        return cost

    # The kubelet

    def _sync_soon(self, node: Node, name: str, uid: str) -> None:
        self._timeline.after(self._random.uniform(0.01, 0.3), self._sync, node, name, uid)

    def _sync(self, node: Node, name: str, uid: str) -> None:
        if not node.speaks or self._network.down:
            if self._network.down:
                self._timeline.after(2.0, self._sync, node, name, uid)
            return
        pod, container = self._pod(name, uid), node.containers.get(uid)
        if pod is None:
            if container is not None:
                container.kill()
                del node.containers[uid]
        elif container is None:
            self._sync_without(node, pod)
        elif container.code is not None:
            self._report_end(node, pod, container)
        elif pod["metadata"].get("deletionTimestamp") and not container.asked_to_end:
            container.terminate()
            self._timeline.after(pod["spec"]["terminationGracePeriodSeconds"], self._lose_patience, container)

    def _sync_without(self, node: Node, pod: Json) -> None:
        name = pod["metadata"]["name"]
        if pod["metadata"].get("deletionTimestamp"):
            self._server.remove(KUBELET, "pods", name)
        elif pod["status"]["phase"] in ("Pending", "Running"):
            container = self._start(node, pod)
            node.containers[pod["metadata"]["uid"]] = container
            self._tell(name, "Running", {"running": {"startedAt": ""}})

    def _report_end(self, node: Node, pod: Json, container: Container) -> None:
        name, code = pod["metadata"]["name"], container.code
        if pod["metadata"].get("deletionTimestamp"):
            del node.containers[container.uid]
            self._server.remove(KUBELET, "pods", name)
        elif pod["status"]["phase"] in ("Pending", "Running"):
            end = {"exitCode": code, "reason": "Unknown" if code == 255 else "", "message": container.message}
            self._tell(name, "Failed" if code else "Succeeded", {"terminated": end})

    def _lose_patience(self, container: Container) -> None:
        container.kill()

    def ended(self, node: Node, container: Container) -> None:
        """Take note that a container has ended: the kubelet looks once a second."""
        self._timeline.after(self._random.uniform(0.0, 1.0), self._sync, node, container.name, container.uid)

    def _tell(self, name: str, phase: str, state: Json) -> None:
        status: Json = {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}]}
        self._server.update(KUBELET, "pods", name, {"status": status})

    def _pod(self, name: str, uid: str) -> Json | None:
        found = self._server.find("pods", name)
        return found if found is not None and found["metadata"]["uid"] == uid else None


def _ready(node: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


def _encode(body: Json) -> bytes:
    return msgspec.json.encode(body)
