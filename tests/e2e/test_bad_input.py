"""What can be wrong with a job: each is said in one sentence with what to do, nothing loops hot, no checkpoint is lost.

All jobs are applied at once and looked at one by one.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from understudy_contract.names import rank_lease_name

from testbed import Testbed, faults
from testbed.jobs import WORKER_IMAGE
from testbed.kube import JOBS, PODS, parse_time, wall
from testbed.logs import PodLog
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

FILLER = "filler"
REPEATED = ("exits-1", "exits-0", "raises", "agentless")
"""Jobs whose program fails each time."""


def claim(testbed: Testbed, name: str, size: str) -> dict[str, str]:
    """Make a claim whose volume is a file system of this size; give the job's `checkpoint`."""
    body = {
        "metadata": {"name": name, "annotations": {"localcluster/tmpfs-size": size}},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    testbed.kube.create(f"/api/v1/namespaces/{testbed.namespace}/persistentvolumeclaims", body)
    return {"claimName": name}


def init(name: str, command: str, **fields: Any) -> dict[str, Any]:
    """Build an init container."""
    return {"name": name, "image": WORKER_IMAGE, "command": ["sh", "-c", command], **fields}


PROXY = init(
    "proxy", "exit 1", restartPolicy="Always", startupProbe={"exec": {"command": ["true"]}, "periodSeconds": 60}
)
"""A native sidecar that ends before it counts as started, so that the trainer never begins."""


@pytest.fixture(scope="module")
def applied(module_bed: Testbed) -> Testbed:
    """Every bad job."""
    bed = module_bed
    for body in (
        jobs.job("unpullable", redundancy=0, image="registry.invalid/nothing:1"),
        jobs.job("agentless", redundancy=0, image="understudy-operator:dev"),
        jobs.job("exits-1", redundancy=0, script="broken.py"),
        jobs.job("exits-0", redundancy=1, script="empty.py"),
        jobs.job("stranger", redundancy=0, script="stranger.py"),
        jobs.job("misspelt", redundancy=0, trainer={"imagePulPolicy": "Never"}),
        jobs.job("unbound", checkpoint={"volumeClaimTemplate": {"spec": {"storageClassName": "nowhere"}}}),
        jobs.job("small", redundancy=0, checkpoint=claim(bed, "small", "128Ki")),
        jobs.job(
            "read-only",
            redundancy=0,
            checkpoint=claim(bed, "read-only", "4Mi"),
            arguments={"save_every": 50, "pace": 0.02},
        ),
        jobs.job("damaged", redundancy=0, arguments={"save_every": 100, "pace": 0.02}),
        jobs.job("raises", redundancy=1, arguments={"save_every": 20, "raise_at": 30}),
        jobs.job("proxied", redundancy=0, beside={"initContainers": [PROXY]}),
        jobs.job("fetching", redundancy=0, beside={"initContainers": [init("fetch", "sleep infinity")]}),
    ):
        bed.apply(body)
    return bed


@pytest.fixture
def filled(applied: Testbed) -> Iterator[Path]:
    """The volume of the job `full`, without a byte of room from its first checkpoint on."""
    bed = applied
    body = jobs.job(
        "full", redundancy=0, checkpoint=claim(bed, "full", "4Mi"), arguments={"save_every": 200, "pace": 0.02}
    )
    bed.apply(body)
    # Later there would always be room: an old checkpoint is removed before each save.
    bed.wait_until(
        lambda: (lease := bed.world.leases.get("full-0")) is not None and lease.floor is not None,
        timeout_s=see.WAIT_S,
        what="the first checkpoint of full",
    )
    folder = bed.cluster.volume_folder(bed.namespace, "full")
    with (folder / FILLER).open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    yield folder
    (folder / FILLER).unlink(missing_ok=True)


def trainer_of(bed: Testbed, job: str) -> PodLog:
    """The log of the pod that trains."""
    return bed.logs.of(bed.primary(job, 0).name)


def wait_checkpoint_above(bed: Testbed, job: str, step: int) -> None:
    bed.wait_until(
        lambda: bed.world.leases[rank_lease_name(job, 0)].floor_step > step,
        timeout_s=see.WAIT_S,
        what=f"a checkpoint of {job} above step {step}",
    )


def test_an_image_that_cannot_be_pulled(applied: Testbed) -> None:
    message = see.wait_condition(applied, "unpullable", "Training", "registry.invalid/nothing:1")
    assert "check the image's name and that the nodes can pull it" in message
    see.wait_event(applied, "unpullable", "PodPending", "registry.invalid/nothing:1")


def test_an_image_without_the_agent(applied: Testbed) -> None:
    what = "its image has no understudy-agent: build it FROM understudy-worker"
    see.wait_event(applied, "agentless", "ColdStart", what)
    message = see.wait_condition(applied, "agentless", "Failed", what, status="True")
    assert message.startswith("Rank 0 has failed 5 times without a new checkpoint; last: ")


def test_a_script_that_exits_1_at_once(applied: Testbed) -> None:
    what = "broken.py ended with exit code 1 before it called understudy"
    see.wait_event(applied, "exits-1", "ColdStart", what, "see its log for an error")
    see.wait_condition(applied, "exits-1", "Failed", "has failed 5 times", what, status="True")
    see.wait_event(applied, "exits-1", "Failed", what, "its checkpoints are kept")
    assert see.wait_phase(applied, "exits-1", "Failed").restarts == 4
    applied.wait_until(
        lambda: all(pod.phase == "Failed" for pod in applied.world.pods.values() if pod.job == "exits-1"),
        timeout_s=see.WAIT_S,
        what="the end of all pods of a failed job",
    )
    first = applied.status("exits-1").failovers[0]
    assert first.cause == "NotIntegrated"
    assert "the data set is missing: /data/train.csv" in applied.logs.of(first.source).others[0].text


def test_a_script_that_exits_0_without_training(applied: Testbed) -> None:
    what = "empty.py ended with exit code 0 before it called understudy"
    see.wait_event(applied, "exits-0", "ColdStart", what, "call understudy.keras.train or Session.steps in it")
    see.wait_condition(applied, "exits-0", "Failed", what, status="True")
    assert see.condition(applied, "exits-0", "Complete").status == "False", "an exit 0 alone completes nothing"


def test_a_field_of_the_template_that_is_misspelt(applied: Testbed) -> None:
    see.wait_condition(applied, "misspelt", "Training", 'unknown field "spec.containers[0].imagePulPolicy"')
    see.wait_event(applied, "misspelt", "InvalidTemplate", "imagePulPolicy")
    assert not [pod for pod in applied.world.pods.values() if pod.job == "misspelt"]


def test_a_claim_that_is_never_bound(applied: Testbed) -> None:
    what = "Claim unbound-checkpoints is not bound"
    message = see.wait_condition(applied, "unbound", "Training", what)
    assert "kubectl describe pvc unbound-checkpoints" in message
    see.wait_event(applied, "unbound", "PodPending", what)
    assert len([pod for pod in applied.world.pods.values() if pod.job == "unbound"]) == 1


def test_a_volume_that_is_too_small(applied: Testbed) -> None:
    what = "use a larger claim, or a lower keep"
    see.wait_event(applied, "small", "ColdStart", what, "128 KiB")
    see.wait_condition(applied, "small", "Failed", what, status="True")


def test_a_batch_that_raises_keeps_what_was_saved_and_names_the_step(applied: Testbed) -> None:
    what = "step_fn(30) raised ValueError: image 30 is cut short"
    see.wait_event(applied, "raises", "Promoted", what)
    see.wait_condition(applied, "raises", "Failed", what, "failed 5 times without a new checkpoint", status="True")
    assert applied.status("raises").ranks[0].checkpoint_step == 20
    assert see.newest(see.rank_folder(applied, "raises")).step == 20
    first = applied.status("raises").failovers[0]
    assert (first.cause, first.lost_steps) == ("ProcessExited", 10)
    applied.wait_until(
        lambda: applied.logs.of(first.source).find("ValueError: image 30 is cut short"),
        timeout_s=see.WAIT_S,
        what="the traceback in the log, as usual",
    )


def test_a_full_volume_stops_no_training_and_is_saved_to_again_once_there_is_room(
    applied: Testbed, filled: Path
) -> None:
    log = trainer_of(applied, "full")
    assert len(see.checkpoints(see.rank_folder(applied, "full", claim="full"))) < 3
    message = see.wait_event(applied, "full", "CheckpointFailed", log.pod)
    assert "No space left" in message or "full" in message
    goal = log.steps[-1].step + 60
    applied.wait_until(lambda: log.steps[-1].step >= goal, timeout_s=see.WAIT_S, what="60 more steps on a full volume")
    assert see.checkpoints(see.rank_folder(applied, "full", claim="full")), "what was saved before is still there"
    (filled / FILLER).unlink()
    wait_checkpoint_above(applied, "full", goal)
    assert trainer_of(applied, "full") is log, "nobody was replaced"


def test_a_read_only_volume_stops_no_training_and_is_saved_to_again_once_it_is_writable(applied: Testbed) -> None:
    applied.wait_settled("read-only")
    applied.cluster.set_volume_read_only(applied.namespace, "read-only", read_only=True)
    log = trainer_of(applied, "read-only")
    try:
        message = see.wait_event(applied, "read-only", "CheckpointFailed", log.pod)
        assert "ead-only" in message
        goal = log.steps[-1].step + 60
        applied.wait_until(lambda: log.steps[-1].step >= goal, timeout_s=see.WAIT_S, what="60 more steps")
    finally:
        applied.cluster.set_volume_read_only(applied.namespace, "read-only", read_only=False)
    wait_checkpoint_above(applied, "read-only", goal)
    assert trainer_of(applied, "read-only") is log, "nobody was replaced"


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(applied: Testbed) -> None:
    applied.wait_settled("damaged")
    term = applied.world.rank("damaged", 0).term
    kill = faults.KILL_TRAINER.aim(applied, applied.primary("damaged", 0))
    wait_checkpoint_above(applied, "damaged", applied.world.leases["damaged-0"].floor_step)
    wait_checkpoint_above(applied, "damaged", applied.world.leases["damaged-0"].floor_step)
    newest, older, *_ = see.checkpoints(see.rank_folder(applied, "damaged"))
    flip_bits(newest / "state.safetensors")
    kill()
    damaged, whole = newest.name.removeprefix("step-"), older.name.removeprefix("step-")
    see.wait_event(applied, "damaged", "CheckpointDamaged", f"step-{damaged}", "is damaged")

    def resumed() -> bool:
        found = applied.logs.of(applied.world.leases["damaged-0"].holder).resumed_at(term + 1)
        return found is not None and found[1] == int(whole)

    applied.wait_until(resumed, timeout_s=see.WAIT_S, what=f"the resumption from step {whole}")
    applied.wait_settled("damaged")


def flip_bits(file: Path) -> None:
    """Turn the bits of 64 bytes over, in place, as a failing disk would."""
    middle = file.stat().st_size // 2
    with file.open("r+b") as handle:
        handle.seek(middle)
        there = handle.read(64)
        handle.seek(middle)
        handle.write(bytes(byte ^ 0xFF for byte in there))
        os.fsync(handle.fileno())


def test_a_script_that_imports_nothing_of_understudy(applied: Testbed) -> None:
    message = see.wait_event(applied, "stranger", "NotIntegratedYet", "stranger.py has not called understudy yet")
    assert "call understudy.keras.train or Session.steps in it" in message
    pod = applied.world.rank("stranger", 0).primary
    assert pod is not None
    assert pod.running, "it is said, not killed"
    assert "I train in my own way" in applied.log_text(pod.name)


def test_a_sidecar_that_ends_again_and_again_before_the_trainer_begins(applied: Testbed) -> None:
    see.wait_condition(applied, "proxied", "Training", "Container proxy of pod proxied-0-0 ends again and again")
    see.wait_event(applied, "proxied", "PodPending", "kubectl logs proxied-0-0 -c proxy --previous")


def test_an_init_container_that_does_not_end(applied: Testbed) -> None:
    see.wait_condition(applied, "fetching", "Training", "Pod fetching-0-0 of rank 0", "init containers have not ended")


def test_nothing_loops_hot(applied: Testbed) -> None:
    """Last: after all of the above, what fails each time was tried seldom, and little was said about it."""
    for job in applied.kube.get(JOBS.format(applied.namespace))["items"]:
        name = job["metadata"]["name"]
        age_s = wall() - parse_time(job["metadata"]["creationTimestamp"])
        tried = applied.world.leases[rank_lease_name(name, 0)].incarnation
        # Pauses of 1, 2, 4, … 60 s; a redundant pod is tried along with its primary.
        most = (math.log2(min(age_s, 64) + 1) + age_s / 60 + 3) * (1 + job["spec"]["redundancy"])
        assert tried <= most, f"{name}: {tried} pods in {age_s:.0f} s"
        assert len(see.events(applied, name)) <= 3 * tried + 5, f"{name}: Events"
        assert name in REPEATED or name in ("small", "damaged") or tried <= 2, f"{name}: {tried} pods"
    pods = applied.kube.get(PODS.format(applied.namespace))["items"]
    ended = [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Failed", "Succeeded")]
    for name in REPEATED:
        assert len([pod for pod in ended if pod.startswith(f"{name}-")]) <= 4, "old pods are cleared away"
