"""Room in a quota: when one refuses a pod because of the number of pods, an ended pod of the job is removed for it.

Guarantees at most one removal for each refused action within ROOM_COUNTED_S: the API server counts the removal a moment
later, and until then refuses the same request again. So a log is lost only where its pod was in the way. Other objects
of the namespace are left alone, also where they fill the quota. Trusts the monotonic clock.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from understudy_kube.client import ApiError
from understudy_kube.refusals import exceeded

from understudy_operator.core.actions import DeletePod
from understudy_operator.core.model import Aim, Job, Now
from understudy_operator.core.room import expendable
from understudy_operator.observe import World

COUNTED: Final = "count/pods"
"""The one resource of a quota that counts pods which have ended."""
RETRY_ROOM_S: Final = 0.5
"""How soon a pod is tried again for which room was made."""
ROOM_COUNTED_S: Final = 5.0
"""How long the quota controller may take to count a removal; mostly it takes some ten milliseconds."""


def wants_room(error: BaseException | None) -> bool:
    """Tell whether a quota refused because of the number of pods, ended ones included."""
    return isinstance(error, ApiError) and COUNTED in exceeded(error.message)


async def make_room(
    world: World, job: Job, aim: Aim, now: Now, delete: Callable[[Job, DeletePod], Awaitable[None]]
) -> bool:
    """Remove an ended pod for what was refused; False if there is none, and none was removed a moment ago."""
    made_at = world.jobs.memo(job.uid).room_made_at
    if aim in made_at and now.at < made_at[aim] + ROOM_COUNTED_S:
        return True
    observation = world.observe((job.namespace, job.name), now.at)
    pods = expendable(observation, aim[1]) if observation is not None else []
    if not pods:
        return False
    made_at[aim] = now.at
    await delete(job, DeletePod(pods[0], "a quota has no room for another pod"))
    return True
