"""Settings of the process, from its environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs."""

    log_level: str
    health_port: int
    """TCP port of kopf's liveness endpoint, /healthz."""
    ready_port: int
    """TCP port of the readiness endpoint, /readyz."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read UNDERSTUDY_LOG_LEVEL (INFO), UNDERSTUDY_HEALTH_PORT (8080) and UNDERSTUDY_READY_PORT (8081)."""
        return cls(
            log_level=os.environ.get("UNDERSTUDY_LOG_LEVEL", "INFO").upper(),
            health_port=int(os.environ.get("UNDERSTUDY_HEALTH_PORT", "8080")),
            ready_port=int(os.environ.get("UNDERSTUDY_READY_PORT", "8081")),
        )
