"""The operator's process: started, killed and started again by tests."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


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

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()
