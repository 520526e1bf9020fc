"""When a rank, and the job, is complete; and when the job has failed.

Complete means that the rank's present holder said so for its term, after its last checkpoint was committed and the
script had exited 0. An exit 0 without that statement is a failure; a pod that is deleted afterwards takes nothing
back. A job has failed when one of its ranks was given up. Neither is taken back: what a Lease said first counts, since
a rank is given up by CAS and never once it is complete, and what a holder says on its way out comes too late.
"""

from understudy_contract.exits import ReleaseReason
from understudy_contract.status import JobPhase

from understudy_operator.core.model import Observation, RankView


def rank_complete(view: RankView) -> bool:
    """Tell whether a rank has finished its training, before it was given up."""
    if view.lease is None or view.lease.record.given_up is not None:
        return False
    release = view.lease.record.current_release
    return release is not None and release.reason == ReleaseReason.COMPLETED


def job_complete(observation: Observation) -> bool:
    """Tell whether every rank has finished, or the job was seen to have: the end that was seen is never taken back."""
    phase = observation.job.status.phase
    if phase in (JobPhase.SUCCEEDED, JobPhase.FAILED):
        return phase == JobPhase.SUCCEEDED
    return all(rank_complete(view) for view in observation.ranks)


def job_failed(observation: Observation) -> bool:
    """Tell whether a rank was given up, or the job was seen to have failed."""
    if job_complete(observation):
        return False
    given_up = any(v.lease is not None and v.lease.record.given_up is not None for v in observation.ranks)
    return given_up or observation.job.status.phase == JobPhase.FAILED


def job_over(observation: Observation) -> bool:
    """Tell whether nothing of the job is to run any more."""
    return job_complete(observation) or job_failed(observation)
