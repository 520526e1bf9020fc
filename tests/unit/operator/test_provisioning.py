"""What a rank should have: Leases, pods and where they go, labels, and what is cleared away."""

import math
from dataclasses import replace

import pytest
from understudy_contract.names import Rank, Role, Term, worker_binding_name, worker_role_name
from understudy_contract.reports import Phase
from understudy_operator.core.actions import (
    AssignSlot,
    CreatePod,
    DeletePod,
    EndPod,
    FindPod,
    GrantRights,
    KeepBudgets,
    OpenRank,
    OpenSlot,
    Placement,
    Prepare,
    Relabel,
)
from understudy_operator.core.model import Claim
from understudy_operator.core.provisioning import ENDS_WITHIN_S

from tests.unit.operator.builders import (
    LEASE_S,
    NOW,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_problem,
    a_promotion,
    ago,
    checkpoint,
    ended,
    of,
    patches,
)

PENDING = Claim("digits-checkpoints", "Pending", ())


def new_job(ranks: int = 2) -> Scene:
    """A job of which nothing exists."""
    scene = Scene(ranks=ranks).given(claim=None, prepared_at=-math.inf)
    return scene.gone(*list(scene.leases), *list(scene.pods))


def opened(claim: Claim | None = PENDING) -> Scene:
    """Two ranks whose Leases name their first pods, which do not exist."""
    scene = Scene(ranks=2).given(claim=claim, pending_pods=frozenset({"digits-0-0", "digits-1-0"}))
    for rank in ("digits-0", "digits-1"):
        scene.beat(rank, none=True).lease(f"{rank}-s0", holder="", heartbeat=None, silent_s=0)
    return scene.gone(*list(scene.pods))


class TestFirstStart:
    """From nothing to the first pods."""

    def test_prepares_and_opens_the_ranks_before_any_pod(self) -> None:
        rest = new_job().decide().rest
        assert isinstance(rest[0], Prepare)
        assert [(o.term, o.holder, o.incarnation) for o in of(rest, OpenRank)] == [
            (1, "digits-0-0", 1),
            (1, "digits-1-0", 1),
        ]
        assert of(rest, CreatePod) == []

    def test_makes_one_pod_until_the_claim_is_bound(self) -> None:
        rest = opened().decide().rest
        assert [(c.name, c.slot, c.term) for c in of(rest, CreatePod)] == [("digits-0-0", None, 1)]
        assert of(rest, AssignSlot) == []
        waiting = opened().pod("digits-0-0", node=None, container=None, phase="Pending")
        assert of(waiting.decide().rest, CreatePod) == []

    def test_makes_all_pods_once_it_is_bound(self) -> None:
        bound = opened(Claim("digits-checkpoints", "Bound", ("ReadWriteMany",))).pod("digits-0-0")
        rest = bound.given(pending_pods=frozenset({"digits-1-0"})).decide().rest
        assert [c.name for c in of(rest, CreatePod)] == ["digits-1-0"]
        assert [(a.rank, a.slot) for a in of(rest, AssignSlot)] == [(0, 0), (1, 0)]

    def test_makes_another_first_pod_when_the_first_ended_unbound(self) -> None:
        scene = opened().pod("digits-0-0", phase="Failed", reason="DeadlineExceeded", container=None)
        scene.lease(RANK, holder="digits-0-1", term=Term(2), incarnation=2)
        rest = scene.given(pending_pods=frozenset({"digits-0-1", "digits-1-0"})).decide().rest
        assert [c.name for c in of(rest, CreatePod)] == ["digits-0-1"]

    @pytest.mark.parametrize(
        "trouble",
        [
            {"prepared_at": -math.inf},
            {"problems": {("CreatePod", rank): a_problem("Refused", "Pods are refused") for rank in range(2)}},
        ],
    )
    def test_makes_no_pod_of_a_job_in_trouble(self, trouble: dict[str, object]) -> None:
        assert of(opened().given(**trouble).decide().rest, CreatePod) == []

    def test_opens_nothing_while_something_is_in_the_way_and_the_other_rank_all_the_same(self) -> None:
        taken = a_problem("NameTaken", "Lease digits-0 exists already and is not this job's")
        assert [o.rank for o in of(new_job().given(problems={("OpenRank", 0): taken}).decide().rest, OpenRank)] == [1]
        scene = opened().gone("digits-0-s0", "digits-1-s0").given(problems={("OpenSlot", 1): taken})
        assert [o.rank for o in of(scene.decide().rest, OpenSlot)] == [0]

    def test_a_child_that_cannot_be_made_again_keeps_no_pod_of_a_job_at_work_from_being_made(self) -> None:
        lost = Scene().gone(UNDERSTUDY).lease(SLOT, holder="", heartbeat=None)
        refused = lost.given(problems={("Prepare", None): a_problem("Refused", "A child is refused: exceeded quota")})
        assert [a.slot for a in of(refused.decide().rest, AssignSlot)] == [0]


class TestPreparing:
    """When the children that never change are looked after."""

    def test_at_first_with_a_trial_of_the_template(self) -> None:
        assert of(new_job().decide().rest, Prepare) == [Prepare(trial=True)]

    def test_without_a_trial_where_pods_run_that_may_fill_a_quota(self) -> None:
        assert of(Scene().given(prepared_at=-math.inf).decide().rest, Prepare) == [Prepare(trial=False)]

    def test_again_within_ten_minutes(self) -> None:
        assert of(Scene().given(prepared_at=ago(200)).decide().rest, Prepare) == []
        assert of(Scene().given(prepared_at=ago(601)).decide().rest, Prepare) == [Prepare(trial=False)]

    def test_at_once_when_the_spec_has_changed(self) -> None:
        assert of(Scene().given(prepared_generation=0).decide().rest, Prepare) == [Prepare(trial=False)]

    def test_soon_when_a_primary_falls_silent_that_missing_rights_may_have_silenced(self) -> None:
        silent = Scene().lease(RANK, silent_s=LEASE_S + 1).lease(SLOT, silent_s=LEASE_S + 1)
        assert of(silent.given(prepared_at=ago(10)).decide().rest, Prepare) == []
        assert of(silent.given(prepared_at=ago(16)).decide().rest, Prepare) == [Prepare(trial=False)]

    def test_not_before_what_was_refused_may_be_tried_again(self) -> None:
        problem = a_problem("Refused", "A child is refused")
        decision = new_job().given(problems={("Prepare", None): problem}).decide()
        assert of(decision.rest, Prepare) == []
        assert decision.wake_at == NOW.at + 3
        again = new_job().given(problems={("Prepare", None): replace(problem, again_at=NOW.at)}).decide()
        assert of(again.rest, Prepare) == [Prepare(trial=True)]


class TestRights:
    """Which Leases the workers may renew."""

    def test_are_given_once_the_leases_are_there(self) -> None:
        rest = Scene(ranks=2).given(granted=frozenset()).decide().rest
        assert of(rest, GrantRights) == [GrantRights(("digits-0", "digits-0-s0", "digits-1", "digits-1-s0"))]
        assert of(Scene(ranks=2).decide().rest, GrantRights) == []

    def test_wait_for_leases_that_are_about_to_be_made(self) -> None:
        scene = Scene(ranks=2).given(granted=frozenset()).gone("digits-1-s0")
        assert (len(of(scene.decide().rest, OpenSlot)), of(scene.decide().rest, GrantRights)) == (1, [])

    def test_leave_out_a_lease_that_another_one_stands_in_the_way_of(self) -> None:
        taken = a_problem("NameTaken", "Lease digits-1 exists already and is not this job's")
        scene = Scene(ranks=2).given(granted=frozenset(), problems={("OpenRank", 1): taken}).gone("digits-1")
        (grant,) = of(scene.decide().rest, GrantRights)
        assert "digits-1" not in grant.leases
        assert "digits-0" in grant.leases

    def test_are_added_when_a_lease_is_added(self) -> None:
        scene = Scene(redundancy=2).given(granted=frozenset({(None, "digits-0"), (None, "digits-0-s0")}))
        assert of(scene.decide().rest, GrantRights) == [GrantRights(("digits-0", "digits-0-s0", "digits-0-s1"))]

    def test_are_given_to_another_account_of_the_template_at_once(self) -> None:
        template = {"spec": {"serviceAccountName": "own", "containers": []}}
        (grant,) = of(Scene().asked(template=template).decide().rest, GrantRights)
        assert grant.leases == ("digits-0", "digits-0-s0")

    def test_of_more_leases_are_another_role_and_binding(self) -> None:
        names = [(worker_role_name("j", leases), worker_role_name("j", leases[::-1])) for leases in (["a"], ["a", "b"])]
        assert [one == other for one, other in names] == [True, True]
        assert names[0] != names[1]
        assert worker_binding_name("role", None) == "role" != worker_binding_name("role", "own")


class TestBudgets:
    """What a drain may take."""

    def test_are_kept_where_another_node_can_run_a_pod(self) -> None:
        assert of(Scene().given(budgets=None).decide().rest, KeepBudgets) == [KeepBudgets(True)]
        assert of(Scene().decide().rest, KeepBudgets) == []

    def test_keep_no_drain_from_ending_where_none_can(self) -> None:
        assert of(Scene(access="ReadWriteOnce").given(budgets=None).decide().rest, KeepBudgets) == [KeepBudgets(False)]
        assert of(Scene(redundancy=0).given(budgets=True).decide().rest, KeepBudgets) == [KeepBudgets(False)]

    def test_that_are_refused_keep_no_pod_from_being_made(self) -> None:
        lost = Scene().gone(UNDERSTUDY).lease(SLOT, holder="", heartbeat=None).given(budgets=None)
        lost.given(problems={("KeepBudgets", None): a_problem("Refused", "A child is refused: exceeded quota")})
        rest = lost.decide().rest
        assert (len(of(rest, AssignSlot)), of(rest, KeepBudgets)) == (1, [])

    def test_wait_until_the_volume_is_known(self) -> None:
        assert of(opened().decide().rest, KeepBudgets) == []


def test_a_pod_that_reported_before_anybody_saw_it_is_looked_for_and_not_made_again() -> None:
    rest = Scene().gone(PRIMARY, UNDERSTUDY).given(pending_pods=frozenset({PRIMARY, UNDERSTUDY})).decide().rest
    assert of(rest, FindPod) == [FindPod(Rank(0), PRIMARY), FindPod(Rank(0), UNDERSTUDY)]
    assert of(rest, CreatePod) == []


class TestPlacement:
    """Where the pod of an emptied slot may go."""

    def placed(self, scene: Scene) -> Placement:
        scene.gone(UNDERSTUDY).beat(SLOT, none=True).given(pending_pods=frozenset({UNDERSTUDY}))
        (create,) = of(scene.decide().rest, CreatePod)
        assert (create.name, create.slot) == (UNDERSTUDY, 0)
        return create.placement

    def test_a_shared_volume_lets_pods_go_apart(self) -> None:
        assert self.placed(Scene()) == Placement(together=False, avoid_nodes=())

    def test_a_volume_of_one_pod_gets_none(self) -> None:
        scene = Scene(access="ReadWriteOncePod").gone(UNDERSTUDY).beat(SLOT, none=True)
        assert of(scene.given(pending_pods=frozenset({UNDERSTUDY})).decide().rest, CreatePod) == []

    def test_a_volume_of_one_node_keeps_them_together(self) -> None:
        scene = Scene(access="ReadWriteOnce").given(suspect_nodes=frozenset({"node-b"}))
        assert self.placed(scene) == Placement(together=True, avoid_nodes=())

    def test_a_suspect_node_is_worse_than_the_primarys(self) -> None:
        scene = Scene().given(suspect_nodes=frozenset({"node-c", "node-b"}))
        assert self.placed(scene).avoid_nodes == (("node-a", 10), ("node-b", 100), ("node-c", 100))

    def test_a_suspect_node_that_is_the_primarys_counts_as_suspect(self) -> None:
        assert self.placed(Scene().given(suspect_nodes=frozenset({"node-a"}))).avoid_nodes == (("node-a", 100),)


class TestSlots:
    """A redundant pod that is lost is replaced; its primary notices nothing."""

    @pytest.mark.parametrize(
        ("sentence", "scene", "failures"),
        [
            ("one that was deleted", Scene().pod(UNDERSTUDY, deleting_since=ago(0)), 1),
            ("one that is gone", Scene().gone(UNDERSTUDY), 1),
            ("one that is silent for a lease", Scene().lease(SLOT, silent_s=LEASE_S + 1), 1),
            ("one that ended", Scene().pod(UNDERSTUDY, container=ended(1), phase="Failed"), 1),
            ("one that gave up", Scene().released(SLOT, "ProcessExited", 1), 1),
            ("one that was promoted", Scene().promoted(), 0),
            ("one that had the rank and lost it", Scene().lease(RANK, promotion=a_promotion(source=UNDERSTUDY)), 0),
        ],
    )
    def test_replaces(self, sentence: str, scene: Scene, failures: int) -> None:
        decision = scene.decide()
        assert decision.promotions == ()
        (assign,) = of(decision.rest, AssignSlot)
        assert (assign.slot, assign.failures, assign.rank_lease.incarnation) == (0, failures, 2), sentence

    def test_backs_off_from_a_redundant_pod_that_fails_before_it_is_ready(self) -> None:
        scene = Scene().beat(SLOT, phase=Phase.STARTING).lease(SLOT, failures=2, silent_s=3.9)
        scene.released(SLOT, "ProcessExited", 1)
        assert of(scene.decide().rest, AssignSlot) == []
        assert scene.settled().decide().wake_at == pytest.approx(NOW.at + 0.1)
        (assign,) = of(scene.lease(SLOT, silent_s=4).decide().rest, AssignSlot)
        assert assign.failures == 3

    def test_backs_off_from_pods_that_vanish_before_they_report(self) -> None:
        scene = Scene().beat(SLOT, none=True).lease(SLOT, failures=2, silent_s=3.9).gone(UNDERSTUDY)
        assert of(scene.decide().rest, AssignSlot) == []
        (assign,) = of(scene.lease(SLOT, silent_s=4).decide().rest, AssignSlot)
        assert assign.failures == 3

    def test_pauses_with_its_rank_while_the_script_keeps_failing(self) -> None:
        scene = (
            Scene().gone(UNDERSTUDY).lease(RANK, failures=3, promotion=a_promotion(term=1)).lease(SLOT, silent_s=1.9)
        )
        assert of(scene.decide().rest, AssignSlot) == []
        progressed = scene.beat(RANK, checkpoint=checkpoint(110))
        assert len(of(progressed.decide().rest, AssignSlot)) == 1

    def test_names_the_node_of_a_silent_one_suspect(self) -> None:
        (assign,) = of(Scene().lease(SLOT, silent_s=LEASE_S + 1).decide().rest, AssignSlot)
        assert assign.suspect_node == "node-b"

    def test_tells_of_no_loss_where_a_pod_was_removed_as_asked(self) -> None:
        fewer = Scene(redundancy=2).asked(redundancy=1)
        rest = fewer.decide().rest
        assert [d.pod.name for d in of(rest, DeletePod)] == ["digits-0-2"]
        assert [v.record.name for v in patches(rest, "holderIdentity")] == ["digits-0-s1"]
        more = fewer.gone("digits-0-2").lease("digits-0-s1", holder="").asked(redundancy=2)
        assert [(a.slot, a.loss) for a in of(more.decide().rest, AssignSlot)] == [(1, "")]

    def test_vacates_no_slot_twice_and_none_that_is_wanted(self) -> None:
        assert patches(Scene(redundancy=2).decide().rest, "holderIdentity") == []
        assert (
            patches(
                Scene(redundancy=2).lease("digits-0-s1", holder="").asked(redundancy=1).decide().rest, "holderIdentity"
            )
            == []
        )

    @pytest.mark.parametrize(
        ("sentence", "scene", "loss"),
        [
            ("perhaps it was never made", Scene().gone(UNDERSTUDY).beat(SLOT, none=True), ""),
            ("it has reported", Scene().gone(UNDERSTUDY), "pod digits-0-1 is gone"),
            (
                "it was seen",
                Scene().gone(UNDERSTUDY).beat(SLOT, none=True).given(deleted_pods=frozenset({UNDERSTUDY})),
                "pod digits-0-1 is gone",
            ),
        ],
    )
    def test_tells_of_the_loss_of_a_pod_that_is_known_to_have_been_there(
        self, sentence: str, scene: Scene, loss: str
    ) -> None:
        assert [a.loss for a in of(scene.decide().rest, AssignSlot)] == [loss], sentence

    def test_opens_a_slot_that_has_no_lease(self) -> None:
        assert of(Scene().gone(SLOT).decide().rest, OpenSlot) == [OpenSlot(Scene().observe().ranks[0].rank, 0)]

    def test_creates_what_a_lease_names_already(self) -> None:
        scene = Scene().beat(SLOT, none=True).gone(UNDERSTUDY).given(pending_pods=frozenset({UNDERSTUDY}))
        assert [(c.name, c.slot) for c in of(scene.decide().rest, CreatePod)] == [(UNDERSTUDY, 0)]


class TestLabels:
    """The role labels say what the Leases say."""

    def test_the_old_primarys_comes_off_before_the_new_ones_goes_on(self) -> None:
        scene = Scene().promoted().pod(PRIMARY, role=Role.PRIMARY, term=Term(1), container=ended())
        scene.pod(UNDERSTUDY, role=Role.REDUNDANT, term=None)
        labels = [(r.pod.name, r.role, r.term) for r in of(scene.decide().rest, Relabel)]
        assert labels == [(PRIMARY, None, None), (UNDERSTUDY, Role.PRIMARY, 2)]

    def test_are_left_alone_when_they_are_right(self) -> None:
        assert of(Scene(ranks=2, redundancy=2).decide().rest, Relabel) == []

    def test_come_off_a_copy_that_somebody_made_for_debugging(self) -> None:
        scene = Scene().pod("digits-0-debug", role=Role.PRIMARY)
        rest = scene.decide().rest
        assert [(r.pod.name, r.role) for r in of(rest, Relabel)] == [("digits-0-debug", None)]
        assert of(rest, DeletePod) == []


class TestRemovals:
    """No Lease names them."""

    def test_an_orphan_that_may_still_run_is_deleted(self) -> None:
        scene = Scene().pod("digits-0-7").pod("digits-0-8", deleting_since=ago(1))
        assert [d.pod.name for d in of(scene.decide().rest, DeletePod)] == ["digits-0-7"]

    def test_the_last_two_ended_pods_are_kept_for_their_logs(self) -> None:
        scene = Scene()
        for incarnation in (9, 10, 3, 4):
            scene.pod(f"digits-0-{incarnation}", container=ended(), phase="Failed")
        assert [d.pod.name for d in of(scene.decide().rest, DeletePod)] == ["digits-0-3", "digits-0-4"]

    def test_an_old_primary_is_deleted_while_it_may_run(self) -> None:
        scene = Scene().promoted().pod(PRIMARY)
        assert [d.pod.name for d in of(scene.decide().rest, DeletePod)] == [PRIMARY]

    def test_one_whose_agent_has_said_its_last_word_may_end_by_itself_so_that_its_log_is_kept(self) -> None:
        ending = Scene().promoted().pod(PRIMARY, ending_since=ago(1))
        decision = ending.decide()
        assert of(decision.rest, DeletePod) == []
        assert decision.wake_at <= ago(1) + ENDS_WITHIN_S

    def test_a_sidecar_that_does_not_end_with_the_trainer_is_ended_and_the_pod_is_kept(self) -> None:
        scene = Scene().pod("digits-0-5", container=ended(1), phase="Running", ending_since=ago(5))
        decision = scene.decide()
        assert of(decision.rest, DeletePod) == []
        assert decision.wake_at <= ago(5) + ENDS_WITHIN_S
        late = scene.pod("digits-0-5", ending_since=ago(ENDS_WITHIN_S)).decide()
        assert [d.pod.name for d in of(late.rest, EndPod)] == ["digits-0-5"]

    def test_one_that_does_not_end_after_its_last_word_is_deleted(self) -> None:
        hung = Scene().promoted().pod(PRIMARY, ending_since=ago(ENDS_WITHIN_S))
        assert [d.pod.name for d in of(hung.decide().rest, DeletePod)] == [PRIMARY]


class TestLostLease:
    """Somebody deleted a rank's Lease: it is remade above all that is remembered."""

    def test_a_living_primary_keeps_the_rank_in_a_higher_term(self) -> None:
        status = {"ranks": [{"rank": 0, "term": 4}]}
        (opened,) = of(Scene().gone(RANK).status(status).decide().rest, OpenRank)
        assert (opened.term, opened.holder, opened.incarnation) == (5, PRIMARY, 2)

    def test_a_pods_term_counts_as_well(self) -> None:
        (opened,) = of(Scene().pod(PRIMARY, term=Term(6)).gone(RANK).decide().rest, OpenRank)
        assert opened.term == 7

    def test_a_name_is_never_used_again_even_if_only_the_status_remembers_it(self) -> None:
        scene = new_job(1).status(
            {
                "ranks": [{"rank": 0, "term": 3, "primary": "digits-0-4", "redundant": [{"pod": "digits-0-6"}]}],
                "failovers": [{"rank": 0, "term": 8, "from": "digits-0-2", "to": "digits-0-4", "promotedAt": ""}],
            }
        )
        (opened,) = of(scene.decide().rest, OpenRank)
        assert (opened.term, opened.holder, opened.incarnation) == (9, "digits-0-7", 8)


def test_a_job_that_inherits_waits_for_the_last_saves_of_the_earlier_one() -> None:
    scene = Scene().gone(*list(Scene().leases), *list(Scene().pods)).asked(resume="Latest")
    scene.given(predecessor_pods={"digits-0-7": True, "digits-0-6": False})
    assert of(scene.decide().rest, OpenRank) == []
    assert "last saves of an earlier job of this name: digits-0-7" in scene.condition("Training")["message"]
    assert len(of(scene.asked(resume="Never").decide().rest, OpenRank)) == 1


def test_its_pods_take_no_name_that_the_earlier_one_has_not_left_yet() -> None:
    scene = Scene(ranks=2).gone(*list(Scene(ranks=2).leases), *list(Scene(ranks=2).pods))
    scene.given(predecessor_pods={"digits-0-7": True, "digits-0-6": False})
    assert [order.holder for order in of(scene.decide().rest, OpenRank)] == ["digits-0-8", "digits-1-0"]
