"""Status, conditions and Events of a job, derived from its Leases and pods.

Guarantees that a status which was lost is rebuilt from the Leases (but for failovers older than the last of each
rank), that a pod which is terminating or silent counts as nothing, and that a change of mere progress is written at
most every PROGRESS_S. Wall-clock times are for display.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from understudy_contract.bounds import COUNT_MAX, clamp
from understudy_contract.events import EventReason, notice_reason
from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import Heartbeat, Phase, Promotion

from understudy_operator.core import budget, causes, conditions
from understudy_operator.core.actions import Action, Emit, OpenRank, WriteStatus
from understudy_operator.core.completion import job_complete, job_failed, job_over, rank_complete
from understudy_operator.core.deadlines import active_since
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Now, Observation, Pod, RankView
from understudy_operator.core.opening import last_saves
from understudy_operator.core.pending import Finding
from understudy_operator.core.states import JobState
from understudy_operator.core.suspension import suspended
from understudy_operator.core.training import FINISHING

PROGRESS_S: Final = 10.0
"""Steps alone are written this often: `kubectl get` shows life, and etcd is spared."""
FAILOVERS_KEPT: Final = 20
NEWS_S: Final = 600.0
"""What is older needs no Event: an operator that was away for ten minutes has more to make up for."""

_PROGRESS: Final = ("step", "checkpointStep", "checkpointTerm", "redundant", "trainerRestarts", "lastFailure")
"""Fields of a rank whose change alone can wait for PROGRESS_S."""

Json = dict[str, Any]


def report(job: JobState, now: Now, faults: tuple[Fault, ...] = ()) -> tuple[list[Action], float]:
    """Write the status if it is due, and list the Events that there should be."""
    observation = job.observation
    wanted = _status(job, now, faults)
    actions: list[Action] = []
    wake_at = math.inf
    old = observation.job.status
    if wanted != old and not _reopens(observation):
        due = observation.status_written_at + PROGRESS_S
        if _notable(wanted) != _notable(old) or now.at >= due:
            actions.append(WriteStatus(wanted))
        else:
            wake_at = due
    actions += _events(observation, wanted, now)
    return actions, wake_at


def _reopens(observation: Observation) -> bool:
    """Tell whether a Lease that somebody deleted is being made anew: for that moment little is known of its rank."""
    if job_over(observation) or observation.job.policy.suspend or last_saves(observation) or observation.leftovers:
        return False
    told = {entry.get("rank") for entry in observation.job.status.get("ranks", ()) if entry.get("primary")}
    lost = [view.rank for view in observation.ranks if view.lease is None and view.rank in told]
    return any((OpenRank.__name__, rank) not in observation.problems for rank in lost)


def _notable(status: Mapping[str, Any]) -> Json:
    """Strip what changes with every step."""
    kept = {k: v for k, v in status.items() if k not in ("step", "ranks")}
    kept["ranks"] = [
        {k: v for k, v in entry.items() if k not in _PROGRESS}
        | {"redundant": [(r.get("pod"), r.get("ready")) for r in entry.get("redundant", ())]}
        for entry in status.get("ranks", ())
    ]
    return kept


def excuse(observation: Observation, now: Now, faults: tuple[Fault, ...]) -> tuple[list[Action], float]:
    """Write the condition that tells of faults, and nothing else: the status cannot be made of what is observed."""
    job = observation.job
    error = {conditions.OPERATOR_ERROR: conditions.operator_error(observation, faults)}
    before = list(job.status.get("conditions", ()))
    others = [entry for entry in before if entry.get("type") != conditions.OPERATOR_ERROR]
    wanted = {**job.status, "conditions": [*others, *conditions.render(error, before, job.generation, now)]}
    told = conditions.error_events(wanted)
    if wanted == job.status:
        return told, math.inf
    due = observation.status_written_at + PROGRESS_S
    return (told, due) if now.at < due else ([WriteStatus(wanted), *told], math.inf)


def _status(state: JobState, now: Now, faults: tuple[Fault, ...] = ()) -> Json:
    observation, job = state.observation, state.observation.job
    ranks = [_rank(observation, view, now) for view in observation.ranks]
    failovers = _failovers(observation)
    promotions = [v.lease.record.promotion for v in observation.ranks if v.lease and v.lease.record.promotion]
    complete = job_complete(observation)
    ready = sum(r["ready"] for entry in ranks for r in entry["redundant"])
    at_work = 0 if job_over(observation) or job.policy.suspend else sum(not rank_complete(v) for v in observation.ranks)
    desired = job.policy.redundancy * at_work
    found = conditions.assess(state, ready, desired, now)
    if faults or conditions.has_been_in_error(observation):
        found[conditions.OPERATOR_ERROR] = conditions.operator_error(observation, faults)
    since = active_since(observation) or job.status.get("startTime")
    return {
        "observedGeneration": job.generation,
        **({"startTime": since} if since else {}),
        **({"adoptedUid": job.adopted_uid} if job.adopted_uid else {}),
        "phase": _phase(observation, complete, found),
        "conditions": conditions.render(found, job.status.get("conditions", ()), job.generation, now),
        "step": min((entry["step"] for entry in ranks), default=0),
        "restarts": _total((p.restarts for p in promotions), job.status.get("restarts", 0)),
        "failoverCount": _total((p.failovers for p in promotions), job.status.get("failoverCount", 0)),
        "redundantReady": ready,
        "redundantDesired": desired,
        "redundant": f"{ready}/{desired}",
        "ranks": ranks,
        "failovers": failovers,
    }


def _total(counts: Iterable[int], known: Any) -> int:
    """Sum up what the ranks count; what was known before is never taken back."""
    return clamp(max(sum(counts), int(known)), COUNT_MAX)


def _phase(observation: Observation, complete: bool, found: Mapping[str, Finding]) -> str:
    if complete:
        return "Succeeded"
    if job_failed(observation):
        return "Failed"
    if suspended(observation):
        return "Suspended"
    if not any(v.lease is not None and v.lease.record.floor is not None for v in observation.ranks):
        return "Pending"
    if found["Training"].reason == FINISHING:
        return FINISHING
    whole = found["Training"].holds and (observation.job.policy.redundancy == 0 or found["Redundant"].holds)
    return "Running" if whole else "Degraded"


def _rank(observation: Observation, view: RankView, now: Now) -> Json:
    # A Lease may have been deleted by hand: what was known of the rank is what it is opened anew from. And who wrote
    # that the job is complete had seen more of its Leases than one to whom an unfinished one is shown still.
    known: Json = next((e for e in observation.job.status.get("ranks", ()) if e.get("rank") == view.rank), {})
    if view.lease is None or (job_complete(observation) and not rank_complete(view)):
        return {"rank": int(view.rank), "step": 0, **known, "redundant": []}
    record = view.lease.record
    entry: Json = {
        "rank": int(view.rank),
        "term": int(record.term),
        "step": _step(record) if record.heartbeat else int(known.get("step", record.floor_step)),
        "failovers": record.promotion.failovers if record.promotion else 0,
        "restarts": record.promotion.restarts if record.promotion else 0,
        "failuresWithoutProgress": budget.application_failures(record),
        "complete": rank_complete(view),
        "redundant": [],
    }
    if record.holder:
        entry["primary"] = record.holder
    if record.floor is not None:
        entry |= {"checkpointStep": int(record.floor.step), "checkpointTerm": int(record.floor.term)}
    elif record.heartbeat is None:
        entry |= {key: known[key] for key in ("checkpointStep", "checkpointTerm", "model") if key in known}
    if record.heartbeat is not None and record.heartbeat.model is not None:
        entry["model"] = record.heartbeat.model
    entry |= _survived(record)
    if rank_complete(view) or job_failed(observation):
        return entry
    for slot, lease in enumerate(view.slots):
        pod = view.slot_pod(slot)
        if lease is None or pod is None or pod.deleting_since is not None or pod.ended:
            continue
        beat = lease.record.current_heartbeat
        item: Json = {"pod": pod.name, "ready": view.warm(slot, now.at)}
        if beat is not None and beat.loaded is not None:
            item["loadedStep"] = beat.loaded.step
        entry["redundant"].append(item)
    return entry


def _survived(record: LeaseRecord) -> Json:
    """Tell of the failures that the primary has survived: its trainer was started again inside its pod."""
    last = budget.last_survived(record)
    return {"trainerRestarts": budget.restarts(record), "lastFailure": last} if last else {}


def _step(record: LeaseRecord) -> int:
    """Say what a rank has reached; a primary that has not restored yet reports nothing."""
    beat = record.heartbeat
    if beat is None or beat.phase is Phase.STARTING:
        return max(int(record.floor_step), beat.step if beat else 0)
    # A renewal that was overtaken by the release may have put an older report in place.
    last = record.current_release.checkpoint if record.current_release is not None else None
    return max(beat.step, last.step) if last is not None and last.term == record.term else beat.step


def _promotions(view: RankView) -> tuple[Promotion, ...]:
    """List the promotions that a rank's Lease tells of, oldest first; one of term 0 is a mere count."""
    last = view.lease.record.promotion if view.lease is not None else None
    return tuple(promotion for promotion in (*last.unreported, last) if promotion.term) if last is not None else ()


def _failovers(observation: Observation) -> list[Json]:
    """Merge the last promotions of each rank into the list that the status holds already."""
    known: dict[tuple[int, int], Json] = {
        (int(entry["rank"]), int(entry["term"])): dict(entry)
        for entry in observation.job.status.get("failovers", ())
        if int(entry["rank"]) < observation.job.policy.ranks  # others no operator wrote
    }
    for view in observation.ranks:
        if view.lease is None:
            continue
        beat = view.lease.record.current_heartbeat
        for promotion in _promotions(view):
            entry = known.setdefault((int(view.rank), promotion.term), _failover(view, promotion))
            if entry["promotedAt"] < promotion.promoted_at:  # etcd was restored, and the term was given once more
                entry = known[int(view.rank), promotion.term] = _failover(view, promotion)
            if promotion.term == view.lease.record.term and beat is not None and "firstStepAt" not in entry:
                entry |= _first_step(promotion, beat)
    for entry in known.values():
        pod = _lost_pod(observation, entry)
        if pod is None:
            continue
        found = causes.completed(str(entry.get("cause", "")), str(entry.get("message", "")), pod)
        if found is not None:
            entry["cause"], entry["message"] = found
    ordered = sorted(known.values(), key=lambda e: (e["promotedAt"], e["rank"], e["term"]))
    return ordered[-FAILOVERS_KEPT:]


def _lost_pod(observation: Observation, entry: Json) -> Pod | None:
    """Find the pod that a failover is about, as long as it is there: its status may tell the cause later."""
    views = (view for view in observation.ranks if view.rank == entry["rank"])
    return next((pod for view in views if (pod := view.pods.get(str(entry.get("from")))) is not None), None)


def _failover(view: RankView, promotion: Promotion) -> Json:
    return {
        "rank": int(view.rank),
        "term": promotion.term,
        "from": promotion.source,
        "to": promotion.target,
        "cause": str(promotion.cause),
        "message": promotion.message,
        "failedAt": promotion.failed_at,
        "detectedAt": promotion.detected_at,
        "promotedAt": promotion.promoted_at,
        "cold": promotion.cold,
    }


def _first_step(promotion: Promotion, beat: Heartbeat) -> Json:
    if beat.first_step is None:
        return {}
    resumed = beat.first_step.step - 1
    found: Json = {"firstStepAt": beat.first_step.at, "lostSteps": max(0, promotion.known_step - resumed)}
    if not promotion.known_step_exact:
        found["lostStepsIsLowerBound"] = True
    return found


def notices(record: LeaseRecord, now: Now) -> Iterator[Emit]:
    """Tell what the holder of a Lease has to say, if it is news."""
    note = record.notice
    if note is not None and _is_news(note.at, now):
        reason = notice_reason(note.reason)
        words = f"{note.reason}: {note.message}" if reason is EventReason.WORKER_NOTICE else note.message
        yield Emit(f"notice {record.holder} {note.message}", reason, f"{record.holder}: {words}", of_worker=True)


def _events(observation: Observation, status: Json, now: Now) -> list[Action]:
    events: list[Action] = []
    completed = False
    for view in observation.ranks:
        leases = [lease for lease in (view.lease, *view.slots) if lease is not None]
        events += [event for lease in leases for event in notices(lease.record, now)]
        for promotion in _promotions(view):
            if not _is_news(promotion.promoted_at, now):
                continue
            how = "Started {0} in its place: no redundant pod was ready" if promotion.cold else "Promoted {0}"
            message = f"Rank {view.rank}: {promotion.message}. {how.format(promotion.target)} (term {promotion.term})."
            reason = EventReason.COLD_START if promotion.cold else EventReason.PROMOTED
            events.append(Emit(f"promotion {view.rank} {promotion.term}", reason, message))
            events += _cause_found(status, view, promotion)
        if view.lease is not None and rank_complete(view) and _is_news(view.lease.record.renew_time, now):
            completed = True
            message = f"Rank {view.rank} has completed its training"
            events.append(Emit(f"rank {view.rank} complete", EventReason.RANK_COMPLETED, message))
        given_up = view.lease.record.given_up if view.lease is not None else None
        if given_up is not None and _is_news(given_up.at, now):
            message = f"{given_up.message}. The job has failed; its checkpoints are kept."
            events.append(Emit(f"rank {view.rank} given up", EventReason.FAILED, message))
    generation = observation.job.generation
    if status["phase"] == "Suspended":
        message = "Suspended: no pod runs. Set spec.suspend to false to go on from the newest checkpoints"
        events.append(Emit(f"suspended {generation}", EventReason.SUSPENDED, message))
    elif observation.job.status.get("phase") == "Suspended" and not observation.job.policy.suspend:
        events.append(Emit(f"resumed {generation}", EventReason.RESUMED, "Resumed: each rank gets a new pod"))
    if status["phase"] == "Succeeded" and completed:
        events.append(Emit("complete", EventReason.COMPLETED, "Every rank has completed its training"))
    return events + conditions.events(observation, now) + conditions.error_events(status)


def _cause_found(status: Json, view: RankView, promotion: Promotion) -> Iterator[Emit]:
    """Tell the cause of a loss that was not known when the rank was passed on."""
    for entry in status["failovers"]:
        if (entry["rank"], entry["term"]) == (view.rank, promotion.term) and entry.get("cause") != promotion.cause:
            message = f"Rank {view.rank}, term {promotion.term}: {entry['cause']}, {entry['message']}."
            yield Emit(f"cause {view.rank} {promotion.term}", EventReason.CAUSE_FOUND, message)


def _is_news(stamp: str | None, now: Now) -> bool:
    """Tell whether something is to be announced: a new process finds all of history, and Events are of the present.

    What no clock can place is announced: a worker's stamp may be missing, or be anything.
    """
    try:
        return stamp is None or (now.wall - datetime.fromisoformat(stamp)).total_seconds() < NEWS_S
    except (ValueError, TypeError):
        return True
