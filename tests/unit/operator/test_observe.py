"""What the World keeps of jobs and pods, fed as the watches would feed it."""

import json
import math
from collections import Counter
from typing import Any

import msgspec
import pytest
from understudy_contract.lease import LeaseObject
from understudy_contract.names import Annotation, Label
from understudy_kube.client import Api, Credentials
from understudy_kube.informer import Key
from understudy_operator.core.model import Job
from understudy_operator.decoding import read_job
from understudy_operator.objects import NodeObject, PodObject
from understudy_operator.observe import observe
from understudy_operator.world import World

KEY = ("default", "digits")


def job(uid: str, version: int, name: str = "digits", **spec: Any) -> Job:
    meta = {"namespace": "default", "name": name, "uid": uid, "resourceVersion": str(version)}
    body = {"metadata": meta, "spec": {"template": {"spec": {"containers": [{"name": "trainer"}]}}, **spec}}
    return read_job(json.dumps(body).encode())


def pod(version: int, job_uid: str) -> PodObject:
    labels = {Label.JOB: "digits", Label.JOB_UID: job_uid, Label.RANK: "0"}
    meta = {"namespace": "default", "name": "digits-0-0", "uid": "p", "resourceVersion": str(version), "labels": labels}
    return msgspec.convert({"metadata": meta}, PodObject)


def a_world() -> World:
    return World(Api(Credentials("http://127.0.0.1:1", None)), lambda key: None)


def test_an_answer_that_comes_after_the_deletion_brings_no_job_back() -> None:
    world = a_world()
    world.jobs.changed(job("a", 1))
    world.jobs.forget(job("a", 2))
    world.jobs.changed(job("a", 3))
    assert observe(world, KEY, 0.0) is None


def test_a_late_word_of_an_older_job_does_not_replace_the_new_one_of_its_name() -> None:
    world = a_world()
    world.jobs.changed(job("b", 5))
    world.jobs.changed(job("a", 4))
    observed = observe(world, KEY, 0.0)
    assert observed is not None and observed.job.uid == "b"


def test_a_pod_that_was_given_another_jobs_label_is_forgotten_by_its_own() -> None:
    world = a_world()
    world.jobs.changed(job("a", 1))
    world.pods.upsert(pod(2, "a"))
    world.pods.upsert(pod(3, "x"))
    world.pods.remove(("default", "digits-0-0"), "p")
    observed = observe(world, KEY, 0.0)
    assert observed is not None and observed.ranks[0].pods == {}


def test_what_an_earlier_job_of_the_name_has_left_may_still_save_where_its_node_lives() -> None:
    world = a_world()
    world.jobs.changed(job("b", 9))
    world.nodes.upsert(node("well", "True"))
    world.nodes.upsert(node("lost", "Unknown"))
    for index, (uid, on, phase) in enumerate(
        [("a", "well", "Running"), ("a", "lost", "Running"), ("a", "well", "Failed"), ("b", "well", "Running")]
    ):
        fields = {"name": f"digits-0-{index}", "uid": f"p{index}", "resourceVersion": "4", "namespace": "default"}
        labels = {Label.JOB: "digits", Label.JOB_UID: uid, Label.RANK: "0"}
        found = {"metadata": {**fields, "labels": labels}, "spec": {"nodeName": on}, "status": {"phase": phase}}
        world.pods.upsert(msgspec.convert(found, PodObject))
    observed = observe(world, KEY, 0.0)
    assert observed is not None and observed.predecessor_pods == {
        "digits-0-0": True,
        "digits-0-1": False,
        "digits-0-2": False,
    }


@pytest.mark.parametrize("field", ["failures", "restarts", "lastFailure"])
def test_a_failure_that_a_pod_survived_wakes_its_job_and_a_mere_step_does_not(field: str) -> None:
    woken: list[Key] = []
    world = World(Api(Credentials("http://127.0.0.1:1", None)), woken.append)
    beat = {"pod": "digits-0-0", "term": 1, "phase": "training", "step": 1}
    world.leases.upsert(lease(1, beat))
    woken.clear()
    world.leases.upsert(lease(2, {**beat, "step": 2}))
    assert woken == []
    world.leases.upsert(lease(3, {**beat, "step": 2, field: "why" if field == "lastFailure" else 1}))
    assert woken == [KEY]


def lease(version: int, beat: dict[str, Any]) -> LeaseObject:
    notes = {Annotation.HEARTBEAT: msgspec.json.encode(beat).decode()}
    meta = {"namespace": "default", "name": "digits-0", "uid": "l", "resourceVersion": str(version)}
    found = {**meta, "annotations": notes, "labels": {Label.JOB: "digits"}}
    spec = {"holderIdentity": "digits-0-0", "leaseTransitions": 1, "leaseDurationSeconds": 10}
    return msgspec.convert({"metadata": found, "spec": spec}, LeaseObject)


def node(name: str, ready: str) -> NodeObject:
    meta = {"name": name, "uid": name, "resourceVersion": "3"}
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    return msgspec.convert({"metadata": meta, "status": status}, NodeObject)


def test_a_node_that_was_suspect_is_forgotten_when_another_one_is() -> None:
    now = 0.0
    world = World(Api(Credentials("http://127.0.0.1:1", None)), lambda key: None, lambda: now)
    world.jobs.changed(job("a", 1))
    for now, name in ((0.0, "first"), (30.0, "second"), (75.0, "third")):  # noqa: B007 - the clock reads it
        world.sightings.suspect(name)
    observed = observe(world, KEY, now)
    assert observed is not None and observed.suspect_nodes == {"second", "third"} == set(world.sightings._suspects)


def test_an_older_job_is_asked_about_and_believed_if_the_answer_says_so() -> None:
    world = a_world()
    world.jobs.changed(job("a", 9))
    world.jobs.changed(job("a", 4))
    known = world.jobs.known(KEY)
    assert known == job("a", 9)
    assert world.jobs.is_doubtful(KEY)
    world.jobs.changed(job("a", 4), instead_of=known)
    assert world.jobs.known(KEY) == job("a", 4)
    assert not world.jobs.is_doubtful(KEY)


def test_a_list_of_all_jobs_wins_over_what_was_known_when_it_was_asked_for() -> None:
    world = a_world()
    for told in (job("a", 9), job("c", 2, "other")):
        world.jobs.changed(told)
    before = world.jobs.all()
    world.jobs.changed(job("a", 4), instead_of=before[KEY])
    world.jobs.listed({KEY: job("a", 4)}, before)
    assert dict(world.jobs.all()) == {KEY: job("a", 4)}
    world.jobs.changed(job("a", 10))
    world.jobs.listed({}, before)
    assert list(world.jobs) == [KEY], "told of after the question"


def test_an_answer_that_a_newer_word_has_overtaken_changes_nothing() -> None:
    world = a_world()
    world.jobs.changed(job("a", 9))
    asked_of = world.jobs.known(KEY)
    world.jobs.changed(job("a", 10))
    world.jobs.changed(job("a", 9), instead_of=asked_of)
    assert world.jobs.known(KEY) == job("a", 10)


class Read(dict[Key, PodObject]):
    """Pods, and how often each was read."""

    def __init__(self, pods: dict[Key, PodObject]) -> None:
        super().__init__(pods)
        self.times: Counter[Key] = Counter()

    def __getitem__(self, key: Key) -> PodObject:
        self.times[key] += 1
        return super().__getitem__(key)


def test_a_pod_is_looked_at_once_however_many_ranks_its_job_has(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world()
    world.jobs.changed(job("a", 1, ranks=3))
    for index, rank in enumerate("210120x"):  # the last with a label that somebody has changed
        labels = {Label.JOB: "digits", Label.JOB_UID: "a", Label.RANK: rank}
        name = f"digits-{rank}-{9 - index}"
        meta = {"name": name, "uid": name, "resourceVersion": "4", "namespace": "default", "labels": labels}
        world.pods.upsert(msgspec.convert({"metadata": meta}, PodObject))
    pods = Read(dict(world.pods.records))
    monkeypatch.setattr(world.pods, "records", pods)
    observed = observe(world, KEY, 0.0)
    assert observed is not None
    assert [list(view.pods) for view in observed.ranks] == [
        ["digits-0-7", "digits-0-4"],
        ["digits-1-8", "digits-1-6"],
        ["digits-2-9", "digits-2-5"],
    ]
    assert pods.times == Counter(dict.fromkeys(pods, 1))


def test_to_observe_changes_nothing_until_it_is_taken_note_of() -> None:
    world = a_world()
    world.jobs.changed(job("a", 1))
    memo = world.jobs.memo("a")
    memo.identity, memo.prepared_at, memo.budgets = "earlier", 5.0, True
    memo.deleted_pods.add("digits-0-1")
    first, second = (observe(world, KEY, 0.0) for _ in range(2))
    assert first == second and first is not None
    assert (first.prepared, first.budgets, first.deleted_pods) == (False, None, frozenset())
    assert (memo.prepared_at, memo.deleted_pods) == (5.0, {"digits-0-1"})
    world.take_note(first)
    assert (memo.identity, memo.prepared_at, memo.deleted_pods) == ("a", -math.inf, set())
    assert observe(world, KEY, 0.0) == first
