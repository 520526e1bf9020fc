"""The one place where the simulation reaches into the product: clocks, randomness, threads, the socket, the volume.

Everything else of the product runs as it is. `installed` puts the stand-ins in place for the time of a simulation.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from random import Random
from typing import Any

import understudy.agent.leases
import understudy.agent.watchdog
import understudy.checkpoint.marks
import understudy.checkpoint.saver
import understudy.checkpoint.store
import understudy.checkpoint.writer
import understudy.trainer.restore
import understudy.trainer.saves
import understudy.trainer.session
import understudy.trainer.standby
import understudy_kube.informer
import understudy_operator.hearing
import understudy_operator.ranks
from understudy.checkpoint import RankStore
from understudy.counters import Counters
from understudy.trainer.context import Context
from understudy.trainer.link import Orders

from tests.simulation.lockstep import Clock, Threading, current
from tests.simulation.timeline import Process


class _Secrets:
    def __init__(self, random: Random) -> None:
        self._random = random

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()


class _WallClock:
    """`datetime` in modules that stamp what they write; read on the machine of the process that runs."""

    def __init__(self) -> None:
        self.process: Process | None = None

    def now(self, _zone: object) -> datetime:
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        return process.wall()


class _NoRandom:
    """Stands for the random generators of a process, of which a trainer here has none of its own."""

    @staticmethod
    def read() -> dict[str, Any]:
        return {}

    @staticmethod
    def write(_saved: object) -> None:
        pass


def _container() -> Any:
    return current().program.belongings


def _link(_path: object, orders: Orders) -> Any:
    return _container().connect(orders)


def _context(**_: object) -> Context:
    found: Context = _container().context
    return found


def _counters(_path: object) -> Counters:
    found: Counters = _container().counters
    return found


def _store(root: Any, job_uid: str, rank: int, *, keep: int, sleep: Callable[[float], None] = Clock.sleep) -> RankStore:
    return RankStore(root, job_uid, rank, keep=keep, fs=_container().fs, clock=Clock.monotonic, sleep=sleep)


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record)


@contextmanager
def installed(random: Random, hear: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Run the product on simulated means; `hear` is told what the operator logs."""
    wall = _WallClock()
    nothing: Any = lambda *_: None  # noqa: E731
    stand_ins: list[tuple[Any, str, Any]] = [
        (understudy_kube.informer, "random", random),
        (understudy.agent.leases, "random", random),
        (understudy.agent.leases, "datetime", wall),
        (understudy_operator.ranks, "datetime", wall),
        (understudy.checkpoint.store, "secrets", _Secrets(random)),
        (understudy.checkpoint.marks, "secrets", _Secrets(random)),
        (understudy.checkpoint.marks, "Disk", lambda _root: _container().fs),
        (understudy.checkpoint.saver, "threading", Threading),
        (understudy.checkpoint.writer, "threading", Threading),
        (understudy.trainer.saves, "time", Clock),
        (understudy.trainer.session, "time", Clock),
        (understudy.trainer.session, "Link", _link),
        (understudy.trainer.session, "at_end_of_script", nothing),
        (understudy.trainer.session, "read_context", _context),
        (understudy.trainer.session, "Counters", _counters),
        (understudy.trainer.session, "RankStore", _store),
        (understudy.trainer.restore, "RankStore", _store),
        (understudy.trainer.session, "global_random", _NoRandom),
        (understudy.trainer.session, "collect", lambda _facts: {}),
        (understudy.trainer.session, "explain_failures", nothing),
        (understudy.trainer.session, "explain_end", nothing),
        (understudy.trainer.session, "wall_clock", lambda: "now"),
        (understudy.trainer.session, "say", nothing),
        (understudy.trainer.saves, "say", nothing),
        (understudy.trainer.standby, "time", Clock),
        (understudy.trainer.standby, "say", nothing),
        # Looks that find nothing cost the simulation most of its time; each is seldom enough to stay in proportion.
        (understudy.trainer.standby, "PEEK_INTERVAL_S", 4.0),
        (understudy.agent.watchdog, "_LOOKS", 6),
        (understudy.agent.watchdog, "_LOOK_MAX_S", 2.5),
        (understudy.agent.watchdog, "_OVERSLEPT_S", 6.0),
        (understudy_operator.hearing, "CONTACT_LOOK_S", 1.0),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in stand_ins]
    logger, listener = logging.getLogger("understudy"), _Listener(hear)
    level, propagates = logger.level, logger.propagate
    logging.getLogger("understudy_kube.informer").disabled = True
    logger.addHandler(listener)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    for module, name, value in stand_ins:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagates
        logging.getLogger("understudy_kube.informer").disabled = False
