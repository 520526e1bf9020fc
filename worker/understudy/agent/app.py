"""Runs the state machine: feeds it what happens, does what it says. No decision is made here.

Every event is acted on in the turn of the loop that brings it; nothing is polled. Trusts the loop's monotonic clock;
the wall clock stamps renewals and the log.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

from understudy_contract.lease import micro_time
from understudy_contract.names import AGENT_PORT, READY_FILE
from understudy_contract.text import clean
from understudy_kube.client import Api, Credentials

from understudy import protocol
from understudy.agent import model
from understudy.agent.launch import Launched, release_signals
from understudy.agent.leases import Leases
from understudy.agent.link import TrainerLink
from understudy.agent.machine import Machine
from understudy.agent.probes import ReadyFile, serve_probes
from understudy.agent.settings import Settings

_TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Made by the kubelet; its content becomes the container's termination message."""
_LINE_MAX_BYTES: Final = 4096
"""Of a line of the log, and of the termination message, which the kubelet cuts there."""
_NOT_STARTED: Final = 127
"""As a shell says that a command was not found."""
_PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def log(text: str) -> None:
    """Say something to people, apart from the trainer's own output: one line, whatever the trainer put into it."""
    sys.stderr.write(f"understudy: {micro_time(datetime.now(UTC))} {clean(text, _LINE_MAX_BYTES)}\n")
    sys.stderr.flush()


class Agent:
    """One machine and its surroundings."""

    def __init__(self, settings: Settings, launched: Launched) -> None:
        self._settings = settings
        self._pid = launched.pid
        self._failure = launched.failure
        self._listener = launched.listener
        self._counters = launched.counters
        self._memory = launched.memory
        self._machine = Machine(
            model.Config(
                pod=settings.pod,
                rank=settings.rank,
                rank_lease=settings.rank_lease,
                slot_lease=settings.slot_lease,
                hand_over_s=settings.hand_over_s,
                progress_s=settings.progress_s,
                startup_s=settings.startup_s,
                max_failures=settings.max_failures,
                grace_s=settings.grace_s,
                end_s=settings.end_s,
                script=settings.script,
            )
        )
        self._ready_file = ReadyFile(settings.run_dir / READY_FILE, log)
        self._events: deque[model.Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, credentials: Credentials, *, host: str | None = None, port: int = AGENT_PORT) -> int:
        """Live until the machine says Exit; give the exit code."""
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[model.Exit] = self._loop.create_future()
        async with Api(credentials, user_agent="understudy-agent") as api:
            self._leases = Leases(api, self._settings.namespace, self._settings.rank_lease, self.feed)
            self._link = TrainerLink(
                self._loop,
                self._listener,
                self.feed,
                log,
                on_lost=lambda pid: self.feed(model.TrainerLost(pid != self._pid, self._memory.new_shortage())),
                on_second=lambda: self.feed(model.SecondTrainer()),
            )
            self._feed_start()
            self._handle_signals()
            probes = await self._serve_probes(host, port) if self._settings.serves_probes else None
            last = await self._exit
            self._ready_file.show(False)
            if self._timer is not None:
                self._timer.cancel()
            if probes is not None:
                probes.close()
            self._link.close()
            await self._leases.close()
        self._signal(signal.SIGKILL)  # what is left of its group, where we are not PID 1
        if last.message and _TERMINATION_LOG.is_file():
            try:
                _TERMINATION_LOG.write_text(clean(last.message, _LINE_MAX_BYTES))
            except OSError as error:
                log(f"{_TERMINATION_LOG} cannot be written: {error}")
        return last.code

    def feed(self, event: model.Event) -> None:
        """Give the machine an event, after those that wait."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                now = self._loop.time()
                self._act(self._machine.handle(now, self._counters.read(), self._events.popleft()))
        finally:
            self._feeding = False
        self._settle()

    def _feed_start(self) -> None:
        self._act(self._machine.start(self._loop.time()))
        if self._failure:
            self._events.append(protocol.Failed(self._failure))
            self.feed(model.TrainerExited(_NOT_STARTED))
        self._settle()

    def _settle(self) -> None:
        """Arm the one timer, watch as the role demands, and show whether the pod is ready."""
        self._ready_file.show(self._machine.is_ready)
        self._leases.watch(self._machine.wants_watch)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._machine.wake_at()
        if wake_at < float("inf") and not self._machine.exited:
            self._timer = self._loop.call_at(wake_at, self.feed, model.Tick())

    def _act(self, actions: tuple[model.Action, ...]) -> None:
        for action in actions:
            match action:
                case model.Send(message):
                    self._link.send(message)
                case model.Renew():
                    self._leases.renew(action)
                case model.GetLease(lease):
                    self._leases.get(lease)
                case model.RestartWatch():
                    self._leases.watch(True, anew=True)
                case model.SignalTrainer(number):
                    self._signal(number)
                case model.Log(text):
                    log(text)
                case model.Exit():
                    self._exit.set_result(action)
                case _:
                    assert_never(action)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):  # it is gone; SIGCHLD says so
                os.killpg(self._pid, number)

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.feed, model.Terminated())
        for number in _PASSED_ON:
            self._loop.add_signal_handler(number, self._signal, number)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        release_signals()

    def _reap(self) -> None:
        """Collect every child that ended: PID 1 inherits orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._link.drain()
                code = os.waitstatus_to_exitcode(status)
                self.feed(model.TrainerExited(code if code >= 0 else 128 - code, self._memory.new_shortage()))

    async def _serve_probes(self, host: str | None, port: int) -> asyncio.Server | None:
        try:
            return await serve_probes(host, port, lambda: self._machine.is_ready)
        except OSError as error:
            log(f"port {port} cannot be served, so this pod will never be Ready; training goes on: {error}")
            return None
