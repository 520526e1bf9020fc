"""A job's life from apply to delete, in a namespace that enforces the restricted Pod Security Standard."""

from collections.abc import Iterator

import pytest

from testbed import Testbed, placement
from testbed.kube import Object
from tests.e2e import jobs, see
from tests.e2e.beds import MakeBed, described

pytestmark = pytest.mark.cluster

CHILDREN = {
    "pods": "/api/v1",
    "services": "/api/v1",
    "serviceaccounts": "/api/v1",
    "configmaps": "/api/v1",
    "secrets": "/api/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
}
"""Kinds of which a job might leave something behind, and the API of each."""
GIVEN = {"serviceaccounts": {"default"}, "configmaps": {"kube-root-ca.crt", jobs.CONFIG_MAP}}
"""What is in a namespace without a job."""
ENFORCE = "pod-security.kubernetes.io/enforce"


def names(objects: list[Object]) -> set[str]:
    return {found["metadata"]["name"] for found in objects}


@pytest.fixture(scope="module")
def restricted(make_bed: MakeBed) -> Iterator[Testbed]:
    testbed = make_bed(**{ENFORCE: "restricted"})
    with described(testbed):
        yield testbed


@pytest.fixture(scope="module")
def pair(restricted: Testbed) -> Testbed:
    """A job of two ranks that has lost the primary of rank 0 and then runs to its end."""
    bed = restricted
    bed.apply(jobs.job("pair", ranks=2, arguments={"save_every": 50, "log_every": 50}))
    bed.wait_settled("pair")
    placement.hand_over(bed, "pair", 0)
    jobs.finish(bed, "pair")
    return bed


def test_a_namespace_that_enforces_the_restricted_standard_runs_a_job(pair: Testbed) -> None:
    labels = pair.kube.get(f"/api/v1/namespaces/{pair.namespace}")["metadata"]["labels"]
    assert labels[ENFORCE] == "restricted"
    message = see.wait_condition(pair, "pair", "Complete", status="True")
    assert message == "Every rank has completed its training"


def test_kubectl_wait_sees_the_job_complete(pair: Testbed) -> None:
    said = see.kubectl(pair, "wait", "--for=condition=Complete", "tj/pair", "--timeout=180s")
    assert "condition met" in said


def test_the_loss_of_one_ranks_primary_does_not_touch_the_other_rank(pair: Testbed) -> None:
    status = see.wait_phase(pair, "pair", "Succeeded")
    assert [(entry.rank, entry.cause, entry.lost_steps) for entry in status.failovers] == [(0, "PodDeleted", 0)]
    assert [rank.term for rank in status.ranks] == [2, 1]
    for rank in status.ranks:
        assert rank.checkpoint_step == rank.step == see.newest(see.rank_folder(pair, "pair", rank.rank)).step
    one, other = (see.newest(see.rank_folder(pair, "pair", rank)) for rank in (0, 1))
    assert one.tensors != other.tensors, "each rank trains on data of its own"


def test_the_redundant_pods_of_a_complete_job_end_and_its_primaries_are_kept(pair: Testbed) -> None:
    status = see.wait_phase(pair, "pair", "Succeeded")
    primaries = {rank.primary for rank in status.ranks}
    pair.wait_until(
        lambda: all(pod.phase in ("Succeeded", "Failed") for pod in pair.world.pods.values()),
        timeout_s=see.WAIT_S,
        what="the end of all pods",
    )
    kept = {pod.name: pod.phase for pod in pair.world.pods.values()}
    assert {name: kept[name] for name in primaries} == dict.fromkeys(primaries, "Succeeded")
    assert "finished at step" in pair.log_text(min(primaries))


def test_kubectl_get_shows_the_job_in_one_line(pair: Testbed) -> None:
    slowest = min(rank.step for rank in see.wait_phase(pair, "pair", "Succeeded").ranks)
    header, line = see.kubectl(pair, "get", "tj", "pair").splitlines()
    assert header.split() == ["NAME", "PHASE", "RANKS", "REDUNDANT", "STEP", "FAILOVERS", "AGE"]
    assert line.split()[:6] == ["pair", "Succeeded", "2", "0/0", str(slowest), "1"]


def test_the_events_and_conditions_of_a_complete_job_say_what_happened_and_nothing_else(pair: Testbed) -> None:
    see.wait_event(pair, "pair", "Completed", "Every rank has completed its training")
    see.wait_event(pair, "pair", "RankCompleted", "Rank 0 has completed its training")
    see.wait_event(pair, "pair", "RankCompleted", "Rank 1 has completed its training")
    promoted = see.wait_event(pair, "pair", "Promoted", "Rank 0", "handed over after step")
    assert promoted.endswith("(term 2).")
    told = {(event["type"], event["reason"]) for event in see.events(pair, "pair")}
    assert told == {("Normal", "Completed"), ("Normal", "RankCompleted"), ("Warning", "Promoted")}
    conditions = {c.type: (c.status, c.reason) for c in pair.status("pair").conditions}
    assert conditions == {
        "Training": ("False", "Completed"),
        "Redundant": ("False", "Completed"),
        "NodeFaultTolerant": ("False", "Completed"),
        "Complete": ("True", "Completed"),
        "Failed": ("False", "NotFailed"),
        "ControlPlaneDegraded": ("False", "Heard"),
    }
    assert "Every rank has completed its training" in see.kubectl(pair, "describe", "tj", "pair")


def test_deleting_a_job_leaves_no_child_but_its_claim_and_a_job_of_its_name_starts_afresh_beside_it(
    pair: Testbed,
) -> None:
    see.wait_phase(pair, "pair", "Succeeded")
    before = see.rank_folder(pair, "pair")
    see.kubectl(pair, "delete", "tj", "pair", "--timeout=120s")
    for kind, path in CHILDREN.items():
        given = GIVEN.get(kind, set())
        what = f"the end of the job's {kind}"
        see.until(pair, f"{path}/namespaces/{pair.namespace}/{kind}", lambda left: names(left) <= given, what)  # noqa: B023
    claims = pair.kube.get(f"/api/v1/namespaces/{pair.namespace}/persistentvolumeclaims")["items"]
    assert names(claims) == {"pair-checkpoints"}
    assert see.checkpoints(before), "deleting a job loses no checkpoint"

    old = before.parent.name
    pair.apply(jobs.job("pair", redundancy=0, arguments={"pace": 0.05}))
    pair.wait_settled("pair")
    after = see.rank_folder(pair, "pair")
    assert after.parent.parent == before.parent.parent, "the same volume"
    assert after.parent.name != old
    assert "starting from step 0 as primary of term 1" in pair.log_text("pair-0-0")
    assert see.checkpoints(before), "and what lies there is left alone"
    pair.delete_job("pair")


def test_without_redundancy_a_lost_primary_is_replaced_by_a_cold_start_from_its_checkpoint(bed: Testbed) -> None:
    bed.apply(jobs.job("alone", redundancy=0, arguments={"save_every": 50}))
    bed.wait_settled("alone")
    first = bed.primary("alone", 0)
    log = bed.logs.of(first.name)
    bed.wait_until(lambda: log.steps and log.steps[-1].step > 60, timeout_s=see.WAIT_S, what="step 60")
    bed.delete_pod(first.name)
    bed.wait_until(
        lambda: bed.world.rank("alone", 0).term == 2 and bed.world.rank("alone", 0).training,
        timeout_s=see.WAIT_S,
        what="the cold start",
    )
    second = bed.logs.of(bed.primary("alone", 0).name)
    bed.wait_until(lambda: second.resumed_at(2), timeout_s=see.WAIT_S, what="the line of the resumption")
    resumed = second.resumed_at(2)
    last = log.last_step(1)
    assert resumed is not None
    assert last is not None
    assert resumed[1] == last.step, "it was handed over to whoever comes"

    def told() -> bool:
        return bool(bed.status("alone").failovers) and bed.status("alone").failovers[0].first_step_at is not None

    bed.wait_until(told, timeout_s=see.WAIT_S, what="the failover in the status")
    (entry,) = bed.status("alone").failovers
    assert (entry.cause, entry.cold, entry.lost_steps) == ("PodDeleted", True, 0)
    assert (bed.status("alone").restarts, bed.status("alone").redundant) == (1, "0/0")
    assert "spec.redundancy is 0" in see.condition(bed, "alone", "Redundant").message
    see.wait_event(bed, "alone", "ColdStart", "no redundant pod was ready")


def test_a_redundant_pod_is_made_cheap_and_keeps_that_as_primary(bed: Testbed) -> None:
    cheap = {"resources": {"requests": {"cpu": "5m", "memory": "90Mi"}, "limits": {"memory": "512Mi"}}}
    bed.apply(jobs.job("cheap", redundantTemplate=cheap, arguments={"save_every": 20, "pace": 0.02}))
    (before,) = bed.wait_settled("cheap")
    assert before.primary is not None

    def asked_for(pod: str) -> str:
        return str(see.pod(bed, pod)["spec"]["containers"][0]["resources"]["requests"]["cpu"])

    (redundant,) = before.redundant
    assert (asked_for(before.primary.name), asked_for(redundant.name)) == ("10m", "5m")
    bed.delete_pod(before.primary.name)
    bed.wait_until(
        lambda: bed.world.rank("cheap", 0).term == before.term + 1, timeout_s=see.WAIT_S, what="the promotion"
    )
    (after,) = bed.wait_settled("cheap")
    assert after.primary is not None
    assert (after.primary.name, asked_for(after.primary.name)) == (redundant.name, "5m")
