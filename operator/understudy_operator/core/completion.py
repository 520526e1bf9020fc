"""When a rank, and the job, is complete; and when the job has failed.

A rank is complete when the present holder of its Lease has said so for its term. A holder says so after its last
checkpoint is committed and its script has exited with 0. An exit with 0 without this statement is a failure. A pod that
is deleted later changes nothing.

A job has failed when one of its ranks was given up. Neither end is taken back. Whichever a Lease says first counts: a
rank is given up by a compare-and-set of its Lease, which is never done to a rank that is complete, and a holder that
reports its completion after its rank was given up is too late.
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
    """Tell whether every rank has finished. An end that the status has is final, whatever the Leases say now."""
    phase = observation.job.status.phase
    if phase in (JobPhase.SUCCEEDED, JobPhase.FAILED):
        return phase == JobPhase.SUCCEEDED
    return all(rank_complete(view) for view in observation.ranks)


def job_failed(observation: Observation) -> bool:
    """Tell whether a rank was given up, or the status says that the job has failed."""
    if job_complete(observation):
        return False
    given_up = any(v.lease is not None and v.lease.record.given_up is not None for v in observation.ranks)
    return given_up or observation.job.status.phase == JobPhase.FAILED


def job_over(observation: Observation) -> bool:
    """Tell whether no pod of the job has to run any more."""
    return job_complete(observation) or job_failed(observation)
