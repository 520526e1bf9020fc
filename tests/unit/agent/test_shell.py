"""The agent's surroundings: the socket to the trainer, the probes, the process itself with no API server to be had."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from understudy import protocol
from understudy.agent.link import TrainerLink
from understudy.agent.probes import ReadyFile, serve_probes
from understudy_contract.names import READY_COMMAND, READY_FILE, RUN_DIR, Env

from tests.unit.agent.driver import ref


class Ends:
    """Both ends of a link."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        listener.setblocking(False)
        self.heard: list[protocol.FromTrainer] = []
        self.trouble: list[str] = []
        self.lost = self.refused = 0
        self.ended = asyncio.Event()
        self.link = TrainerLink(
            asyncio.get_running_loop(),
            listener,
            self.heard.append,
            self.trouble.append,
            on_lost=self.lose,
            on_second=self.refuse,
        )
        self.trainers: list[socket.socket] = []

    def lose(self, pid: int) -> None:
        self.lost += 1
        self.lost_pid = pid
        self.ended.set()

    def refuse(self) -> None:
        self.refused += 1

    def connect(self) -> socket.socket:
        trainer = socket.socket(socket.AF_UNIX)
        trainer.settimeout(60)  # a hang becomes a failure
        trainer.connect(self.path)
        self.trainers.append(trainer)
        return trainer

    def close(self) -> None:
        self.link.close()
        for trainer in self.trainers:
            trainer.close()


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    ends = Ends(tmp_path / "s")
    yield ends
    ends.close()


async def test_what_a_trainer_wrote_before_it_died_is_heard(ends: Ends) -> None:
    trainer = ends.connect()
    messages = [protocol.Hello("1"), protocol.Committed(ref(5)), protocol.HandedOver(ref(7))]
    trainer.sendall(b"".join(protocol.encode(message) for message in messages))
    trainer.close()
    ends.link.drain()
    assert ends.heard == messages


async def test_a_message_may_come_in_pieces_and_a_bad_one_is_passed_over(ends: Ends) -> None:
    trainer = ends.connect()
    line = protocol.encode(protocol.Hello("1"))
    for piece in (line[:3], line[3:], b"nonsense\n", b'{"type":"Unknown"}\n', line):
        trainer.sendall(piece)
        ends.link.drain()
    assert ends.heard == [protocol.Hello("1")] * 2
    assert len(ends.trouble) == 2


async def test_a_second_process_is_refused_while_the_first_lives(ends: Ends) -> None:
    first, second = ends.connect(), ends.connect()
    ends.link.drain()
    assert second.recv(1) == b"" and (ends.refused, ends.lost) == (1, 0)
    first.sendall(protocol.encode(protocol.Failed("why")))
    first.close()
    third = ends.connect()
    third.sendall(protocol.encode(protocol.Hello("3")))
    ends.link.drain()
    assert ends.heard == [protocol.Failed("why"), protocol.Hello("3")], "its last words, then its successor"
    assert (ends.refused, ends.lost) == (1, 1)


FORKS: Final = """
import os, signal, socket, sys
from understudy import protocol
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall(protocol.encode(protocol.Hello("1")))
if (child := os.fork()) == 0:
    signal.pause()
print(child, flush=True)
signal.pause()
"""
"""A trainer with a worker of its data loader, which inherits the connection and outlives it."""


async def test_the_end_of_a_process_is_noticed_although_its_children_hold_the_connection(ends: Ends) -> None:
    trainer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FORKS, ends.path), stdout=asyncio.subprocess.PIPE
    )
    assert trainer.stdout is not None
    child = int(await trainer.stdout.readline())
    try:
        trainer.kill()
        async with asyncio.timeout(60):
            await ends.ended.wait()
        assert ends.lost_pid == trainer.pid
        os.kill(child, 0)  # it lives
        successor = ends.connect()
        successor.sendall(protocol.encode(protocol.Hello("2")))
        ends.link.drain()
        assert ends.heard == [protocol.Hello("1"), protocol.Hello("2")]
        assert (ends.lost, ends.refused) == (1, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        await trainer.stdout.read()  # to its end: then the loop closes the pipe
        await trainer.wait()


async def test_a_process_that_has_closed_its_connection_and_lives_keeps_others_out(ends: Ends) -> None:
    """It may still write checkpoints, in the term of this very pod."""
    silent = FORKS.replace("if (child", "link.close()\nif (child")
    trainer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", silent, ends.path), stdout=asyncio.subprocess.PIPE
    )
    assert trainer.stdout is not None
    child = int(await trainer.stdout.readline())
    try:
        async with asyncio.timeout(60):
            await ends.ended.wait()
        early = ends.connect()
        ends.link.drain()
        assert early.recv(1) == b"" and (ends.lost, ends.refused) == (1, 1)
        trainer.kill()
        with suppress(ChildProcessError):  # the loop has collected it already
            await asyncio.to_thread(os.waitid, os.P_PID, trainer.pid, os.WEXITED | os.WNOWAIT)
        ends.connect().sendall(protocol.encode(protocol.Hello("2")))
        ends.link.drain()
        assert ends.heard == [protocol.Hello("1"), protocol.Hello("2")]
        assert (ends.lost, ends.refused) == (1, 1)
    finally:
        os.kill(child, signal.SIGKILL)
        await trainer.stdout.read()  # to its end: then the loop closes the pipe
        await trainer.wait()


async def test_a_line_without_an_end_is_not_buffered_for_ever(ends: Ends) -> None:
    trainer = ends.connect()
    for _ in range(2 * protocol.LINE_MAX_BYTES // 65536):
        try:
            trainer.sendall(b"x" * 65536)
        except BrokenPipeError:
            break
        ends.link.drain()
    assert "a line of more than" in ends.trouble[0]


async def test_messages_to_a_trainer_that_does_not_read_are_kept_in_order(ends: Ends) -> None:
    trainer = ends.connect()
    ends.link.drain()
    for term in range(20_000):
        ends.link.send(protocol.Supersede(term))
    reader, writer = await asyncio.open_unix_connection(sock=trainer)
    for term in range(20_000):
        assert protocol.decode_from_agent(await reader.readline()) == protocol.Supersede(term)
    writer.close()


async def test_probes_tell_alive_from_ready() -> None:
    ready = False
    server = await serve_probes("127.0.0.1", 0, lambda: ready)
    port = server.sockets[0].getsockname()[1]

    async def status(target: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.split(b" ")[1]

    assert [await status(target) for target in ("/healthz", "/readyz", "/x")] == [b"200", b"503", b"404"]
    ready = True
    assert await status("/readyz?verbose") == b"200"
    server.close()


def ready(folder: Path) -> bool:
    """Ask as the kubelet does: by the command, where the run folder is another one."""
    command = [part.replace(RUN_DIR, str(folder)) for part in READY_COMMAND]
    return subprocess.run(command, check=False).returncode == 0


def test_the_kubelets_command_tells_a_ready_pod_from_one_that_is_not(tmp_path: Path) -> None:
    trouble: list[str] = []
    (tmp_path / READY_FILE).touch()  # a container that is started anew finds what the one before has left
    file = ReadyFile(tmp_path / READY_FILE, trouble.append)
    seen = [ready(tmp_path)]
    for state in (True, True, False, True):
        file.show(state)
        seen.append(ready(tmp_path))
    assert seen == [False, True, True, False, True]
    assert trouble == []


def test_a_ready_file_that_cannot_be_made_is_told_once_and_tried_again(tmp_path: Path) -> None:
    trouble: list[str] = []
    folder = tmp_path / "run"
    file = ReadyFile(folder / READY_FILE, trouble.append)
    file.show(True)
    file.show(True)
    assert len(trouble) == 1 and str(folder / READY_FILE) in trouble[0]
    folder.mkdir()
    file.show(True)
    assert ready(folder)


def test_a_trainer_is_started_with_the_threads_that_the_cgroup_grants(tmp_path: Path) -> None:
    """In a process of its own: a launch holds signals back."""
    code = """
import os, sys
from understudy.agent import launch
from understudy.agent.settings import read_settings
launch.cpu_quota_m = lambda: 1500
found = launch.launch(read_settings(os.environ, ["sh", "-c", "echo $OMP_NUM_THREADS"]), os.environ)
os.waitpid(found.pid, 0)
"""
    needed = {Env.JOB: "j", Env.NAMESPACE: "n", Env.POD_NAME: "j-0-0", Env.RANK: "0", Env.HAND_OVER_S: "20"}
    environ = {"PATH": os.environ["PATH"], **needed, Env.RUN_DIR: str(tmp_path / "run")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


async def test_without_an_api_server_the_trainer_runs_and_sigterm_is_never_lost(tmp_path: Path) -> None:
    """The signal comes while the agent still imports: it started the trainer first."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{current-context: x, contexts: [{name: x, context: {cluster: c}}],"
        " clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]}"
    )
    environ = {
        **{name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"},
        "KUBECONFIG": str(config),
        Env.JOB: "job",
        Env.NAMESPACE: "n",
        Env.POD_NAME: "job-0-0",
        Env.RANK: "0",
        Env.HAND_OVER_S: "20",
        Env.RUN_DIR: str(tmp_path / "run"),
    }
    code = "import os, signal; print(os.environ['UNDERSTUDY_SOCKET'], flush=True); signal.pause()"
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "understudy.agent", "--", sys.executable, "-c", code),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
    )
    assert agent.stdout is not None
    assert (await agent.stdout.readline()).decode().strip() == str(tmp_path / "run/agent.sock")
    agent.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await agent.wait() == 0
        assert await agent.stdout.read() == b""
