"""The cluster's network: a switch, one host for the control plane, one per node, and a leg for this machine.

Every host is a network namespace joined to a bridge in a namespace of its own by a virtual cable. No host has a
route to this machine's uplink, so nothing that runs in the cluster can reach outside; this machine drops what it
would itself send to pods and services. Everything carries the cluster's name and can be found again by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import struct
import threading
from pathlib import Path

from localcluster import paths
from localcluster.shell import ClusterError, run

PREFIX = f"{paths.NAME}-"
SWITCH = PREFIX + "switch"
CONTROL = PREFIX + "control"
MACHINE_LINK = f"{paths.NAME}-leg"
HANDLES = Path("/run/netns")

# 198.18.0.0/15 is set aside for benchmarks of networks (RFC 2544): no real network uses it.
HOSTS = ipaddress.IPv4Network(f"198.18.{paths.INSTANCE}.0/24")
MACHINE_ADDRESS = HOSTS[1]
CONTROL_ADDRESS = HOSTS[2]
PODS = ipaddress.IPv4Network(f"10.{244 + paths.INSTANCE}.0.0/16")
SERVICES = ipaddress.IPv4Network(f"10.{96 + paths.INSTANCE}.0.0/16")
API_SERVICE = SERVICES[1]
DNS_SERVICE = SERVICES[10]  # where kubelets send pods for names
ROUTE_PROTOCOL = 89 + paths.INSTANCE  # marks this machine's routes as ours

# Of the kernel's interface (linux/sched.h, sockios.h, rtnetlink.h, netlink.h, if_link.h, if_bridge.h).
CLONE_NEWNET = 0x40000000
SIOCGIFINDEX = 0x8933
AF_BRIDGE = 7
NETLINK_ROUTE = 0
RTM_SETLINK = 19
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLA_F_NESTED = 0x8000
IFLA_PROTINFO, IFLA_BRPORT_STATE = 12, 1
DISABLED, FORWARDING = 0, 3


def namespace(node: str) -> str:
    return PREFIX + node


def node_address(index: int) -> ipaddress.IPv4Address:
    """Return the address of the node with this index (from 0)."""
    return HOSTS[11 + index]


def pod_range(index: int) -> ipaddress.IPv4Network:
    """Return the range that a node's pods take their addresses from."""
    return list(PODS.subnets(new_prefix=24))[1 + index]


def make_switch() -> None:
    """Make the switch and this machine's leg."""
    _make_namespace(SWITCH)
    _ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
    _ip("-n", SWITCH, "link", "set", "bridge", "up")
    _plug("machine", MACHINE_LINK, str(os.getpid()))
    _ip("address", "add", f"{MACHINE_ADDRESS}/{HOSTS.prefixlen}", "dev", MACHINE_LINK)
    _ip("link", "set", MACHINE_LINK, "up")
    for private in (PODS, SERVICES):
        _ip("route", "add", "blackhole", str(private), "proto", str(ROUTE_PROTOCOL))


def make_control_plane(nodes: int) -> None:
    """Make the control plane's host; it reaches pods through their nodes."""
    _make_host(CONTROL, "control", CONTROL_ADDRESS)
    for index in range(nodes):
        _ip("-n", CONTROL, "route", "add", str(pod_range(index)), "via", str(node_address(index)))


def make_node(node: str, index: int, nodes: int) -> None:
    """Make a node's host anew: after a power cut nothing is left of the old one's rules, links and connections."""
    remove_node(node)
    name = namespace(node)
    _make_host(name, node, node_address(index))
    for other in range(nodes):
        if other != index:
            _ip("-n", name, "route", "add", str(pod_range(other)), "via", str(node_address(other)))
    # A node's own processes need a route before kube-proxy's rules can turn a service's address into a pod's.
    _ip("-n", name, "route", "add", str(SERVICES), "dev", "eth0")
    # There is no name server: its address is the node's own, where nobody listens, and lookups are refused at once.
    _ip("-n", name, "address", "add", f"{DNS_SERVICE}/32", "dev", "lo")
    _set(name, "icmp_ratelimit", 0)


def remove_node(node: str) -> None:
    """Remove a node's host and its cable, if they are there."""
    with contextlib.suppress(ClusterError):
        _ip("-n", SWITCH, "link", "delete", _port(node))
    with contextlib.suppress(ClusterError):
        _ip("netns", "delete", namespace(node))


def namespaces() -> list[str]:
    """Return the names of all namespaces of ours."""
    return sorted(handle.name for handle in HANDLES.glob(f"{PREFIX}*")) if HANDLES.is_dir() else []


def members() -> set[int]:
    """Return the pids of all processes in our namespaces."""
    inodes = set()
    for name in namespaces():
        with contextlib.suppress(OSError):
            inodes.add((HANDLES / name).stat().st_ino)
    pids = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "ns" / "net").stat().st_ino in inodes:
                pids.add(int(folder.name))
    return pids


def routes() -> list[str]:
    """Return this machine's routes that are ours."""
    return run(["ip", "-4", "route", "show", "proto", str(ROUTE_PROTOCOL)]).split("\n")[:-1]


def links() -> list[str]:
    """Return this machine's links that are ours."""
    return [MACHINE_LINK] if Path("/sys/class/net", MACHINE_LINK).exists() else []


def remove() -> None:
    """Remove all of it, whatever is left of it."""
    for route in routes():
        _ip("route", "delete", *route.split()[:2], "proto", str(ROUTE_PROTOCOL))
    for link in links():
        _ip("link", "delete", link)
    for name in namespaces():
        _ip("netns", "delete", name)


class SwitchPort:
    """A host's port on the switch.

    A closed port drops every packet in both directions from one moment to the next, and nobody is told: links stay up,
    connections learn of it by silence alone. It takes a system call, not a program.
    """

    def __init__(self, host: str) -> None:
        self._name = _port(host)
        self._socket = _netlink_socket(SWITCH)

    def is_open(self) -> bool:
        listed = json.loads(run(["ip", "-n", SWITCH, "-json", "-details", "link", "show", "dev", self._name]))
        return bool(listed[0]["linkinfo"]["info_slave_data"]["state"] == "forwarding")

    def set(self, *, is_open: bool) -> None:
        """Open or close the port; done when the kernel has acknowledged it."""
        asked = fcntl.ioctl(self._socket, SIOCGIFINDEX, struct.pack("16si20x", self._name.encode(), 0))
        index = struct.unpack("16si20x", asked)[1]
        state = struct.pack("=HHB3x", 5, IFLA_BRPORT_STATE, FORWARDING if is_open else DISABLED)
        attribute = struct.pack("=HH", 4 + len(state), IFLA_PROTINFO | NLA_F_NESTED) + state
        body = struct.pack("=BxHiII", AF_BRIDGE, 0, index, 0, 0) + attribute
        header = struct.pack("=IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        self._socket.send(header + body)
        (error,) = struct.unpack_from("=i", self._socket.recv(4096), 16)
        if error:
            raise ClusterError(f"the switch refused to set {self._name}: {os.strerror(-error)}")

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()


def _netlink_socket(name: str) -> socket.socket:
    """Return a netlink socket of another namespace, opened by a thread that goes there and ends."""
    opened: list[socket.socket | OSError] = []

    def enter() -> None:
        try:
            with (HANDLES / name).open() as handle:
                if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            opened.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE))
        except OSError as error:
            opened.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(opened[0], OSError):
        raise ClusterError(f"the network {name} cannot be entered ({opened[0]}): is the cluster up?")
    return opened[0]


def _port(host: str) -> str:
    return f"port-{host}"[:15]  # the kernel's limit for the name of a link


def _make_namespace(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _make_host(name: str, host: str, address: ipaddress.IPv4Address) -> None:
    _make_namespace(name)
    _plug(host, "eth0", name)
    _ip("-n", name, "address", "add", f"{address}/{HOSTS.prefixlen}", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _set(name, "ip_forward", 1)


def _set(name: str, setting: str, value: int) -> None:
    """Change a setting of a namespace's IPv4."""
    run(["nsenter", f"--net={HANDLES / name}", "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{setting}"])


def _plug(host: str, link: str, target: str) -> None:
    """Lay a cable from the switch to `link` in the target, a namespace's name or the pid of a process in it."""
    port = _port(host)
    _ip("-n", SWITCH, "link", "add", port, "type", "veth", "peer", "name", link, "netns", target)
    _ip("-n", SWITCH, "link", "set", port, "master", "bridge")
    _ip("-n", SWITCH, "link", "set", port, "up")


def _ip(*words: str) -> None:
    run(["ip", *words])
