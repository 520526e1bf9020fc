"""The agent's end of the socket to the trainer.

Guarantees order in each direction, and that `drain` gives every message that the trainer wrote before it died: a
HandedOver must not be lost to the exit that follows it. One connection at a time, and one process: a second one is
refused while the first lives. `on_lost` is called once for each connection that has ended, after its last message,
with the id of the process that had connected.

The end of a process is known from the kernel (a pidfd), not from the end of its connection alone: children that it
forked, such as the workers of a data loader, hold the connection open after its death; and a process that has closed
its connection may still write checkpoints, so that no other may begin beside it. Where the kernel does not tell, the
end of the connection has to do.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from understudy import protocol

_CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid and gid, as SO_PEERCRED gives them (socket(7), unix(7))."""


class TrainerLink:
    """Reads when the loop says so; writes at once, or as soon as the socket takes it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        on_message: Callable[[protocol.FromTrainer], None],
        on_trouble: Callable[[str], None],
        *,
        on_lost: Callable[[int], None] = lambda pid: None,
        on_second: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._on_message = on_message
        self._on_trouble = on_trouble
        self._on_lost = on_lost
        self._on_second = on_second
        self._peer: socket.socket | None = None
        self._pid = 0
        self._process: int | None = None
        """A pidfd of the process that connected last; None once it has ended."""
        self._received = b""
        self._to_send = b""
        loop.add_reader(listener, self._accept)

    def send(self, message: protocol.FromAgent) -> None:
        """Say something to the trainer; lost if it is not connected."""
        self._to_send += protocol.encode(message)
        self._flush()

    def drain(self) -> None:
        """Take in all that has been written to us."""
        self._accept()
        while self._peer is not None and self._read():
            pass

    def close(self) -> None:
        """Stop listening; for good."""
        self._hang_up()
        self._forget_process()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            self._look_at_peer()
            pid = _pid_of(peer)
            if self._peer is not None or (self._process is not None and pid != self._pid):
                peer.close()
                self._on_second()
                continue
            peer.setblocking(False)
            self._peer, self._received, self._to_send = peer, b"", b""
            self._loop.add_reader(peer, self._read)
            self._forget_process()
            self._pid = pid
            with suppress(OSError):  # it has ended, or the kernel does not tell
                self._process = os.pidfd_open(self._pid)
            if self._process is not None:
                self._loop.add_reader(self._process, self._look_at_peer)

    def _look_at_peer(self) -> None:
        """Take in what the trainer has said, and notice its end, which may be told later than the next connection."""
        while self._peer is not None and self._read():
            pass
        if self._process is not None and select.select([self._process], [], [], 0)[0]:
            self._forget_process()
            if self._peer is not None:
                self._lose()

    def _read(self) -> bool:
        """Take in what is there; say whether more may be."""
        assert self._peer is not None
        try:
            data = self._peer.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._lose()
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            try:
                message = protocol.decode_from_trainer(line)
            except msgspec.MsgspecError as error:
                self._on_trouble(f"a message of the trainer is unreadable ({error}): {line[:200]!r}")
                continue
            self._on_message(message)
        if len(self._received) > protocol.LINE_MAX_BYTES:
            self._on_trouble(
                f"the trainer wrote a line of more than {protocol.LINE_MAX_BYTES} bytes: connection closed"
            )
            self._lose()
        return self._peer is not None

    def _flush(self) -> None:
        if self._peer is None:
            self._to_send = b""
            return
        try:
            self._to_send = self._to_send[self._peer.send(self._to_send) :]
        except BlockingIOError:
            pass
        except OSError:
            self._to_send = b""  # it is gone; its exit will be reported
        if self._to_send:
            self._loop.add_writer(self._peer, self._flush)
        else:
            self._loop.remove_writer(self._peer)

    def _lose(self) -> None:
        self._hang_up()
        self._on_lost(self._pid)

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._loop.remove_reader(self._peer)
            self._loop.remove_writer(self._peer)
            self._peer.close()
            self._peer = None

    def _forget_process(self) -> None:
        if self._process is not None:
            self._loop.remove_reader(self._process)
            os.close(self._process)
            self._process = None


def _pid_of(peer: socket.socket) -> int:
    """Give the id of the process that connected; 0 if the kernel does not tell, or it is not one of this container."""
    with suppress(OSError):
        pid, _, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return int(pid)
    return 0
