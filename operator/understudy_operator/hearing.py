"""When each Lease was heard to change, from which its silence is counted.

Guarantees that a Lease's silence is counted from the last change seen over an unbroken watch: a gap in the watch, or
half a lease in which the API server gave no sign of life, starts the count again, since the renewals of that time could
not be heard. Cannot tell an API server that answers reads and refuses writes from one that works. Therefore a worker
that is heard again has to be heard for a while before it speaks against another (silence.py). Trusts the monotonic
clock that it is given.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_kube.client import Api, ApiError
from understudy_kube.contact import Contact
from understudy_kube.informer import Key

from understudy_operator.core import model

log: Final = logging.getLogger("understudy")

LEASES: Final = "/apis/coordination.k8s.io/v1/leases"
CONTACT_LOOK_S: Final = 0.5
"""How often to look whether the API server must be asked: that is due after a quarter of a lease, 0.75 s at least."""


class Hearing:
    """When Leases changed, by the clock of this process."""

    def __init__(self, contact: Contact, clock: Callable[[], float]) -> None:
        self._contact = contact
        self._clock = clock
        self._changed_at: dict[Key, float] = {}
        self._steady_since: dict[Key, float] = {}
        self._workers = Contact(clock)
        """Contact with any worker of any job."""
        self._workers.opened()

    def changed(self, key: Key, duration_s: float, *, by_worker: bool) -> bool:
        """Take note that a Lease was renewed or got another holder; tell whether that was late."""
        now = self._clock()
        if by_worker:
            self._workers.heard()
        silent_s = now - self._changed_at.get(key, now)
        if silent_s >= duration_s / 2 or key not in self._changed_at:
            self._steady_since[key] = now
        self._changed_at[key] = now
        return silent_s >= model.LATE * duration_s

    def forget(self, key: Key) -> None:
        """Forget a Lease that was deleted."""
        self._changed_at.pop(key, None)
        self._steady_since.pop(key, None)

    def lease(self, key: Key, record: LeaseRecord) -> model.Lease:
        """Join what a Lease says with when it was heard."""
        changed_at = self._changed_at[key]
        silent_since = max(changed_at, self._contact.since(record.patience_s / 2))
        workers_since = self._workers.since(record.patience_s / 2)
        return model.Lease(record, changed_at, silent_since, workers_since, self._steady_since[key])

    @property
    def any_worker_heard_at(self) -> float:
        """When any worker of any job was heard last."""
        return self._workers.heard_at

    async def keep_contact(self, api: Api, shortest_lease_s: Callable[[], float]) -> None:
        """Ask the API server for a sign of life when the watch of the Leases gives none, for ever.

        While workers renew, nothing is asked. If few are left, or none, the answer tells a silent worker from a silent
        server.
        """
        while True:
            every_s = shortest_lease_s() / 4
            left_s = self._contact.heard_at + every_s - self._clock()
            if -math.inf < left_s <= 0:
                try:
                    # A consistent read, for which the server needs etcd.
                    await api.get(LEASES, params={"limit": "1"}, timeout_s=every_s)
                    self._contact.heard()
                except ApiError as error:
                    log.info("no sign of life from the API server: %s", error.message)
            await asyncio.sleep(left_s if 0 < left_s < CONTACT_LOOK_S else CONTACT_LOOK_S)
