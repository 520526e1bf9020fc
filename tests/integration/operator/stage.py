"""One test's namespace: TrainingJobs in it, and the parts of kubelet, volume binder and worker, played by the test.

Everything that is played goes through the real API server, with the rights that the played one has; waits are on
watches.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from understudy_contract import names
from understudy_contract.exits import ExitCode, ReleaseReason
from understudy_contract.lease import LeaseRecord, decode_lease, micro_time, renewal_patch
from understudy_contract.reports import CheckpointRef, FirstStep, Heartbeat, Phase, Release
from understudy_kube import shallow
from understudy_kube.client import Api, NotFound

Json = dict[str, Any]

WAIT_S = 60.0
"""Generous: a wait that succeeds takes milliseconds, whatever else the machine does."""

TRAINER: Json = {"name": "trainer", "image": "any:1", "command": ["python", "train.py"]}
JOBS = f"/apis/{names.API_VERSION}/namespaces/{{}}/{names.PLURAL}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
CORE = "/api/v1/namespaces/{}/{}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A namespace."""

    api: Api
    namespace: str

    def path(self, kind: str) -> str:
        """Give the collection of a kind: `leases`, `trainingjobs`, or a plural of the core group."""
        if kind == names.PLURAL:
            return JOBS.format(self.namespace)
        if kind == "leases":
            return LEASES.format(self.namespace)
        if kind in ("roles", "rolebindings"):
            return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/{kind}"
        if kind == "poddisruptionbudgets":
            return f"/apis/policy/v1/namespaces/{self.namespace}/{kind}"
        return CORE.format(self.namespace, kind)

    async def create_job(self, name: str, **spec: Any) -> Json:
        """Create a TrainingJob."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"containers": [TRAINER]}}, **spec},
        }
        return await self.create(names.PLURAL, body)

    async def create(self, kind: str, body: Mapping[str, Any]) -> Json:
        return decoded(await self.api.post(self.path(kind), json.dumps(body).encode()))

    async def get(self, kind: str, name: str) -> Json:
        return decoded(await self.api.get(f"{self.path(kind)}/{name}"))

    async def list(self, kind: str) -> list[Json]:
        items: list[Json] = decoded(await self.api.get(self.path(kind)))["items"]
        return items

    async def patch(self, kind: str, name: str, patch: Mapping[str, Any], *, status: bool = False) -> Json:
        """Merge-patch an object, or its status."""
        path = f"{self.path(kind)}/{name}{'/status' if status else ''}"
        return decoded(await self.api.merge_patch(path, json.dumps(patch).encode()))

    async def delete(self, kind: str, name: str, **options: Any) -> None:
        body = json.dumps({"apiVersion": "v1", "kind": "DeleteOptions", **options}).encode()
        await self.api.delete(f"{self.path(kind)}/{name}", body=body)

    async def lease(self, name: str) -> LeaseRecord:
        return decode_lease(await self.api.get(f"{self.path('leases')}/{name}"))

    async def until(self, kind: str, name: str | None, holds: Callable[[Json], bool], what: str) -> Json:
        """Wait until an object, or any of its kind, is there and satisfies `holds`; fails with its last state."""
        last: Json | None = None

        def matching(event: Json) -> bool:
            nonlocal last
            last = event["object"]
            return event["type"] != "DELETED" and holds(event["object"])

        return (await self._watch(kind, name, matching, what, lambda: last))["object"]

    async def rights(self, job: str, account: str = "") -> None:
        """Wait until an account, by default the one made for the job, has been given rights to the job's Leases."""
        own = f"{job}-worker"

        def binds(binding: Json) -> bool:
            named = binding["metadata"]["name"].startswith(f"{own}-")
            return bool(named and binding["subjects"][0]["name"] == (account or own))

        await self.until("rolebindings", None, binds, f"a binding of {account or own}")

    async def gone(self, kind: str, name: str) -> None:
        """Wait until an object is no more."""
        try:
            found = await self.get(kind, name)
        except NotFound:
            return
        uid = found["metadata"]["uid"]
        await self._watch(
            kind,
            name,
            lambda e: e["type"] == "DELETED" and e["object"]["metadata"]["uid"] == uid,
            f"{name} to be deleted",
            lambda: found,
        )

    async def lease_until(self, name: str, holds: Callable[[LeaseRecord], bool], what: str) -> LeaseRecord:
        """Wait until a Lease satisfies `holds`."""
        found = await self.until("leases", name, lambda body: holds(record_of(body)), what)
        return record_of(found)

    async def _watch(
        self, kind: str, name: str | None, matching: Callable[[Json], bool], what: str, last: Callable[[], Json | None]
    ) -> Json:
        try:
            async with asyncio.timeout(WAIT_S), aclosing(self._events(kind, name)) as events:
                async for event in events:
                    if matching(event):
                        return event
        except TimeoutError:
            pass
        raise AssertionError(f"waited {WAIT_S:.0f} s in vain for {what}; last seen: {json.dumps(last(), indent=1)}")

    async def _events(self, kind: str, name: str | None) -> AsyncIterator[Json]:
        params = {"fieldSelector": f"metadata.name={name}"} if name is not None else {}
        lines = self.api.watch(self.path(kind), params=params, timeout_s=WAIT_S + 10, silence_s=WAIT_S + 10)
        async with aclosing(lines):
            async for line in lines:
                yield decoded(line)

    # What a volume binder and a kubelet say

    async def bind(self, claim: str, *modes: str) -> None:
        """Bind a claim to a volume of these access modes."""
        await self.until("persistentvolumeclaims", claim, lambda _: True, f"claim {claim}")
        status = {"phase": "Bound", "accessModes": list(modes), "capacity": {"storage": "1Gi"}}
        await self.patch("persistentvolumeclaims", claim, {"status": status}, status=True)

    async def run_pod(self, name: str, node: str = "node-a") -> Json:
        """Schedule a pod and report its container running and ready."""
        await self.until("pods", name, lambda _: True, f"pod {name}")
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        binding["target"] = {"apiVersion": "v1", "kind": "Node", "name": node}
        await self.api.post(f"{self.path('pods')}/{name}/binding", json.dumps(binding).encode())
        state = {"running": {"startedAt": now()}}
        return await self.patch("pods", name, {"status": pod_status("Running", state)}, status=True)

    async def end_pod(
        self, name: str, code: int, message: str = "", *, verdict: Mapping[str, str] | None = None
    ) -> Json:
        """Report a pod's container as terminated; `verdict`: the kubelet's `reason` and `message` of the pod."""
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}
        state = {"terminated": {**ended, "startedAt": now(), "finishedAt": now()}}
        status = pod_status("Succeeded" if code == 0 and not verdict else "Failed", state) | dict(verdict or {})
        return await self.patch("pods", name, {"status": status}, status=True)


@dataclass(slots=True)
class Worker:
    """A worker's voice: renews a Lease as its agent does, with the rights of `api`."""

    stage: Stage
    api: Api
    pod: str
    lease: str
    term: int

    async def renew(self, phase: Phase, *, release: Release | None = None, **beat: Any) -> LeaseRecord:
        """Renew once; raises ApiError as the API server refuses."""
        said = Heartbeat(pod=self.pod, term=self.term, phase=phase, volume="v", **beat)
        body = renewal_patch(said, datetime.now(UTC), release=release)
        return record_of(decoded(await self.api.json_patch(f"{self.stage.path('leases')}/{self.lease}", body)))

    async def train(self, step: int, checkpoint_step: int) -> LeaseRecord:
        """Report progress as a primary."""
        floor = CheckpointRef(self.term, checkpoint_step, "d" * 64)
        first = FirstStep(checkpoint_step + 1, now_micro())
        return await self.renew(Phase.TRAINING, step=step, checkpoint=floor, first_step=first)

    async def stand_by(self, checkpoint_step: int, term: int = 1) -> LeaseRecord:
        """Report a loaded checkpoint as a redundant pod."""
        return await self.renew(Phase.READY, loaded=CheckpointRef(term, checkpoint_step, "d" * 64))

    async def hand_over(self, step: int) -> LeaseRecord:
        """Release after the last step."""
        release = Release(names.Term(self.term), ReleaseReason.HANDED_OVER, ExitCode.HANDED_OVER, f"saved step {step}")
        floor = CheckpointRef(self.term, step, "e" * 64)
        return await self.renew(Phase.TRAINING, step=step, checkpoint=floor, release=release)

    async def complete(self, step: int) -> LeaseRecord:
        """Release because the training is complete."""
        release = Release(names.Term(self.term), ReleaseReason.COMPLETED, 0, "training is complete")
        floor = CheckpointRef(self.term, step, "f" * 64)
        return await self.renew(Phase.FINISHING, step=step, checkpoint=floor, release=release)


def pod_status(phase: str, state: Json) -> Json:
    """A pod's status with one container, the trainer."""
    ready = "running" in state
    container = {"name": "trainer", "image": "any:1", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
    return {"phase": phase, "conditions": [condition], "containerStatuses": [container]}


def record_of(body: Json) -> LeaseRecord:
    """Decode a Lease that was read as JSON."""
    return decode_lease(msgspec.json.encode(body))


def decoded(body: bytes) -> Json:
    found: Json = json.loads(shallow.cut(body))
    return found


def now() -> str:
    return now_micro()[:19] + "Z"


def now_micro() -> str:
    return micro_time(datetime.now(UTC))
