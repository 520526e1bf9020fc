"""When a rank, and the job, is complete.

Complete means that the rank's present holder said so for its term, after its last checkpoint was committed and the
script had exited 0. An exit 0 without that statement is a failure; a pod that is deleted afterwards takes nothing
back.
"""

from understudy_contract.exits import ReleaseReason

from understudy_operator.core.model import Observation, RankView


def rank_complete(view: RankView) -> bool:
    """Tell whether a rank has finished its training."""
    release = view.lease.record.current_release if view.lease else None
    return release is not None and release.reason == ReleaseReason.COMPLETED


def job_complete(observation: Observation) -> bool:
    """Tell whether every rank has finished, or the job was seen to have: completion is never taken back."""
    return observation.job.status.get("phase") == "Succeeded" or all(rank_complete(v) for v in observation.ranks)
