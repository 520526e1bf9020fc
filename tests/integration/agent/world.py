"""Agents as processes, and one rank's Leases on the local cluster's API server; the test plays the operator."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from understudy_contract.lease import LeaseRecord, decode_lease
from understudy_contract.names import READY_FILE, Annotation, Env
from understudy_kube.client import Api

TRAINER = Path(__file__).parent / "trainer.py"
COMMAND = (sys.executable, str(TRAINER))
LIMIT_S = 60


def kubeconfig() -> Path:
    """Find the local cluster."""
    configured = os.environ.get("KUBECONFIG")
    path = Path(configured) if configured else Path(__file__).parents[3] / ".cluster/kubeconfig"
    if not path.is_file():
        pytest.fail(f"{path} does not exist: run `make cluster` first")
    return path


class World:
    """One namespace with one rank of one job; this side plays the operator."""

    def __init__(self, api: Api, namespace: str, folder: Path, config: Path) -> None:
        self.api, self.namespace, self.folder, self.config = api, namespace, folder, config
        self.agents: list[Agent] = []

    def _path(self, name: str = "") -> str:
        base = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        return f"{base}/{name}" if name else base

    async def lease(self, name: str, holder: str, term: int = 1, duration_s: int = 3) -> None:
        """Create a Lease as the operator does."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "annotations": {Annotation.INCARNATION: "1"}},
            "spec": {"holderIdentity": holder, "leaseTransitions": term, "leaseDurationSeconds": duration_s},
        }
        await self.api.post(self._path(), json.dumps(body).encode())

    async def promote(self, name: str, holder: str, term: int) -> None:
        """Pass the Lease on, keeping the floor."""
        record = await self.read(name)
        notes = {Annotation.FLOOR: json.dumps(to_builtins(record.floor))} if record.floor else {}
        body = {
            "metadata": {"resourceVersion": record.resource_version, "annotations": notes},
            "spec": {"holderIdentity": holder, "leaseTransitions": term},
        }
        while True:
            try:
                await self.api.merge_patch(self._path(name), json.dumps(body).encode())
            except Exception as error:
                if getattr(error, "status", 0) != 409:
                    raise
                body["metadata"]["resourceVersion"] = (await self.read(name)).resource_version
            else:
                return

    async def read(self, name: str) -> LeaseRecord:
        return decode_lease(await self.api.get(self._path(name)))

    async def until(self, name: str, condition: Callable[[LeaseRecord], Any]) -> LeaseRecord:
        """Wait for a Lease to fulfil the condition, by a watch."""
        async with asyncio.timeout(LIMIT_S):
            params = {"fieldSelector": f"metadata.name={name}"}
            async for line in self.api.watch(self._path(), params=params, timeout_s=LIMIT_S, silence_s=LIMIT_S):
                record = decode_lease(json.dumps(json.loads(line)["object"]).encode())
                if condition(record):
                    return record
        raise AssertionError(f"the watch of {name} ended")

    async def agent(
        self, pod: str, *mode: str, slot: int | None = None, command: tuple[str, ...] = COMMAND, **env: str
    ) -> "Agent":
        """Start an agent with the test's trainer, or another command."""
        agent = Agent(self, pod, slot, env, (*command, *mode))
        await agent.start()
        self.agents.append(agent)
        return agent


class Agent:
    """One agent's process and what it and its trainer print."""

    def __init__(self, world: World, pod: str, slot: int | None, env: dict[str, str], command: tuple[str, ...]) -> None:
        self.folder = world.folder / pod
        self.orders = self.folder / "orders"
        self._command = command
        self._lines: list[str] = []
        self._grew = asyncio.Condition()
        self._env = {
            **{name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"},
            "KUBECONFIG": str(world.config),
            "ORDERS": str(self.orders),
            Env.JOB: "job",
            Env.JOB_UID: "uid",
            Env.NAMESPACE: world.namespace,
            Env.POD_NAME: pod,
            Env.RANK: "0",
            Env.HAND_OVER_S: "20",
            Env.RUN_DIR: str(self.folder / "run"),
            Env.CPU_LIMIT_M: "1500",
            **({Env.SLOT: str(slot)} if slot is not None else {}),
            **env,
        }

    async def start(self) -> None:
        self.folder.mkdir(parents=True)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "understudy.agent", "--", *self._command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
        )
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._grew:
                self._lines.append(line.decode().rstrip())
                self._grew.notify_all()

    async def prints(self, text: str) -> str:
        """Wait for a line with this text."""

        def found() -> str | None:
            return next((line for line in self._lines if text in line), None)

        try:
            async with asyncio.timeout(LIMIT_S), self._grew:
                return (await self._grew.wait_for(found)) or ""
        except TimeoutError:
            pytest.fail(f"nothing with {text!r} was printed:\n" + self.log)

    async def trainer_pid(self) -> int:
        return int((await self.prints("pid ")).split()[1])

    async def exits(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            code = await self.process.wait()
            await self._reader
            return code

    def order(self, text: str) -> None:
        self.orders.write_text(text)

    @property
    def log(self) -> str:
        return "\n".join(self._lines)

    @property
    def ready(self) -> bool:
        """Whether the kubelet would find the pod ready."""
        return (self.folder / "run" / READY_FILE).exists()

    @property
    def listens(self) -> bool:
        """Whether the agent listens on any port: the kernel lists those of its network, state 0A."""
        fields = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
        ]
        listening = {f"socket:[{row[9]}]" for row in fields if row[3] == "0A"}
        held = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                held.add(str(descriptor.readlink()))
        return not listening.isdisjoint(held)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(await self.trainer_pid(), signal.SIGKILL)
            await self.process.wait()
        await self._reader


def to_builtins(value: Any) -> Any:
    return msgspec.to_builtins(value)
