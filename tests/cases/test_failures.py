"""An exception that the script has raised is the reason of the failure, whatever the process does after it."""

import pytest

from testbed import Testbed, lines
from testbed.kube import parse_time
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import see

pytestmark = pytest.mark.cluster

BAD_RECORD = "record 180 of shard 7 cannot be decoded"
NO_INDEX = "/data/index.json does not exist: is the data set mounted?"
DEVICE_LOST = "device lost"

LOADER = """
    import queue, threading
    from understudy import Session
    from work import Sum, told

    batches = queue.Queue(maxsize=4)

    def load():
        while True:
            batches.put("a record")

    state = Sum()
    """
"""A loader thread that is no daemon: the interpreter waits for it, and it waits for room in its queue."""

LAUNCHER = "until python /code/train.py; do echo relaunching; sleep 1; done"


@pytest.mark.case(
    staged="The script raises an exception in a step, and a thread that is no daemon keeps its process alive.",
    expected="A failover at once, with the exception as its reason.",
)
def test_late_exit(bed: Testbed, seen: Note) -> None:
    script = f"""{LOADER}
    threading.Thread(target=load, name="loader").start()

    def step(index):
        batches.get()
        if told("bad-record"):
            raise ValueError("{BAD_RECORD}")
        state.step(index)

    for _ in Session(state, step).steps(100_000, save_every=50, log_every=10):
        pass
    """
    bed.apply(stage.job(bed, "late", script))
    bed.wait_settled("late")
    old = bed.logs.of(bed.primary("late", 0).name)
    stage.tell(bed, "late", "bad-record")
    entry = see.wait_failover(bed, "late", 2)
    raised = bed.wait_until(lambda: old.find(BAD_RECORD), timeout_s=see.WAIT_S, what="the exception in the log")
    took_s = parse_time(entry["firstStepAt"]) - raised.at
    seen(
        f"{entry['cause']}, “{entry['message']}”; the next step came {took_s:.1f} s after the exception, and "
        f"{entry['lostSteps']} steps were lost"
    )
    assert entry["cause"] == "ProcessExited"
    assert BAD_RECORD in entry["message"]
    see.wait_event(bed, "late", "Promoted", BAD_RECORD)


@pytest.mark.case(
    staged="The same before the first step, with the default deadlines (600 s for a start) and no redundant pod.",
    expected="The failure is named within seconds, and counted.",
)
def test_late_exit_start(bed: Testbed, seen: Note) -> None:
    script = f"""{LOADER}
    Session(state, state.step)
    threading.Thread(target=load, name="loader").start()
    raise FileNotFoundError("{NO_INDEX}")
    """
    bed.apply(stage.job(bed, "start", script, redundancy=0, failover={"maxFailuresWithoutProgress": 2}))
    cold = see.wait_event(bed, "start", "ColdStart", NO_INDEX)
    see.wait_phase(bed, "start", "Failed")
    message = see.condition(bed, "start", "Failed")["message"]
    seen(f"Event ColdStart: “{cold}”; after the second failure condition Failed: “{message}”")
    assert NO_INDEX in message
    assert {entry["cause"] for entry in bed.status("start")["failovers"]} == {"ProcessExited"}


@pytest.mark.case(
    staged="A launcher in the container starts a script that has died again. Later the pod is deleted.",
    expected="The training goes on from the newest checkpoint, and the crash is seen in the status.",
)
def test_relaunch(bed: Testbed, seen: Note) -> None:
    script = f"""
    from understudy import Session
    from work import Sum, told

    state = Sum()

    def step(index):
        if told("crash"):
            raise RuntimeError("{DEVICE_LOST}")
        state.step(index)

    session = Session(state, step)
    for _ in session.steps(100_000, save_every=50, log_every=10):
        if told("finish"):
            session.stop()
    """
    bed.apply(stage.job(bed, "again", script, launcher=LAUNCHER))
    bed.wait_settled("again")
    see.steps_on(bed, "again", more=60)
    pod = bed.primary("again", 0)
    log = bed.logs.of(pod.name)
    stage.tell(bed, "again", "crash")
    told = see.wait_event(bed, "again", "TrainerRestarted", DEVICE_LOST)
    see.steps_on(bed, "again")
    (rank,) = bed.wait_settled("again")
    assert rank.primary is not None
    assert (rank.primary.uid, rank.term) == (pod.uid, 1), "the same pod trains on, in the same term"
    resumed = [found for line in log.others if (found := lines.resumed(line))]
    assert resumed[-1][0] > 0, f"it begins from a checkpoint, not anew: {resumed}"
    (status,) = bed.status("again")["ranks"]
    assert status["trainerRestarts"] == 1
    assert DEVICE_LOST in status["lastFailure"]
    bed.delete_pod(pod.name)
    entry = see.wait_failover(bed, "again", 2)
    assert (entry["cause"], entry["lostSteps"], entry["cold"]) == ("PodDeleted", 0, False)
    stage.tell(bed, "again", "finish")
    see.wait_phase(bed, "again", "Succeeded")
    seen(
        f"Event TrainerRestarted: “{told}”; the same pod and term went on from step {resumed[-1][0]}, a deletion after "
        "it lost no step, Succeeded"
    )


@pytest.mark.case(
    staged="A launcher in the container starts a script again and again that fails at the same step each time.",
    expected="The failures are counted and told, and the job is Failed in the end.",
)
def test_relaunch_loop(bed: Testbed, seen: Note) -> None:
    script = f"""
    from understudy import Session
    from work import Sum

    state = Sum()

    def step(index):
        if index == 70:
            raise RuntimeError("{DEVICE_LOST}")
        state.step(index)

    for _ in Session(state, step).steps(700, save_every=50, log_every=10):
        pass
    """
    bed.apply(stage.job(bed, "loop", script, launcher=LAUNCHER))
    see.wait_event(bed, "loop", "TrainerRestarted", DEVICE_LOST)
    status = see.wait_phase(bed, "loop", "Failed")
    message = see.condition(bed, "loop", "Failed")["message"]
    told = len(see.events(bed, "loop", "TrainerRestarted"))
    seen(f"Failed: “{message}”; {told} Events TrainerRestarted, {status['failoverCount']} failovers")
    assert DEVICE_LOST in message
    assert status["ranks"][0]["failuresWithoutProgress"] >= 5
