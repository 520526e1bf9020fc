"""What an earlier job of the same name left without an owner is adopted or named as a whole; nothing runs beside it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Label, Term, worker_role_name
from understudy_kube.informer import Identity
from understudy_operator.core.actions import Adopt, OpenRank
from understudy_operator.core.adoption import find_identity
from understudy_operator.core.model import Claim, Leftover

from tests.unit.operator.builders import PRIMARY, RANK, SLOT, UNDERSTUDY, Scene, a_problem, of
from tests.unit.operator.stage import JOB, LEASES, MINUTE, PODS, Stage, stage_test

OLD, NEW = "job", "another"
CORE = "/api/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
ROLE = worker_role_name("digits", ("digits-0", "digits-0-s0"))
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


def left(name: str, *, uid: str = OLD, owner: str = "", job: str = "digits") -> LeaseRecord:
    """A Lease as an earlier job leaves it."""
    labels = {Label.JOB: job, Label.JOB_UID: uid}
    return LeaseRecord(name, "default", f"uid-{name}", "7", "", Term(1), 9, None, owner_uid=owner, labels=labels)


Bend = Callable[[dict[str, LeaseRecord]], object]


@pytest.mark.parametrize(
    ("sentence", "bend", "told", "found"),
    [
        ("both are orphans", lambda leases: None, None, OLD),
        ("one is adopted already", lambda leases: leases.update({"digits-1": left("digits-1", owner=NEW)}), None, OLD),
        ("they are this job's own", lambda leases: [*map(leases.pop, tuple(leases))], None, ""),
        ("a rank has none", lambda leases: leases.pop("digits-1"), None, ""),
        ("there is a rank more", lambda leases: leases.update({"digits-2": left("digits-2")}), None, ""),
        ("they have two uids", lambda leases: leases.update({"digits-1": left("digits-1", uid="x")}), None, ""),
        (
            "the collector removes one",
            lambda leases: leases.update({"digits-1": left("digits-1", owner=OLD)}),
            None,
            "",
        ),
        ("another job has one", lambda leases: leases.update({"digits-1": left("digits-1", job="other")}), None, ""),
        ("the uid is another job's", lambda leases: leases.update(lives(leases)), None, ""),
        ("the status remembers it", lambda leases: [*map(leases.pop, tuple(leases))], OLD, OLD),
        ("the status names another job", lambda leases: [*map(leases.pop, tuple(leases))], "lives", ""),
        ("the status is no uid", lambda leases: [*map(leases.pop, tuple(leases))], "../x", ""),
        ("the status is empty", lambda leases: [*map(leases.pop, tuple(leases))], "", ""),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_an_identity_is_adopted_whole_or_not_at_all(sentence: str, bend: Bend, told: Any, found: str) -> None:
    leases = {name: left(name) for name in ("digits-0", "digits-1")}
    bend(leases)
    assert find_identity("digits", NEW, told, 2, leases.get, lambda uid: uid == "lives") == found


def lives(leases: Mapping[str, LeaseRecord]) -> dict[str, LeaseRecord]:
    return {name: left(name, uid="lives") for name in leases}


class TestOwners:
    """Who is made the owner of what."""

    def test_every_lease_and_pod_without_one_gets_one(self) -> None:
        scene = Scene().lease(RANK, owner_uid="").lease(SLOT, owner_uid="")
        scene.pod(PRIMARY, orphaned=True).pod(UNDERSTUDY, orphaned=True)
        adopted = {(action.kind, action.name) for action in of(scene.decide().rest, Adopt)}
        assert adopted == {("leases", RANK), ("leases", SLOT), ("pods", PRIMARY), ("pods", UNDERSTUDY)}

    def test_a_copy_that_somebody_made_for_debugging_gets_none(self) -> None:
        scene = Scene().pod("copy-0-0", orphaned=True)
        assert of(scene.decide().rest, Adopt) == []


def new_job(**given: Any) -> Scene:
    """A job whose Leases are not its own."""
    scene = Scene().gone(PRIMARY, UNDERSTUDY, RANK, SLOT)
    leftovers = (Leftover(RANK, OLD, going=False), Leftover("digits-1", OLD, going=False))
    return scene.given(**{"leftovers": leftovers, "predecessor_pods": {}, **given})


class TestLeftovers:
    """What cannot be adopted."""

    def test_nothing_is_opened_beside_them(self) -> None:
        assert of(new_job().decide().rest, OpenRank) == []
        assert of(new_job(leftovers=()).decide().rest, OpenRank) != []

    def test_who_trains_is_named_and_no_lease_is_advised_to_be_deleted(self) -> None:
        scene = new_job(predecessor_pods={"digits-0-3": True, "digits-1-0": True, "digits-0-2": False})
        condition = scene.condition("Training")
        assert condition["reason"] == "NameTaken" and "digits-0, digits-1" in condition["message"]
        assert "`kubectl delete pod digits-0-3 digits-1-0 -n default`" in condition["message"]
        assert "delete lease" not in condition["message"]
        assert [event.reason for event in scene.events().values()] == ["NameTaken"]

    def test_once_nobody_runs_one_command_removes_them_all(self) -> None:
        message = new_job(predecessor_pods={"digits-0-2": False}).condition("Training")["message"]
        assert "`kubectl delete lease digits-0 digits-1 -n default`" in message
        assert "spec.checkpoint.resume: Latest" in message

    def test_those_that_go_by_themselves_are_waited_for(self) -> None:
        condition = new_job(leftovers=(Leftover(RANK, OLD, going=True),)).condition("Training")
        assert (condition["reason"], "are being removed: digits-0" in condition["message"]) == ("Starting", True)

    def test_the_condition_is_written_although_the_status_knows_more_of_the_rank(self) -> None:
        scene = new_job(leftovers=()).status({"ranks": [{"rank": 0, "primary": PRIMARY}], "phase": "Running"})
        assert scene.written() == scene.wire(), "its Lease is made anew: for that moment nothing is written"
        scene.given(leftovers=(Leftover(RANK, OLD, going=False),))
        assert scene.condition("Training")["reason"] == "NameTaken"


class TestBeside:
    """A training that starts at 0 beside an earlier one's checkpoints."""

    CLAIM = Claim("digits-checkpoints", "Bound", ("ReadWriteMany",), OLD)

    def message(self, claim: Claim, **policy: Any) -> str:
        scene = Scene().lease(RANK, heartbeat=None).gone(PRIMARY, UNDERSTUDY, SLOT).given(claim=claim).asked(**policy)
        found: str = scene.given(pending_pods=frozenset({PRIMARY})).condition("Training")["message"]
        return found

    def test_is_told_before_it_begins(self) -> None:
        said = "from step 0, beside what an earlier job of this name may have left on claim digits-checkpoints"
        assert said in self.message(self.CLAIM)
        assert "resume: Latest" in self.message(self.CLAIM)

    def test_but_not_on_a_claim_of_its_own_or_where_it_goes_on(self) -> None:
        assert "step 0" not in self.message(Claim("c", "Bound", ("ReadWriteMany",), "job-uid"))
        assert "step 0" not in self.message(Claim("c", "Bound", ("ReadWriteMany",)))
        assert "step 0" not in self.message(self.CLAIM, resume="Latest")


async def at_work(stage: Stage) -> None:
    await stage.run(1)
    for pod, node in ("digits-0-0", "a"), ("digits-0-1", "b"):
        stage.runs(pod, node)
    stage.reports("digits-0-0", "digits-0", "training")
    stage.reports("digits-0-1", "digits-0-s0", "ready")
    await stage.run(1)


def strip(stage: Stage, *, seen: bool = True) -> None:
    """Let the garbage collector take the children's owner away, and the watches hear of it, or not yet."""
    for path, body in list(stage.server.objects.items()):
        if body["metadata"].pop("ownerReferences", None) is None:
            continue
        stage.server._put(path, body)
    if seen:
        hear(stage)


def hear(stage: Stage) -> None:
    """Let the watches of pods and Leases tell how these are."""
    for path, body in stage.server.objects.items():
        if path.startswith((PODS, LEASES)):
            informer: Any = stage.world.pods if path.startswith(PODS) else stage.world.leases
            informer.upsert(json.dumps(body).encode())


def orphan(stage: Stage, *, uid: str = NEW, seen: bool = True, **spec: Any) -> None:
    """Let the job be deleted without its children, and a new one of its name be made."""
    strip(stage, seen=seen)
    old = stage.server.objects[JOB]
    stage.world.jobs.forget(Identity("digits", "default", OLD))
    meta = {"namespace": "default", "name": "digits", "uid": uid}
    stage.server._put(JOB, {"metadata": meta, "spec": {**old["spec"], **spec}})
    stage.announce()


def owner_of(stage: Stage, path: str) -> str | None:
    owners = stage.server.objects[path]["metadata"].get("ownerReferences") or [{}]
    found: str | None = owners[0].get("uid")
    return found


@stage_test
async def test_a_job_that_was_deleted_without_its_children_trains_on_under_the_new_one(stage: Stage) -> None:
    await at_work(stage)
    before = json.loads(json.dumps(stage.server.objects))
    orphan(stage)
    asked = await stage.run(2)
    stage.reports("digits-0-0", "digits-0", "training")
    stage.reports("digits-0-1", "digits-0-s0", "ready")
    await stage.run(1)
    assert (asked["POST pods"], asked["POST leases"], asked["DELETE"]) == (0, 0, 0)
    assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1"]
    children = [
        *(f"{PODS}/digits-0-{n}" for n in range(2)),
        *(f"{LEASES}/{name}" for name in ("digits-0", "digits-0-s0")),
        f"{CORE}/services/digits",
        f"{CORE}/serviceaccounts/digits-worker",
        f"{RBAC}/roles/{ROLE}",
        f"{RBAC}/rolebindings/{ROLE}",
        f"{BUDGETS}/digits-0",
    ]
    assert {path: owner_of(stage, path) for path in children} == dict.fromkeys(children, NEW)
    for path in children:
        body, was = stage.server.objects[path], before[path]
        assert body["metadata"]["labels"] == was["metadata"]["labels"], path
        if not path.startswith(LEASES):
            assert body.get("spec") == was.get("spec"), path
    assert stage.status["adoptedUid"] == OLD
    assert stage.condition("Training")["status"] == stage.condition("Redundant")["status"] == "True"
    assert [event["reason"] for event in stage.events()] == ["Adopted"]


@stage_test
async def test_an_owner_that_is_taken_away_while_the_job_is_deleted_is_not_given_back(stage: Stage) -> None:
    await at_work(stage)
    strip(stage)
    meta = stage.server.objects[JOB]["metadata"]
    meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]}  # nobody has told the operator yet
    await stage.run(10)
    assert {owner_of(stage, f"{PODS}/digits-0-{n}") for n in range(2)} == {None}
    assert owner_of(stage, f"{LEASES}/digits-0") is None


@stage_test
async def test_what_was_adopted_before_the_watches_told_of_the_leases_says_the_same_as_they(stage: Stage) -> None:
    await at_work(stage)
    orphan(stage, seen=False)
    known = dict(stage.world.leases.records)
    for key, record in known.items():
        stage.world.leases.remove(key, record.uid)
    stage.world.leases._deleted.clear()  # they were never told of, rather than deleted
    await stage.run(2)
    hear(stage)
    await stage.run(2)
    service = stage.server.objects[f"{CORE}/services/digits"]
    assert service["metadata"]["labels"][Label.JOB_UID] == service["spec"]["selector"][Label.JOB_UID] == OLD
    assert stage.status["adoptedUid"] == OLD and owner_of(stage, f"{LEASES}/digits-0") == NEW


@stage_test
async def test_what_is_made_later_stays_in_the_old_folder_and_terms_go_on(stage: Stage) -> None:
    await at_work(stage)
    orphan(stage)
    await stage.run(2)
    stage.releases("digits-0")
    await stage.run(1)
    stage.reports("digits-0-1", "digits-0", "training")
    await stage.run(6)
    lease = stage.server.objects[f"{LEASES}/digits-0"]["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("digits-0-1", 2)
    made = stage.pods()["digits-0-2"]
    (trainer,) = made["spec"]["containers"]
    assert {"name": "UNDERSTUDY_JOB_UID", "value": OLD} in trainer["env"]
    assert made["metadata"]["labels"][Label.JOB_UID] == OLD
    assert made["metadata"]["ownerReferences"][0]["uid"] == NEW


@stage_test
async def test_a_lease_that_is_deleted_after_the_adoption_does_not_start_the_job_anew(stage: Stage) -> None:
    await at_work(stage)
    orphan(stage)
    await stage.run(2)
    for name in ("digits-0", "digits-0-s0"):
        gone = stage.server.objects.pop(f"{LEASES}/{name}")
        stage.world.leases.remove(("default", name), gone["metadata"]["uid"])
    await stage.run(2)
    lease = stage.server.objects[f"{LEASES}/digits-0"]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("digits-0-0", 2)
    assert lease["metadata"]["labels"][Label.JOB_UID] == OLD


@stage_test
async def test_leases_that_seem_to_go_are_waited_for(stage: Stage) -> None:
    await at_work(stage)
    orphan(stage, seen=False)
    asked = await stage.run(10)
    assert (asked["POST pods"], asked["POST leases"], asked["PATCH"]) == (0, 0, 0)
    hear(stage)
    await stage.run(2)
    assert stage.status["adoptedUid"] == OLD and owner_of(stage, f"{LEASES}/digits-0") == NEW


@stage_test
async def test_a_job_of_another_shape_waits_and_trains_once_the_leases_are_gone(stage: Stage) -> None:
    await at_work(stage)
    labels = {Label.JOB: "digits", Label.JOB_UID: OLD}
    meta = {"name": "of-somebody", "namespace": "default", "uid": "x", "labels": labels}
    stage.world.leases.upsert(stage.server._put(f"{LEASES}/of-somebody", {"metadata": meta, "spec": {}}))
    orphan(stage, ranks=2)
    await stage.run(MINUTE)
    assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1"]
    message = stage.condition("Training")["message"]
    assert "`kubectl delete pod digits-0-0 digits-0-1 -n default`" in message
    assert "Leases digits-0, digits-0-s0 in namespace default are left" in message
    assert "adoptedUid" not in stage.status
    others = [f"{CORE}/serviceaccounts/digits-worker", f"{RBAC}/roles/{ROLE}", f"{CORE}/services/digits"]
    assert {owner_of(stage, path) for path in others} == {None}, (
        "they would go with this job, and are those pods' rights"
    )
    for collection, kind in ((stage.world.pods, PODS), (stage.world.leases, LEASES)):
        for path in [path for path in stage.server.objects if path.startswith(f"{kind}/")]:
            gone = stage.server.objects.pop(path)
            collection.remove(("default", gone["metadata"]["name"]), gone["metadata"]["uid"])  # type: ignore[attr-defined]
    await stage.run(MINUTE)
    assert {"digits-0-0", "digits-1-0"} <= set(stage.pods())
    service = stage.server.objects[f"{CORE}/services/digits"]
    assert owner_of(stage, f"{CORE}/services/digits") == NEW
    assert service["spec"]["selector"][Label.JOB_UID] == NEW, "it is not that of the earlier job any more"


@stage_test
async def test_a_lease_of_another_name_blocks_nothing_whatever_its_labels_say(stage: Stage) -> None:
    for name in ("other", "digits-7", "digits-x-0"):
        labels = {Label.JOB: "digits", Label.JOB_UID: "x"}
        meta = {"name": name, "namespace": "default", "uid": name, "labels": labels}
        stage.world.leases.upsert(stage.server._put(f"{LEASES}/{name}", {"metadata": meta, "spec": {}}))
    await stage.run(2)
    assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1"]


@stage_test
async def test_strangers_in_the_way_are_named_at_once_with_one_command(stage: Stage) -> None:
    account = f"{CORE}/serviceaccounts/digits-worker"
    for path, owners in ((f"{CORE}/services/digits", []), (account, [{"uid": "x"}])):
        meta = {"name": path.rpartition("/")[2], "namespace": "default", "uid": path, "ownerReferences": owners}
        stage.server._put(path, {"metadata": {**meta, "labels": {Label.JOB: "digits"} if owners else {}}})
    await stage.run(MINUTE)
    message = stage.condition("Training")["message"]
    assert "Service digits, ServiceAccount digits-worker in namespace default exist already" in message
    assert "`kubectl delete service/digits serviceaccount/digits-worker -n default`" in message


def test_leases_of_strangers_and_other_objects_are_named_in_one_message() -> None:
    problems = {
        ("OpenRank", 0): a_problem("NameTaken", "Lease digits-0 is not this job's."),
        ("OpenRank", 1): a_problem("NameTaken", "Lease digits-1 is not this job's."),
        ("Prepare", None): a_problem("NameTaken", "Service digits is not this job's."),
        ("CreatePod", 0): a_problem("NameTaken", "hidden", passing=True),
    }
    message = new_job(leftovers=(), problems=problems).condition("Training")["message"]
    assert message == (
        "Lease digits-0 is not this job's. Lease digits-1 is not this job's. Service digits is not this job's."
    )


@stage_test
async def test_leases_that_come_from_a_backup_without_their_pods_go_on_with_a_new_pod(stage: Stage) -> None:
    await at_work(stage)
    orphan(stage)
    for name in ("digits-0-0", "digits-0-1"):
        gone = stage.server.objects.pop(f"{PODS}/{name}")
        stage.world.pods.remove(("default", name), gone["metadata"]["uid"])
    await stage.run(MINUTE)
    lease = stage.server.objects[f"{LEASES}/digits-0"]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("digits-0-2", 2)
    (trainer,) = stage.pods()["digits-0-2"]["spec"]["containers"]
    assert {"name": "UNDERSTUDY_JOB_UID", "value": OLD} in trainer["env"]


@stage_test
async def test_a_lease_that_somebody_holds_is_not_advised_to_be_deleted(stage: Stage) -> None:
    meta = {"name": "digits-0", "namespace": "default", "uid": "x", "labels": {}}
    stage.server._put(f"{LEASES}/digits-0", {"metadata": meta, "spec": {"holderIdentity": "somebody"}})
    await stage.run(10)
    message = stage.condition("Training")["message"]
    assert "is held by somebody" in message and "kubectl delete" not in message
