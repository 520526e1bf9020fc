"""A worker's container: the real agent machine with its real requests, and a real Session in the trainer's place.

What is left out is the shell around them: the Unix socket is a list of messages, signals are calls, and the progress
counters need no file. `Container` mirrors agent/app.py for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from understudy import protocol
from understudy.agent import model
from understudy.agent.leases import Leases
from understudy.agent.machine import Machine
from understudy.agent.settings import read_settings
from understudy.counters import Counters
from understudy.trainer.context import read_context
from understudy.trainer.failures import sentence
from understudy.trainer.link import Orders
from understudy.trainer.session import Session
from understudy_contract.names import Env

from tests.memory_volume import InterruptedFileSystem
from tests.simulation.client import Api
from tests.simulation.lockstep import Clock, Inbox, Program, Thread, quiet_exit
from tests.simulation.network import Network
from tests.simulation.timeline import Process, ViolationError
from tests.simulation.volume import Mount
from tests.simulation.workload import Chain


@dataclass(frozen=True, slots=True)
class Script:
    """What the trainer's script does."""

    steps: int
    save_every: int
    step_s: float
    import_s: float


@dataclass(frozen=True, slots=True)
class Machinery:
    """What a container finds around it."""

    network: Network
    link: Any
    mount: Mount
    rate: float
    wall_error_s: float
    script: Script
    say: Callable[[str, str], None]
    heard: Callable[["Container", protocol.FromTrainer], None]
    failed: Callable[["Container", BaseException], None]
    exited: Callable[["Container"], None]


class TrainerLink:
    """The trainer's end of the socket, as understudy.trainer.link.Link."""

    def __init__(self, container: "Container", orders: Orders) -> None:
        self.inbox = Inbox()
        self._container = container
        self._orders = orders

    def send(self, message: protocol.FromTrainer) -> bool:
        """Say something to the agent."""
        if not self._container.program.dead:
            self._container.agent.post(self._container.feed, message)
            self._container.around.heard(self._container, message)
        return True

    def close(self) -> None:
        """Hang up."""

    def take(self, message: protocol.FromAgent) -> None:
        """Hear the agent."""
        match message:
            case protocol.HandOver():
                self._orders.ask_to_hand_over()
            case protocol.Supersede(term=term):
                self._orders.superseded_by = term
        self.inbox.put(message)


class Container:
    """One container `trainer`."""

    def __init__(self, around: Machinery, name: str, uid: str, environment: dict[str, str]) -> None:
        self.around = around
        self.name, self.uid = name, uid
        self.code: int | None = None
        self.message = ""
        self.link: TrainerLink | None = None
        self.asked_to_end = False
        timeline = around.network.timeline
        self.settings = read_settings(environment, ["--", "train"])
        self.context = read_context({**environment, Env.SOCKET: "simulated"})
        self.counters = Counters(None)
        self.agent = Process(timeline, name, rate=around.rate, wall_error_s=around.wall_error_s)
        self.program = Program(timeline, self.agent, self._thread_ended)
        self.program.belongings = self
        self._call: tuple[str, Path] | None = None
        self.fs = InterruptedFileSystem(around.mount, self._before_call)
        self._machine = Machine(
            model.Config(
                pod=self.settings.pod,
                rank=self.settings.rank,
                rank_lease=self.settings.rank_lease,
                slot_lease=self.settings.slot_lease,
                hand_over_s=self.settings.hand_over_s,
                progress_s=self.settings.progress_s,
                startup_s=self.settings.startup_s,
                max_failures=self.settings.max_failures,
                grace_s=self.settings.grace_s,
                end_s=self.settings.end_s,
                script="train",
            )
        )
        api: Any = Api(around.network, self.agent, around.link)
        self._leases = Leases(api, self.settings.namespace, self.settings.rank_lease, self.feed)
        self._timer: Any = None
        self._events: list[model.Event] = []
        self._feeding = False
        self.agent.post(self._start)
        Thread(self.program, self._train).start()

    @property
    def role(self) -> model.Role:
        """What the agent takes itself for."""
        return self._machine.role

    @property
    def call(self) -> str:
        """The call to the file system that the trainer makes or is about to make."""
        return f"{self._call[0]} {self._call[1].name}" if self._call is not None else "any call"

    # From outside

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.asked_to_end = True
        self.agent.post(self.feed, model.Terminated())

    def kill(self, code: int = 137, message: str = "") -> None:
        """Kill all that runs in it."""
        if self.code is None:
            self.code, self.message = code, message
            self.program.kill()
            self.agent.kill()
            self.around.exited(self)

    def kill_trainer(self, code: int) -> None:
        """Kill the trainer; its agent is told."""
        if not self.program.dead:
            self.program.kill()
            self.agent.post(self.feed, model.TrainerExited(code))

    def pause(self, *, clock_too: bool = False) -> None:
        """Stop it all."""
        self.agent.pause(clock_too=clock_too)
        self.program.pause()

    def resume(self) -> None:
        """Let it go on."""
        self.agent.resume()
        self.program.resume()

    # The agent's shell, as agent/app.py

    def feed(self, event: model.Event) -> None:
        """Give the machine an event, after those that wait."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        while self._events:
            self._act(self._machine.handle(self.agent.time(), self.counters.read(), self._events.pop(0)))
        self._feeding = False
        self._settle()

    def _start(self) -> None:
        self._act(self._machine.start(self.agent.time()))
        self._settle()

    def _settle(self) -> None:
        if self.code is not None:
            return
        self._leases.watch(self._machine.wants_watch)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self._machine.wake_at()
        self._timer = self.agent.call_at(wake_at, self.feed, model.Tick()) if wake_at < float("inf") else None

    def _act(self, actions: tuple[model.Action, ...]) -> None:
        for action in actions:
            match action:
                case model.Send(message):
                    if self.link is not None and not self.program.dead:
                        self.agent.timeline.after(0.0, self.link.take, message)
                case model.Renew():
                    self._leases.renew(action)
                case model.GetLease(lease):
                    self._leases.get(lease)
                case model.RestartWatch():
                    self._leases.watch(True, anew=True)
                case model.SignalTrainer(number):
                    self.kill_trainer(128 + number)
                case model.Log(text):
                    self.around.say(self.name, text)
                case model.Exit(code, message):
                    self.agent.timeline.after(0.0, self.kill, code, message)
                case _:
                    assert_never(action)

    # The trainer

    def connect(self, orders: Orders) -> TrainerLink:
        """Give the trainer its end of the socket."""
        self.link = TrainerLink(self, orders)
        return self.link

    def _before_call(self, call: str, path: Path) -> None:
        self._call = call, path
        self.program.before_call()

    def _train(self) -> None:
        script = self.around.script
        code = 0
        try:
            Clock.sleep(script.import_s)
            chain = Chain(self.context.rank, lambda: Clock.sleep(script.step_s))
            for _ in Session(chain, chain.step).steps(script.steps, save_every=script.save_every, log_every=10):
                pass
        except SystemExit as end:
            code = quiet_exit(end)
        except ViolationError:
            raise
        except Exception as error:  # noqa: BLE001 - as the process's excepthook
            code = 1
            self.around.say(self.name, f"the script fails: {type(error).__name__}: {error}")
            self.around.failed(self, error)
            if self.link is not None:
                self.link.send(protocol.Failed(sentence(error)))
        self._over(code)

    def _thread_ended(self, error: BaseException) -> None:
        if isinstance(error, ViolationError):
            return  # the simulation stops here
        if not isinstance(error, SystemExit):
            self.around.failed(self, error)
        self._over(quiet_exit(error))

    def _over(self, code: int) -> None:
        self.agent.timeline.after(0.0, self.kill_trainer, code)
