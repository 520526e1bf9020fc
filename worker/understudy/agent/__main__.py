"""`understudy-agent -- COMMAND ARGS…`: start the trainer, then import what the agent needs."""

import os
import sys

from understudy_contract.exits import ExitCode

from understudy.agent.launch import launch
from understudy.agent.settings import SettingsError, read_settings


def main() -> None:
    """Run the agent and exit with its code."""
    try:
        settings = read_settings(os.environ, sys.argv[1:])
        launched = launch(settings, os.environ)
    except (SettingsError, OSError) as error:
        sys.exit(_complain(error))
    import asyncio  # after the launch: the trainer's own start has begun

    from understudy_kube.credentials import Credentials, CredentialsError

    from understudy.agent.app import Agent

    try:
        credentials = Credentials.default()
    except CredentialsError as error:
        sys.exit(_complain(error))
    sys.exit(asyncio.run(Agent(settings, launched).run(credentials)))


def _complain(error: Exception) -> int:
    sys.stderr.write(f"understudy: {error}\n")
    return ExitCode.MISCONFIGURED


if __name__ == "__main__":
    main()
