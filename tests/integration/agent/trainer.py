"""A trainer that speaks the protocol with nothing behind it: no model, no volume. What it hears it prints.

`trainer.py [MODE]`; MODE `mute` never calls understudy, `exit:N` ends at once. A line `finish`, `outlive`, `fail`,
`stay`, `hang` or `boast` in the file $ORDERS makes it complete, complete and live on, fail, fail and live on, ignore
the agent, or say 300 kB in a notice; with `linger` it works on after a hand-over, until the line is another one.
"""

import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from understudy import protocol
from understudy.counters import Counters
from understudy_contract.reports import CheckpointRef

STEP_S = 0.01


def say(text: str) -> None:
    print(text, flush=True)


class Trainer:
    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ["UNDERSTUDY_SOCKET"])
        self.counters = Counters(Path(os.environ["UNDERSTUDY_COUNTERS"]))
        self.orders = Path(os.environ["ORDERS"])
        self.hand_over = threading.Event()
        self.promote: protocol.Promote | None = None
        self.promoted = threading.Event()

    def tell(self, message: protocol.FromTrainer) -> None:
        self.socket.sendall(protocol.encode(message))

    def hear(self) -> None:
        with self.socket.makefile("rb") as lines:
            for line in lines:
                message = protocol.decode_from_agent(line)
                say(f"heard {message}")
                match message:
                    case protocol.Standby():
                        self.tell(protocol.Ready(CheckpointRef(1, 0, "d")))
                    case protocol.Follow(checkpoint):
                        self.tell(protocol.Ready(checkpoint))
                    case protocol.Promote():
                        self.promote = message
                        self.promoted.set()
                    case protocol.HandOver():
                        self.hand_over.set()
                    case protocol.Supersede():
                        os._exit(81)

    def run(self) -> None:
        threading.Thread(target=self.hear, daemon=True).start()
        self.tell(protocol.Hello("test"))
        self.promoted.wait()
        assert self.promote is not None
        term, step = self.promote.term, self.promote.floor.step if self.promote.floor else 0
        first = step + 1
        self.tell(protocol.Started(term, CheckpointRef(term, step, f"s{step}"), "volume-1"))
        while True:
            time.sleep(STEP_S)
            step += 1
            self.counters.step = step
            if step == first:
                self.tell(protocol.FirstStep(term, step, datetime.now(UTC).isoformat(timespec="microseconds")))
                say(f"first step {step} of term {term}")
            if step % 10 == 0:
                self.tell(protocol.Committed(CheckpointRef(term, step, f"s{step}")))
            order = self.orders.read_text().strip() if self.orders.exists() else ""
            if order == "finish":
                self.tell(protocol.Completed(step, "final/model.keras"))
                return
            if order == "boast":
                self.orders.unlink()
                words = b"\\u001b[2Jno\\nroom " * 20_000  # as a trainer says it that does not use the SDK's own words
                self.socket.sendall(b'{"type":"Notice","reason":"CheckpointFailed","message":"' + words + b'"}\n')
            if order == "outlive":
                self.tell(protocol.Completed(step))
                say("complete, and living on")
                threading.Event().wait()
            if order == "fail":
                self.tell(protocol.Failed("batch(step=7) raised ValueError"))
                sys.exit(1)
            if order == "stay":
                self.tell(protocol.Failed("batch(step=7) raised ValueError"))
                threading.Event().wait()
            if order != "hang" and self.hand_over.is_set():
                self.tell(protocol.HandedOver(CheckpointRef(term, step, f"s{step}")))
                say(f"handed over {step}")
                self.linger()
                sys.exit(82)

    def linger(self) -> None:
        """Work on after the hand-over, as long as that is the order."""
        parts = 0
        while self.orders.exists() and self.orders.read_text().strip() == "linger":
            time.sleep(0.1)
            parts += 1
            say(f"uploaded part {parts};")


if __name__ == "__main__":
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    say(f"pid {os.getpid()} threads {os.environ['TF_NUM_INTRAOP_THREADS']}")
    if mode.startswith("exit:"):
        sys.exit(int(mode[5:]))
    if mode == "mute":
        threading.Event().wait()
    Trainer().run()
