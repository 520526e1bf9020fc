"""A node of kind's: a container of docker's, reached by `docker` alone.

Nothing here needs root, a network namespace or /proc of this machine, so it works where docker runs in a virtual
machine (macOS, Windows). Everything that happens inside a node is a shell command by `docker exec`.

Faults. A partition drops every packet on the node's interface, in both directions: what arrives is dropped in
raw/PREROUTING, what leaves in mangle/POSTROUTING, before kube-proxy's and the pods' own rules. `docker exec` does not
use that network and goes on working. A power cut drops packets first, so that no connection is told of the end (a
container that dies would otherwise send resets), and then kills the container. A container that is started again has a
new network namespace, and with it no rule of an earlier partition. All calls may be repeated.

Clocks. "Ready again" compares the renewal of the node's own Lease with the start of its container. Both are times of
the kernel that docker runs on; this machine's clock is not asked. Processes are told apart by pid and start in that
kernel's clock ticks since boot.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import shlex
import signal
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from localcluster import pods
from localcluster.cluster import Node
from localcluster.kubectl import Kubectl
from localcluster.shell import Argv, ClusterError, run, wait_until

INTERFACE = "eth0"  # of every node: kind's own network plugin relies on the name
READY_TIMEOUT_S = 180  # a container with systemd, a container runtime and a kubelet, on a busy laptop
LOOK_INTERVAL_S = 0.5  # between two calls of kubectl
RULES = (("raw", "PREROUTING", "-i"), ("mangle", "POSTROUTING", "-o"))

# Both families: names of nodes resolve to both, and a kubelet that is cut off from one would try the other.
# A node without IPv6 has no rules for it; one without rules for IPv4 is an error.
_HAS_FAMILY = "[ $tables = iptables ] || $tables -w -t raw -S >/dev/null 2>&1 || continue"
_EACH_FAMILY = f"for tables in iptables ip6tables; do {_HAS_FAMILY}; {{}}; done"
_RULES = [f"-t {table} {{}} {chain} {side} {INTERFACE} -j DROP" for table, chain, side in RULES]
CUT = _EACH_FAMILY.format(
    "; ".join(
        f"$tables -w {rule.format('-C')} 2>/dev/null || $tables -w {rule.format('-I')} || exit 1" for rule in _RULES
    )
)
HEAL = _EACH_FAMILY.format(
    "; ".join(f"while $tables -w {rule.format('-D')} 2>/dev/null; do :; done" for rule in _RULES)
)
IS_CUT = f"if iptables -w {_RULES[0].format('-C')} 2>/dev/null; then echo cut; else echo connected; fi"

PROC = "/proc"  # of the node
# A line for each process of a pod: stat, cgroup and command line, in base64 because a command line may hold any byte.
PROCESSES = """grep -lE "$1" "$2"/[0-9]*/cgroup 2>/dev/null | while read -r file; do
  for name in stat cgroup cmdline; do base64 -w 0 "${file%cgroup}$name" 2>/dev/null; printf ' '; done; echo
done"""
# The words after the command's name in /proc/PID/stat: the 20th is the start. A process that has ended gets no signal.
SIGNAL = """number=$1 pid=$2 started=$3
stat=$(cat "/proc/$pid/stat" 2>/dev/null) || exit 0
set -- ${stat##*)}
if [ "${20}" = "$started" ]; then kill -s "$number" "$pid"; fi"""


@dataclass(frozen=True, slots=True)
class KindNode(Node):
    """A worker node that is a container of docker's."""

    name: str
    kubectl: Kubectl

    @property
    def is_running(self) -> bool:
        return self._inspect("{{.State.Running}}") == "true"

    @property
    def is_connected(self) -> bool:
        return self.is_running and self._shell(IS_CUT).strip() == "connected"

    def power_cut(self) -> None:
        try:
            self.partition()
        except ClusterError:
            if self.is_running:
                raise
            raise ClusterError(f"{self.name} has no power that could be cut: start() it first") from None
        run(["docker", "kill", self.name])

    def start(self, *, wait_ready: bool = True) -> None:
        if not self.is_running:
            run(["docker", "start", self.name])
        if wait_ready:
            wait_all_ready(self.kubectl, [self])

    def partition(self) -> None:
        self._shell(CUT)

    def heal(self) -> None:
        self._shell(HEAL)

    def run(self, argv: Argv, *, stdin: str | None = None, timeout_s: float | None = 60) -> str:
        interactive = ["--interactive"] if stdin is not None else []
        return run(["docker", "exec", *interactive, self.name, *argv], stdin=stdin, timeout_s=timeout_s)

    def logs_on_disk(self, pod: str, container: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run(["docker", "cp", f"{self.name}:/var/log/pods/{pod}/{container}", folder])
            except ClusterError:
                return []  # the pod wrote nothing, or its folder is gone already
            return [file.read_text(errors="replace") for file in sorted(Path(folder).rglob("*.log"))]

    def started_at(self) -> datetime:
        """Return when the container was started last."""
        return datetime.fromisoformat(self._inspect("{{.State.StartedAt}}"))

    def mounts(self) -> list[str]:
        """Return where folders of docker's machine are mounted in the node."""
        return self._inspect("{{range .Mounts}}{{println .Destination}}{{end}}").split()

    def processes(self, pod_uid: str, containers: Iterable[str]) -> list[pods.Process]:
        """Return the processes of these containers of a pod, oldest first, with the node's pids.

        A cgroup carries the pod's uid, with underscores where systemd makes the cgroups, and the container's id.
        """
        wanted = set(containers)
        pattern = f"pod({pod_uid}|{pod_uid.replace('-', '_')})"
        found = []
        for line in self._shell(PROCESSES, pattern, PROC).splitlines():
            with contextlib.suppress(ValueError, IndexError, binascii.Error):  # it ended while it was looked at
                words = line.split(" ")[:3]
                stat, cgroup, command = (base64.b64decode(word).decode(errors="replace") for word in words)
                pid, fields = int(stat.split(" ", 1)[0]), stat.rpartition(")")[2].split()
                container = next((known for known in wanted if known in cgroup), None)
                if container is not None and fields[0] not in "ZX":
                    argv = tuple(command.split("\0")[:-1])
                    found.append(pods.Process(pid, argv, container, int(fields[1]), int(fields[19]), self.name))
        return pods.oldest_first(found)

    def signal(self, process: pods.Process, number: signal.Signals) -> None:
        """Send a signal to this very process; does nothing once it has ended."""
        self._shell(SIGNAL, signal_name(number), process.pid, process.started)

    def _inspect(self, template: str) -> str:
        return run(["docker", "inspect", "--format", template, self.name]).strip()

    def _shell(self, script: str, *arguments: object) -> str:
        return self.run(["sh", "-c", script, "sh", *arguments])


def signal_name(number: signal.Signals) -> str:
    """Return a signal's name as `kill` takes it."""
    return number.name.removeprefix("SIG")


def signal_command(process: pods.Process, number: signal.Signals) -> str:
    """Return the command by which a person would send a signal to a process."""
    return shlex.join(["docker", "exec", process.node, "kill", f"-{signal_name(number)}", str(process.pid)])


def wait_all_ready(kubectl: Kubectl, nodes: Sequence[KindNode]) -> None:
    """Return when every one of these nodes is Ready by what its kubelet said after the container's last start.

    The condition Ready alone would not do: for 40 s after a node's end it is what the node last said of itself.
    """
    started = {node.name: node.started_at() for node in nodes}
    left = set(started)

    def ready() -> bool:
        left.intersection_update(name for name in left if not kubectl.is_ready(name, since=started[name]))
        return not left

    wait_until(
        ready,
        timeout_s=READY_TIMEOUT_S,
        interval_s=LOOK_INTERVAL_S,
        what=f"{', '.join(sorted(started))} to be Ready (what a node says: `docker logs NODE`)",
    )
