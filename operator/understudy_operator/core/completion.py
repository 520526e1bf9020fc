"""When a rank, and the job, is complete; and when the job has failed.

Complete means that the rank's present holder said so for its term, after its last checkpoint was committed and the
script had exited 0. An exit 0 without that statement is a failure; a pod that is deleted afterwards takes nothing
back. A job has failed when one of its ranks was given up. Neither is ever taken back: what the Lease said first counts.
A rank that is complete is never given up, and a release that comes after the rank was given up is too late.
"""

from understudy_contract.exits import ReleaseReason

from understudy_operator.core.model import Observation, RankView


def rank_complete(view: RankView) -> bool:
    """Tell whether a rank has finished its training, before it was given up."""
    if view.lease is None or view.lease.record.given_up is not None:
        return False
    release = view.lease.record.current_release
    return release is not None and release.reason == ReleaseReason.COMPLETED


def job_complete(observation: Observation) -> bool:
    """Tell whether every rank has finished, or the status says that the job has: an end is never taken back."""
    phase = observation.job.status.get("phase")
    return phase == "Succeeded" or (phase != "Failed" and all(rank_complete(v) for v in observation.ranks))


def job_failed(observation: Observation) -> bool:
    """Tell whether a rank was given up, or the status says that the job has failed."""
    if job_complete(observation):
        return False
    given_up = any(v.lease is not None and v.lease.record.given_up is not None for v in observation.ranks)
    return given_up or observation.job.status.get("phase") == "Failed"


def job_over(observation: Observation) -> bool:
    """Tell whether no pod of the job has to run any more."""
    return job_complete(observation) or job_failed(observation)
