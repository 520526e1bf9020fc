"""The trainer's end of the agent's socket: a thread that reads, and `send` for any thread.

Roles and checkpoints to follow go into `inbox`, in order; the two orders that interrupt training, HandOver and
Supersede, are also flags in `Orders`, which a training loop reads at the cost of an attribute. `send` never raises: a
dead agent takes the whole container with it, and the volume says what was reached. Trusts no clock.
"""

import contextlib
import queue
import socket
import threading
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from understudy.errors import NotStarted
from understudy.protocol import (
    LINE_MAX_BYTES,
    FromAgent,
    FromTrainer,
    HandOver,
    Supersede,
    decode_from_agent,
    encode,
)
from understudy.trainer.exits import terminate_script


class Orders:
    """What must stop the training loop; written by other threads, read by the loop between steps."""

    __slots__ = ("_lock", "finished", "hand_over", "signalled", "superseded_by")

    def __init__(self) -> None:
        self.hand_over = False
        self.superseded_by: int | None = None
        self.signalled = False
        """The agent has sent SIGTERM, too."""
        self.finished = False
        """The training is complete: who is to end is the script, which no loop tells any more."""
        self._lock = threading.Lock()

    @property
    def pending(self) -> bool:
        """Say whether the loop has to stop."""
        return self.hand_over or self.superseded_by is not None

    def finish(self) -> bool:
        """Note that the training is complete; say whether the script is to end already."""
        with self._lock:
            self.finished = True
            return self.hand_over and not self.signalled

    def ask_to_hand_over(self, *, signalled: bool = False) -> bool:
        """Note that the pod ends; say whether the script is to be told so here, since no loop obeys any more."""
        with self._lock:
            self.hand_over, self.signalled = True, signalled
            return self.finished and not signalled


class Closed:
    """In the inbox: the agent is gone."""


CLOSED: Final = Closed()


class Link:
    """One connection to the agent."""

    _connected: ClassVar[set[Path]] = set()
    """Sockets of this process: an agent takes one connection."""

    def __init__(self, path: Path, orders: Orders) -> None:
        """Connect and start reading; raises OSError when no agent listens at `path`, NotStarted at a second call."""
        if path in Link._connected:
            raise NotStarted(
                "this script has begun a training already, and a job is one training: make it one call, or the second "
                "training another TrainingJob"
            )
        self.inbox: queue.SimpleQueue[FromAgent | Closed] = queue.SimpleQueue()
        self._orders = orders
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._path = path
        Link._connected.add(path)
        self._reader = threading.Thread(target=self._read, name="understudy-link", daemon=True)
        self._reader.start()

    def send(self, message: FromTrainer) -> bool:
        """Send at once; False when the agent is gone."""
        try:
            with self._lock:
                self._socket.sendall(encode(message))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the connection and the thread."""
        with contextlib.suppress(OSError):  # the agent closed it first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()
        Link._connected.discard(self._path)

    def _read(self) -> None:
        rest = b""
        while len(rest) <= LINE_MAX_BYTES:
            try:
                chunk = self._socket.recv(65536)
            except OSError:
                break
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
        self.inbox.put(CLOSED)

    def _take(self, line: bytes) -> None:
        try:
            message = decode_from_agent(line)
        except msgspec.MsgspecError:
            return  # an order that a later agent knows: nothing that this trainer could do
        match message:
            case HandOver(signalled=signalled):
                if self._orders.ask_to_hand_over(signalled=signalled):
                    terminate_script()
            case Supersede(term=term):
                self._orders.superseded_by = term
        self.inbox.put(message)
