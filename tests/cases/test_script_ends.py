"""The script's end belongs to the script: what comes after the training may take its time, within bounds."""

import pytest

from testbed import Testbed
from testbed.kube import parse_time
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import see

pytestmark = pytest.mark.cluster

PARTS = 6


@pytest.mark.case(
    staged="The training is complete, and a thread that is no daemon keeps the process alive: in one job with the "
    "default of 600 s, whose pod is deleted then, in another with 5 s.",
    expected="The status says that the training is complete and what it waits for; the job ends in bounded time, and a "
    "deletion does not begin it anew.",
)
def test_never_ends(bed: Testbed, seen: Note) -> None:
    script = """
    import threading
    from understudy import Session
    from work import Sum

    threading.Thread(target=threading.Event().wait, name="uploader").start()
    state = Sum()
    for _ in Session(state, state.step).steps(60, save_every=50, log_every=10):
        pass
    """
    bed.apply(stage.job(bed, "patient", script))
    bed.apply(stage.job(bed, "bounded", script, failover={"endDeadlineSeconds": 5}))
    see.wait_phase(bed, "patient", "Finishing")
    pod = bed.primary("patient", 0).name
    waits = see.wait_condition(bed, "patient", "Training", "waiting for the script to end", pod)
    bed.delete_pod(pod)
    see.wait_phase(bed, "patient", "Succeeded")
    told = see.wait_event(bed, "bounded", "ScriptEnded", "uploader")
    status = see.wait_phase(bed, "bounded", "Succeeded")
    seen(
        f"phase Finishing, “{waits}”; Succeeded once its pod was deleted. With 5 s: Event ScriptEnded, “{told}”, "
        "Succeeded"
    )
    assert bed.status("patient").get("failoverCount", 0) == status.get("failoverCount", 0) == 0


@pytest.mark.case(
    staged="A primary is deleted whose script has a SIGTERM handler of its own and six seconds of work in `finally`, "
    "within a grace period of 20 s.",
    expected="Handed over first; the script may finish, and is killed only at the end of the grace period.",
)
def test_cleanup(bed: Testbed, seen: Note) -> None:
    script = f"""
    import signal, sys, time
    from pathlib import Path
    from understudy import Session
    from work import ROOT, Sum

    def handle(number, frame):
        print("my SIGTERM handler runs", flush=True)
        sys.exit(143)

    signal.signal(signal.SIGTERM, handle)
    state = Sum()
    try:
        for _ in Session(state, state.step).steps(100_000, save_every=50, log_every=10):
            pass
    finally:
        for part in range(1, {PARTS} + 1):
            time.sleep(1)
            print("uploaded part", part, flush=True)
        (ROOT / "uploaded").touch()
    """
    bed.apply(stage.job(bed, "flush", script))
    bed.wait_settled("flush")
    old = bed.primary("flush", 0)
    log = bed.logs.of(old.name)
    bed.delete_pod(old.name)
    entry = see.wait_failover(bed, "flush", 2)
    bed.wait_until(lambda: log.ended, timeout_s=see.WAIT_S, what=f"the end of {old.name}")
    lines = [line.text for line in log.others if line.text.startswith(("my SIGTERM", "uploaded part"))]
    uploaded = stage.volume(bed, "flush") / "uploaded"
    left_s = uploaded.stat().st_mtime - parse_time(entry["firstStepAt"]) if uploaded.exists() else 0.0
    when = f"{left_s:.1f} s before the upload was done" if uploaded.exists() else "and the upload was never done"
    seen(
        f"{entry['cause']}, {entry['lostSteps']} steps lost; the successor took its first step {when}; the old pod "
        f"printed: {'; '.join(lines)}"
    )
    assert (entry["cause"], entry["lostSteps"], entry["cold"]) == ("PodDeleted", 0, False)
    assert lines == ["my SIGTERM handler runs", *(f"uploaded part {part}" for part in range(1, PARTS + 1))]
    assert left_s > 0, "the successor trains while the script of its predecessor finishes"


@pytest.mark.case(
    staged="The script leaves the loop by `break` once it has converged, and writes its result.",
    expected="Succeeded, or told what to call instead.",
)
def test_early_break(bed: Testbed, seen: Note) -> None:
    script = """
    from understudy import Session
    from work import Sum

    state = Sum()
    for step in Session(state, state.step).steps(5000, save_every=50, log_every=10):
        if step == 130:
            print("converged", flush=True)
            break
    print("RESULT", state.value.sum().hex(), flush=True)
    """
    bed.apply(stage.job(bed, "enough", script))
    bed.wait_until(
        lambda: bed.status("enough").get("phase") in ("Succeeded", "Failed"), timeout_s=see.WAIT_S, what="the job's end"
    )
    status = bed.status("enough")
    (rank,) = status["ranks"]
    log = bed.log_text(rank["primary"])
    said = next((line for line in log.splitlines() if "the loop was left" in line), "nothing")
    seen(f"{status['phase']}, {status.get('failoverCount', 0)} failovers; the log says “{said.partition('Z ')[2]}”")
    assert status["phase"] == "Succeeded"
    assert status.get("failoverCount", 0) == 0
    assert see.newest(see.rank_folder(bed, "enough")).step == 130
    assert "RESULT" in log


@pytest.mark.case(
    staged="A sidecar that ignores SIGTERM and does not end by itself, beside a training that is complete.",
    expected="Succeeded soon; the log of the trainer can still be read.",
)
def test_sidecar_log(bed: Testbed, seen: Note) -> None:
    script = """
    from understudy import Session
    from work import Sum

    state = Sum()
    for _ in Session(state, state.step).steps(60, save_every=50, log_every=10):
        pass
    print("FINAL RESULT", state.value.sum().hex(), flush=True)
    """
    body = stage.job(bed, "meshed", script, failover={"handOverSeconds": 1})
    containers = body["spec"]["template"]["spec"]["containers"]
    proxy = {key: containers[0][key] for key in ("image", "imagePullPolicy", "resources")}
    containers.append({"name": "proxy", "command": ["sh", "-c", "trap '' TERM; sleep infinity"], **proxy})
    bed.apply(body)
    see.wait_phase(bed, "meshed", "Succeeded")
    (rank,) = bed.status("meshed")["ranks"]
    name = rank["primary"]
    bed.wait_until(
        lambda: name not in bed.world.pods or see.pod(bed, name)["status"]["phase"] in ("Succeeded", "Failed"),
        timeout_s=see.WAIT_S,
        what="the end of the sidecar",
    )
    assert name in bed.world.pods, "the pod is kept"
    result = [line for line in see.kubectl(bed, "logs", name, "-c", "trainer").splitlines() if "FINAL" in line]
    seen(f"Succeeded; the sidecar was ended, the pod kept, and `kubectl logs` printed “{' '.join(result)}”")
    assert len(result) == 1
