"""What is asked of a cluster's API server through kubectl, for clusters whose API server is not reached directly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from localcluster.shell import ClusterError, run

REQUEST_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with a kubeconfig of this project's: the user's own context is neither used nor changed."""

    program: Path
    kubeconfig: Path

    def __call__(self, *words: str, stdin: str | None = None, timeout_s: float | None = None) -> str:
        """Run a command and return what it printed."""
        return run([self.program, f"--kubeconfig={self.kubeconfig}", *words], stdin=stdin, timeout_s=timeout_s)

    def get(self, *words: str) -> dict[str, Any]:
        """Return an object, or a list of objects."""
        found: dict[str, Any] = json.loads(self(f"--request-timeout={REQUEST_TIMEOUT_S}s", "get", *words, "-o", "json"))
        return found

    def is_serving(self) -> bool:
        """Tell whether the API server is ready."""
        try:
            return self(f"--request-timeout={REQUEST_TIMEOUT_S}s", "get", "--raw=/readyz").strip() == "ok"
        except ClusterError:
            return False

    def is_ready(self, node: str, *, since: datetime) -> bool:
        """Tell whether a kubelet that started after `since` renews the node's Lease and reports it Ready."""
        try:
            lease = self.get("lease", node, "--namespace=kube-node-lease")
            conditions = self.get("node", node)["status"]["conditions"]
            renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        except (ClusterError, KeyError, ValueError):
            return False
        ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
        if ready is None or ready["status"] != "True" or renewed <= since:
            return False
        reported = datetime.fromisoformat(ready["lastHeartbeatTime"])  # whole seconds
        return reported >= since.replace(microsecond=0)
