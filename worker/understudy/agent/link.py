"""The agent's end of the socket to the trainer.

Guarantees order in each direction, and that `drain` gives every message that the trainer wrote before it died: a
HandedOver must not be lost to the exit that follows it. One connection at a time; a second one is refused while the
first lives.
"""

import asyncio
import socket
from collections.abc import Callable

import msgspec

from understudy import protocol


class Link:
    """Reads when the loop says so; writes at once, or as soon as the socket takes it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        on_message: Callable[[protocol.FromTrainer], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._on_message = on_message
        self._on_trouble = on_trouble
        self._peer: socket.socket | None = None
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
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            if self._peer is not None:
                peer.close()
                self._on_trouble("a second connection of the trainer was refused: one process may use understudy")
                continue
            peer.setblocking(False)
            self._peer, self._received, self._to_send = peer, b"", b""
            self._loop.add_reader(peer, self._read)

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
            self._hang_up()
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
            self._hang_up()
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

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._loop.remove_reader(self._peer)
            self._loop.remove_writer(self._peer)
            self._peer.close()
            self._peer = None
