"""Faults of a job's volume and of the job itself: full, read-only, slow, failing, suspended.

None costs a primary by itself. A damaged checkpoint would not be noticed while a redundant pod has it in memory: it
takes all pods of its rank along.
"""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from understudy_contract.reports import Cause
from understudy_contract.status import JobPhase

from chaos.draw import Draw, between
from chaos.strike import Kind, Strike, Thing, timed
from chaos.target import Target
from chaos.volume_audit import damage, newest, state_id, step_of
from chaos.ward import FSYNC_S, TARGETS, Ward
from chaos.workers import lose_rank
from localcluster import ClusterError
from testbed import TestbedError, faults, storage
from testbed.kube import JOBS, wall

LONGEST_S: Final = 20.0
"""Well below the two minutes that a worker tries to begin a term for."""
SUSPENDED_WITHIN_S: Final = 180
SLOWLY: Final = f"takes {FSYNC_S:g} s for each fsync"
READ_ONLY_TRIES: Final = 200
"""The kernel refuses while a file is open for writing; the next save ends soon."""
CHUNK_BYTES: Final = 2**20


def read_only(ward: Ward, draw: Draw) -> Strike:
    """Turn a job's volume read-only for a while."""
    job = ward.target(draw.where).job
    namespace, claim = ward.testbed.namespace, f"{job}-volume"

    def fire() -> float:
        for _ in range(READ_ONLY_TRIES):
            at = wall()
            try:
                ward.cluster.set_volume_read_only(namespace, claim, read_only=True)
            except ClusterError as error:
                refused = str(error)
                continue
            return at
        raise TestbedError(f"the volume of {job} is never free of writers: {refused}")

    return Strike(
        what=f"the volume of {job} is read-only",
        fire=fire,
        undo=lambda: ward.cluster.set_volume_read_only(namespace, claim, read_only=False),
        lasts_s=between(draw.amount, 1, LONGEST_S),
    )


def full(ward: Ward, draw: Draw) -> Strike:
    """Fill a job's volume up for a while."""
    job = ward.target(draw.where).job
    filler = ward.volume(job) / "filler"
    return Strike(
        what=f"the volume of {job} is full",
        fire=timed(lambda: fill(filler)),
        undo=lambda: filler.unlink(missing_ok=True),
        lasts_s=between(draw.amount, 1, LONGEST_S),
    )


def fill(file: Path) -> None:
    """Write until the file system has no byte left."""
    with file.open("wb", buffering=0) as opened:
        size = CHUNK_BYTES
        while size:
            try:
                os.write(opened.fileno(), bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2


def spoiled(flag: str, what: str) -> Callable[[Ward, Draw], Strike]:
    """Let each fsync on a job's volume be slow, or fail: it saves less often, or not at all, and trains on."""

    def aim(ward: Ward, draw: Draw) -> Strike:
        job = ward.target(draw.where).job
        file = ward.volume(job) / flag
        return Strike(
            what=f"the volume of {job} {what}",
            fire=timed(file.touch),
            undo=lambda: file.unlink(missing_ok=True),
            lasts_s=between(draw.amount, 5, LONGEST_S),
        )

    return aim


def damaged(ward: Ward, draw: Draw) -> Strike:
    """Damage a rank's newest checkpoint and kill all its trainers: a new pod goes on from the one before."""
    target = ward.target(draw.where)
    lost = lose_rank(ward, target, faults.KILL_TRAINER)  # which hands nothing over

    def spoil() -> Mapping[Target, int]:
        folder = ward.rank_folder(target)
        victim = newest(folder, ward.damaged)
        if victim is None or newest(folder, ward.damaged | {state_id(victim)}) is None:
            raise TestbedError(f"{target} has no checkpoint before its newest one to go on from")
        ward.damaged.add(damage(victim))
        return {target: step_of(victim)}

    return replace(lost, what=f"the newest checkpoint of {target} damaged, then {lost.what}", damage=spoil)


def suspend(*, wait: bool) -> Callable[[Ward, Draw], Strike]:
    """Suspend a job and resume it: once nothing of it runs, or before (`wait` is false), as a change of mind."""

    def aim(ward: Ward, draw: Draw) -> Strike:
        job = ward.target(draw.where).job
        path = f"{JOBS.format(ward.testbed.namespace)}/{job}"

        def undo() -> None:
            if wait:
                ward.testbed.wait_until(
                    lambda: ward.testbed.status(job).phase == JobPhase.SUSPENDED,
                    timeout_s=SUSPENDED_WITHIN_S,
                    what=f"phase Suspended of {job}",
                )
            ward.kube.patch(path, {"spec": {"suspend": False}})

        ranks = [target for target in TARGETS if target.job == job]
        return Strike(
            what=f"{job} is suspended and {'resumed' if wait else 'resumed at once'}",
            fire=timed(lambda: ward.kube.patch(path, {"spec": {"suspend": True}})),
            # Taken back while its pods end, it is a hand-over like any other.
            may=dict.fromkeys(ranks, frozenset({Cause.POD_DELETED})),
            undo=undo,
            lasts_s=0.0 if wait else between(draw.amount, 0.0, 2.0),
            waits=wait,
            lossless=True,
        )

    return aim


VOLUME: Final = frozenset({Thing.VOLUME})
# Its pods could not end on a node that is cut off: the suspension would wait for that fault's end.
SUSPENSION: Final = frozenset({Thing.SUSPENSION, Thing.NODE})
KINDS: Final = (
    Kind("read-only", "volume read-only for a while", read_only, VOLUME, asks=True),
    Kind("full", "volume full for a while", full, VOLUME),
    Kind("slow-volume", "volume slow for a while", spoiled(storage.SLOW, SLOWLY), VOLUME),
    Kind("failing-volume", "volume fails for a while", spoiled(storage.FAILING, "fails at each fsync"), VOLUME),
    Kind("damaged-checkpoint", "newest checkpoint damaged, all pods of its rank lost", damaged, VOLUME),
    Kind("suspend", "suspended and resumed", suspend(wait=True), SUSPENSION, asks=True),
    Kind("suspend-briefly", "suspended and resumed at once", suspend(wait=False), SUSPENSION, asks=True),
)
