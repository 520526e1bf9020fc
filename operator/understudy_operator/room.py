"""Room in a quota: when one refuses a pod because of the number of pods, an ended pod is removed for it.

Guarantees at most one removal for each refused action within ROOM_COUNTED_S: the API server counts the removal a moment
later, and until then refuses the same request again. So no more logs are lost than are needed. The job's own pods go
first, then those of other jobs of the namespace, except pods that completed a rank of another job. Pods of nobody's
TrainingJob are left alone, even if they fill the quota. Trusts the monotonic clock.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from understudy_kube.client import ApiError
from understudy_kube.refusals import exceeded

from understudy_operator.core.actions import DeletePod
from understudy_operator.core.model import Aim, Job, Now, Pod
from understudy_operator.core.room import expendable
from understudy_operator.observe import observe
from understudy_operator.world import World

COUNTED: Final = "count/pods"
"""The one resource of a quota that counts pods which have ended."""
RETRY_ROOM_S: Final = 0.5
"""How soon a pod is tried again after room was made for it."""
ROOM_COUNTED_S: Final = 5.0
"""How long the quota controller may take to count a removal; mostly it takes some ten milliseconds."""


def wants_room(error: BaseException | None) -> bool:
    """Tell whether a quota refused because of the number of pods, ended ones included."""
    return isinstance(error, ApiError) and COUNTED in exceeded(error.message)


async def make_room(
    world: World, job: Job, aim: Aim, now: Now, delete: Callable[[Job, DeletePod], Awaitable[None]]
) -> bool:
    """Remove an ended pod for a refused one; False if there is none to remove and none was removed a moment ago."""
    made_at = world.jobs.memo(job.uid).room_made_at
    if aim in made_at and now.at < made_at[aim] + ROOM_COUNTED_S:
        return True
    found = next(_expendable(world, job, aim, now), None)
    if found is None:
        return False
    made_at[aim] = now.at
    await delete(found[0], DeletePod(found[1], f"a quota has no room for another pod of {job.name}"))
    return True


def _expendable(world: World, job: Job, aim: Aim, now: Now) -> Iterator[tuple[Job, Pod]]:
    """List the pods that may be removed, with their jobs, the first to go first."""
    own = observe(world, (job.namespace, job.name), now.at)
    if own is not None:
        yield from ((job, pod) for pod in expendable(own, aim[1]))
    keys = [key for key in world.jobs if key[0] == job.namespace and key[1] != job.name]
    others = [other for key in keys if (other := observe(world, key, now.at)) is not None]
    pods = [(other.job, pod) for other in others for pod in expendable(other, None, results=False)]
    yield from sorted(pods, key=lambda found: (found[1].created, found[1].name))
