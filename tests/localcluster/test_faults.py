"""Faults are real, take effect, and can be undone."""

import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from localcluster import ClusterError
from localcluster.embedded import EmbeddedCluster
from localcluster.network import DNS_SERVICE
from localcluster.processes import Identity
from tests.localcluster.tools import connects, get, is_ready, pod, start_pod, until

pytestmark = pytest.mark.cluster


def restarts(cluster: EmbeddedCluster, namespace: str, name: str) -> int:
    found = get(cluster, namespace, "pods", name)
    return int(found["status"]["containerStatuses"][0]["restartCount"])


def inside(cluster: EmbeddedCluster, namespace: str, name: str) -> list[str]:
    """Words that, before a command, make this machine's program run on a pod's network."""
    return ["nsenter", f"--target={cluster.processes(namespace, name)[0].pid}", "--net", "--"]


def succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_power_cut_ends_every_process_of_a_node_and_a_start_brings_its_pods_back(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    node = cluster.node("node-1")
    start_pod(cluster, namespace, pod("victim", nodeName=node.name))
    victims = [Identity.of(process.pid) for process in cluster.processes(namespace, "victim")]
    assert victims
    node.power_cut()
    assert not node.is_running
    until(lambda: not any(victim and victim.is_alive() for victim in victims), "the end of the pod's processes")
    with pytest.raises(ClusterError, match="no power"):
        node.run(["true"])
    node.start()
    until(lambda: restarts(cluster, namespace, "victim") > 0, "the pod's container to be started again")
    until(lambda: is_ready(get(cluster, namespace, "pods", "victim")), "the pod to be Ready again")
    assert cluster.processes(namespace, "victim")


def test_a_node_can_be_started_the_moment_after_its_power_was_cut(cluster: EmbeddedCluster) -> None:
    node = cluster.node("node-1")
    node.power_cut()
    node.start()
    assert node.is_running
    assert node.run(["hostname"]).strip() == node.name


def test_a_partitioned_node_reaches_nobody_and_its_processes_run_on(cluster: EmbeddedCluster, namespace: str) -> None:
    node = cluster.node("node-2")
    start_pod(cluster, namespace, pod("survivor", nodeName=node.name))
    (process,) = cluster.processes(namespace, "survivor")
    api = connects(cluster.api.host, cluster.api.port)
    node.run(api)
    node.partition()
    try:
        assert not node.is_connected
        with pytest.raises(ClusterError):
            node.run(api)
        assert Identity.of(process.pid)
    finally:
        node.heal()
    node.run(api)


def test_in_an_api_outage_nobody_reaches_the_api_server_and_afterwards_everybody_does(cluster: EmbeddedCluster) -> None:
    address = (cluster.api.host, cluster.api.port)
    with cluster.api_outage(), pytest.raises(OSError, match=r"timed out|No route to host"):
        socket.create_connection(address, timeout=2)
    socket.create_connection(address, timeout=2).close()
    for node in cluster.nodes:
        node.run(connects(*address))


def test_the_processes_of_a_pod_are_those_of_its_containers(cluster: EmbeddedCluster, namespace: str) -> None:
    start_pod(cluster, namespace, pod("one", nodeName="node-1"))
    start_pod(cluster, namespace, pod("two", nodeName="node-1"))
    (one,) = cluster.processes(namespace, "one")
    assert one.argv == ("/catatonit", "--", "/catatonit", "-P")
    assert one.pid not in {process.pid for process in cluster.processes(namespace, "two")}
    cluster.send_signal(replace(one, started=one.started - 1), signal.SIGKILL)  # to an earlier process of this pid
    assert Identity.of(one.pid)
    cluster.send_signal(one, signal.SIGKILL)
    until(lambda: restarts(cluster, namespace, "one") > 0, "the kubelet to see the end of the container")


def test_services_reach_pods_on_the_same_node_and_on_another(cluster: EmbeddedCluster, namespace: str) -> None:
    server = start_pod(cluster, namespace, pod("server", nodeName="node-1"))
    start_pod(cluster, namespace, pod("near", nodeName="node-1"))
    start_pod(cluster, namespace, pod("far", nodeName="node-2"))
    cluster.api.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/services",
        {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
    )
    address = get(cluster, namespace, "services", "web")["spec"]["clusterIP"]
    cluster.api.request(
        "POST",
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        {
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [server["status"]["podIP"]], "conditions": {"ready": True}}],
            "ports": [{"port": 8000}],
        },
    )
    web = subprocess.Popen(
        [*inside(cluster, namespace, "server"), "python3", "-m", "http.server", "8000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for client in ("near", "far"):
            reach = [*inside(cluster, namespace, client), *connects(address, 80)]
            until(partial(succeeds, reach), f"an answer to {client}")
    finally:
        web.kill()
        web.wait()


def test_a_pods_name_lookup_is_refused_and_does_not_time_out(cluster: EmbeddedCluster, namespace: str) -> None:
    start_pod(cluster, namespace, pod("asker", nodeName="node-1"))
    lookup = """
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(30)
asking.connect(("NAMESERVER", 53))
asking.send(b"who?")
try:
    asking.recv(1)
except ConnectionRefusedError:
    print("refused")
"""
    script = lookup.replace("NAMESERVER", str(DNS_SERVICE))
    command = [*inside(cluster, namespace, "asker"), "python3", "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused\n"


def test_no_node_and_no_pod_has_a_way_out(cluster: EmbeddedCluster, namespace: str) -> None:
    assert cluster.node("node-1").run(["ip", "route", "show", "default"]) == ""
    start_pod(cluster, namespace, pod("prisoner", nodeName="node-1"))
    assert not succeeds([*inside(cluster, namespace, "prisoner"), *connects("192.0.2.1", 80)])
