"""The children of a job are made, kept and removed with few requests."""

from tests.unit.operator.moves import wants
from tests.unit.operator.stage import (
    LEASES,
    MINUTE,
    Stage,
    full,
    refusing,
    stage_test,
)


@stage_test
async def test_a_job_is_brought_up_and_then_left_alone(stage: Stage) -> None:
    first = await stage.run(1)
    assert (first["TRY"], first["POST pods"], first["POST leases"]) == (1, 2, 2)
    later = await stage.run(MINUTE)
    assert later.total() <= 3, f"pods that are not scheduled yet, and nothing else: {later}"


@stage_test
async def test_no_right_is_given_to_a_lease_that_is_not_the_jobs(stage: Stage) -> None:
    foreign = {"metadata": {"name": "digits-0", "uid": "other", "namespace": "default"}, "spec": {}}
    stage.server._put(f"{LEASES}/digits-0", foreign)
    wants(stage, ranks=2)
    stage.announce()
    await stage.run(MINUTE)
    assert _granted(stage) == [["digits-1", "digits-1-s0"]]
    assert stage.condition("Training")["reason"] == "NameTaken"
    del stage.server.objects[f"{LEASES}/digits-0"]
    await stage.run(MINUTE)
    assert min(_granted(stage)) == ["digits-0", "digits-0-s0", "digits-1", "digits-1-s0"]


def _granted(stage: Stage) -> list[list[str]]:
    """The Leases that each Role lets workers renew; each has its binding."""
    roles = {path: body for path, body in stage.server.objects.items() if "/roles/" in path}
    assert all(path.replace("/roles/", "/rolebindings/") in stage.server.objects for path in roles)
    return [role["rules"][0]["resourceNames"] for role in roles.values()]


@stage_test
async def test_budgets_that_are_not_wanted_are_removed_and_then_asked_about_no_more(stage: Stage) -> None:
    await stage.run(1)
    assert len(stage.budgets()) == 1
    wants(stage, generation=2, redundancy=0)
    stage.announce()
    await stage.run(1)
    assert stage.budgets() == []
    reads: list[str] = []

    def note(verb: str, path: str) -> None:
        reads.extend([path] if verb == "GET" else [])

    with refusing(stage, note):
        await stage.run(11 * MINUTE)
    assert any("/roles/" in path for path in reads), "the other children are made sure of"
    assert not any("/poddisruptionbudgets/" in path for path in reads)


@stage_test
async def test_budgets_that_were_made_before_one_was_refused_are_removed_when_none_is_wanted(stage: Stage) -> None:
    for generation, redundancy in enumerate((0, 1, 0), 1):
        wants(stage, generation=generation, ranks=3, redundancy=redundancy)
        stage.announce()
        with refusing(stage, lambda verb, _: full(verb, "") if len(stage.budgets()) == 2 else None):
            await stage.run(3)
        assert len(stage.budgets()) == 2 * redundancy


@stage_test
async def test_a_child_that_was_deleted_is_made_again_within_minutes(stage: Stage) -> None:
    await stage.run(1)
    role = next(path for path in stage.server.objects if "/roles/" in path)
    del stage.server.objects[role]
    asked = await stage.run(11 * MINUTE)
    assert role in stage.server.objects
    assert asked["TRY"] == 0, "pods exist: a trial would ask for room that they fill"
