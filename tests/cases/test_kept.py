"""What is kept never blocks what is needed: ended pods, children of an earlier job, a volume of somebody else's."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Testbed
from testbed.kube import JOBS
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import see

pytestmark = pytest.mark.cluster

CRASHES = 3
WORKER = 10001
"""User and group of the worker's processes."""

STEPS = """
    from understudy import Session
    from work import Sum, told

    state = Sum()

    def step(index):
        if told("crash"):
            raise RuntimeError("a transient error")
        state.step(index)

    for _ in Session(state, step).steps(100_000, save_every=50, log_every=10):
        pass
    """


@pytest.mark.case(
    staged="A quota of three pods, and a script that fails three times, with progress between. Ended pods are kept for "
    "their logs.",
    expected="Ended pods make room for those that are needed.",
)
def test_quota_count(bed: Testbed, seen: Note) -> None:
    quota = {"metadata": {"name": "objects"}, "spec": {"hard": {"count/pods": "3"}}}
    bed.kube.create(f"/api/v1/namespaces/{bed.namespace}/resourcequotas", quota)
    bed.apply(stage.job(bed, "counted", STEPS))
    entries = []
    for crash in range(CRASHES):
        bed.wait_settled("counted")
        see.steps_on(bed, "counted", more=60)
        stage.tell(bed, "counted", "crash")
        entries.append(see.wait_failover(bed, "counted", 2 + crash))
    bed.wait_settled("counted")
    kept = [name for name, pod in stage.pods(bed, "counted").items() if pod.terminated]
    refused = [event["message"] for event in see.events(bed, "counted", "Refused")]
    cold = sum(entry["cold"] for entry in entries)
    seen(
        f"the redundant pod came back after each of {CRASHES} failures, {cold} cold starts; {len(kept)} ended pod kept "
        f"at the end; Events Refused: {refused or 'none'}"
    )
    assert cold == 0
    assert len(kept) <= 1
    assert not any("grant the account" in message for message in refused)


@pytest.mark.case(
    staged="A TrainingJob is deleted without its children (`--cascade=orphan`) and applied again, as after a restore "
    "from a backup.",
    expected="It adopts them, or says in one go what to delete; the checkpoints are found.",
)
def test_restored(bed: Testbed, seen: Note) -> None:
    body = stage.job(bed, "moved", STEPS)
    bed.apply(body)
    (before,) = bed.wait_settled("moved")
    see.steps_on(bed, "moved", more=60)
    log = bed.logs.of(bed.primary("moved", 0).name)
    see.kubectl(bed, "delete", "tj", "moved", "--cascade=orphan", "--timeout=60s")
    bed.kube.create(JOBS.format(bed.namespace), {**body, "metadata": {"name": "moved", "namespace": bed.namespace}})
    told = see.wait_event(bed, "moved", "Adopted")
    (after,) = bed.wait_settled("moved")
    step = log.steps[-1].step
    bed.wait_until(lambda: log.steps[-1].step > step, timeout_s=see.WAIT_S, what=f"a step of {log.pod} after {step}")
    assert before.primary is not None and after.primary is not None
    same = (before.primary.uid, before.term) == (after.primary.uid, after.term)
    seen(f"Event Adopted: “{told}”; the same primary trains on in the same term: {'yes' if same else 'no'}")
    assert same
    assert not see.events(bed, "moved", "NameTaken")


@pytest.fixture
def root_owned(bed: Testbed) -> Iterator[Path]:
    """A folder of root's, and a claim `export` for it. Like NFS, hostPath is not given to the pod's fsGroup."""
    name = f"understudy-{bed.namespace}-{uuid.uuid4().hex[:6]}"
    folder = Path("/var/tmp", name)
    folder.mkdir(mode=0o755)
    size = {"storage": "64Mi"}
    common = {"storageClassName": name, "accessModes": ["ReadWriteMany"]}
    volumes = "/api/v1/persistentvolumes"
    path = {"path": str(folder), "type": "Directory"}
    bed.kube.create(volumes, {"metadata": {"name": name}, "spec": {**common, "capacity": size, "hostPath": path}})
    claim = {"metadata": {"name": "export"}, "spec": {**common, "resources": {"requests": size}}}
    bed.kube.create(f"/api/v1/namespaces/{bed.namespace}/persistentvolumeclaims", claim)
    try:
        yield folder
    finally:
        bed.kube.delete(f"{volumes}/{name}")
        shutil.rmtree(folder)


@pytest.mark.case(
    staged="A claim on a folder that root owns and fsGroup does not reach; then it is given to the worker's user.",
    expected="The message names user and folder, and a remedy that works there; training begins once it is mended.",
)
def test_root_volume(bed: Testbed, root_owned: Path, seen: Note) -> None:
    bed.apply(stage.job(bed, "export", STEPS, checkpoint={"claimName": "export"}))
    message = see.wait_condition(bed, "export", "Training", f"uid {WORKER}", f"gid {WORKER}")
    os.chown(root_owned, WORKER, WORKER)
    bed.wait_settled("export")
    seen(f"condition Training: “{message}”; it trained after that chown")
    for words in ("owner 0", f"chown {WORKER}:{WORKER}", "fsGroup had no effect"):
        assert words in message
    assert bed.status("export").get("failoverCount", 0) == 0
    assert bed.status("export")["ranks"][0].get("failuresWithoutProgress", 0) == 0
