"""Start the operator."""

import asyncio
import logging
import sys

from understudy_kube.client import Credentials, CredentialsError

from understudy_operator.app import App
from understudy_operator.logs import set_up_logs
from understudy_operator.settings import Settings


def main() -> None:
    """Run the operator until it fails or is told to stop; exits non-zero in either case but a signal's."""
    settings = Settings.from_environment()
    set_up_logs(settings.log_level)
    for chatty in ("kopf", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        credentials = Credentials.default()
    except CredentialsError as error:
        sys.exit(f"understudy-operator: {error}")
    asyncio.run(App(settings, credentials).run())


if __name__ == "__main__":
    main()
