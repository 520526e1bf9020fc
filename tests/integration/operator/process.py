"""The operator's process: started, killed and started again by tests."""

import asyncio
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

STOPS_WITHIN_S = 30
"""A pod's grace period."""
SAYS_WITHIN_S = 60.0
"""Generous."""


@dataclass(slots=True)
class Operator:
    """The operator's process, run as its own ServiceAccount against the session's API server."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=output, stderr=output)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Tell it to end, as the kubelet does; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=STOPS_WITHIN_S)

    def freeze(self) -> None:
        """Let it stand still, as a host that swaps or is suspended does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def runs(self) -> bool:
        """Tell whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()

    async def said(self, words: str, *, times: int = 1) -> None:
        """Wait until it has logged something; there is nothing to watch."""
        async with asyncio.timeout(SAYS_WITHIN_S):
            while self.text().count(words) < times:  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.05)
