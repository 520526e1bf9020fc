"""Programs that run in pods: the training without Understudy, and the stopwatch of the checkpoint store."""

from typing import Final

PLAIN: Final = '''
import sys
from datetime import UTC, datetime

sys.path.insert(0, "/app")
import understudy.keras


def plain(model, batch, steps, *, log_every, **_):
    """The loop that somebody would write who wants speed: no reset, no result awaited between two lines of log."""
    import tensorflow as tf

    model.train_on_batch(*batch(0, 0, 1))  # builds everything
    step_function, began, since = model.train_function, datetime.now(UTC), 0
    for step in range(1, steps + 1):
        data = tuple(tf.convert_to_tensor(part) for part in batch(step - 1, 0, 1))
        logs = step_function(iter((data,)))
        if step % log_every == 0:
            loss = float(logs["loss"])
            at = datetime.now(UTC)
            ms = 1e3 * (at - began).total_seconds() / (step - since)
            stamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
            print(f"{stamp} step {step}/{steps} loss {loss:.4g} {ms:.1f} ms/step term 0", flush=True)
            began, since = at, step


understudy.keras.train = plain
import train

train.main()
'''
"""The example itself, same model, data and arguments; only `understudy.keras.train` is another."""

STORE: Final = """
import json, os, shutil, statistics, sys, tempfile, time
from pathlib import Path
from understudy.checkpoint import RankStore

rounds = int(sys.argv[1])
volume = Path(os.environ["UNDERSTUDY_CHECKPOINT_DIR"])
store = RankStore(volume, os.environ["UNDERSTUDY_JOB_UID"], int(os.environ["UNDERSTUDY_RANK"]), keep=3)
newest = store.newest(None)
folder = Path(tempfile.mkdtemp(dir=volume, prefix="benchmark-"))


def clock(action):
    began = time.perf_counter()
    result = action()
    return 1e3 * (time.perf_counter() - began), result


try:
    own = RankStore(folder, "benchmark", 0, keep=3)
    writer = own.begin(1, "benchmark", None)
    commits, loads, peeks = [], [], []
    for step in range(rounds):
        took, ref = clock(lambda: writer.commit(step, newest.tensors, newest.extra))
        commits.append(took)
        loads.append(clock(lambda: own.load(ref))[0])
        peeks.append(clock(own.peek)[0])
finally:
    shutil.rmtree(folder, ignore_errors=True)
size = sum(tensor.nbytes for tensor in newest.tensors.values())
times = {"commit_ms": commits, "load_ms": loads, "peek_ms": peeks}
print(json.dumps({"bytes": size, "tensors": len(newest.tensors), **times}))
"""
"""Commits and loads the newest state of the running job in a folder of its own on the same volume."""
