"""What the end of a trainer means: the last words for the Lease, and the agent's exit code. Pure."""

import signal
from dataclasses import dataclass
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.exits import ExitCode, ReleaseReason, describe_exit
from understudy_contract.reports import Notice

from understudy.agent.progress import Progress, told_with
from understudy.agent.watchdog import Patience

FAILED_ENDS_WITHIN_S: Final = 5.0
"""From an exception that nobody caught to the end of the process: exit handlers and the interpreter's own end take a
second with TensorFlow. A thread that is no daemon, or an exit handler that hangs, would keep it for ever."""
RESTARTS_WITHIN_S: Final = 30.0
"""From the end of a trainer to the Hello of the next one, below a launcher: some seconds of pause, and the import of
TensorFlow. Whoever waits longer is quicker with a redundant pod, or a new one."""
LAUNCHER_ENDS_WITHIN_S: Final = 1.0
"""From the end of a trainer to that of its container's program, where no other trainer may begin."""
HELLO_WITHIN_S: Final = 60.0
"""Import of TensorFlow takes 5 s here, 30 s on a slow disk; a script silent for longer is worth a sentence."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a release will say, whichever Lease is held when it is written."""

    reason: ReleaseReason
    code: int
    """Exit code of the agent."""
    message: str


def handed_over(message: str) -> LastWords:
    """Say that the Lease is given up by plan, with every step committed."""
    return LastWords(ReleaseReason.HANDED_OVER, ExitCode.HANDED_OVER, message)


def judge_exit(code: int, script: str, trainer: Progress) -> LastWords:
    """Judge a trainer that ended without having been told to.

    A container that exits 0 looks complete, so exit 0 before completion becomes another code: NOT_INTEGRATED if the SDK
    was never called, 1 if it was. A signal is a ProcessExited even before the first call: the script had no say in it.
    An exception that the SDK has told counts whatever the code is: of `python train.py | tee log` it is that of tee.

    `trainer.shortage` says that the kernel has killed a process of the container for want of memory. A trainer that
    died of SIGKILL was the victim, itself or below a shell; any other failure may follow from the death of a child, so
    the shortage is added to its words and the reason stays.
    """
    words, shortage = _judge_exit(code, script, trainer), trainer.shortage
    if not shortage or words.reason is ReleaseReason.COMPLETED:
        return words
    # Below a shell, which may end with any code.
    silent = trainer.lost and trainer.failed is None and trainer.completed is None
    if (code == 128 + signal.SIGKILL or silent) and words.reason is ReleaseReason.PROCESS_EXITED:
        return LastWords(ReleaseReason.OOM_KILLED, words.code, f"{words.message}: {shortage}")
    return LastWords(words.reason, words.code, told_with(words.message, shortage))


def _judge_exit(code: int, script: str, trainer: Progress) -> LastWords:
    said, failed, completed = describe_exit(code), trainer.failed, trainer.completed is not None
    if not trainer.hello and code < 128 and failed is None:
        return LastWords(
            ReleaseReason.NOT_INTEGRATED,
            code or ExitCode.NOT_INTEGRATED,
            f"{script} ended with {said} before it called understudy; "
            "call understudy.keras.train or Session.steps in it, and see its log for an error",
        )
    if code == 0 and failed is not None:
        return _failure(trainer, failed)
    if code == 0 and completed:
        return LastWords(ReleaseReason.COMPLETED, 0, "training is complete")
    if code == 0 and trainer.lost and trainer.below:
        why = f"{trainer.failure} before its training was complete (was it killed?), and {script} exited 0 all the same"
        return LastWords(ReleaseReason.PROCESS_EXITED, 1, f"{why}: see the log")
    if code == 0:
        return LastWords(
            ReleaseReason.PROCESS_EXITED,
            1,
            f"{script} exited 0 before its training was complete; let it run understudy's loop to the last step, or "
            "call session.stop() to end the training earlier (`break` does the same; an exception and sys.exit do not)",
        )
    if completed:
        return LastWords(
            ReleaseReason.PROCESS_EXITED, code, f"{failed or said}; training was complete, the code after it failed"
        )
    code = ExitCode.SUPERSEDED if trainer.superseded else code  # a shell may have made another one of it
    return LastWords(_reason(trainer), code, failed or said)


def lived_on(trainer: Progress, script: str) -> LastWords:
    """Judge a trainer that has failed and was given time to end: what is left of it is killed."""
    if trainer.superseded:
        return _failure(trainer, trainer.cause)
    if not trainer.lost:
        rest = (
            f"its process did not end within {FAILED_ENDS_WITHIN_S:g} s after that (is there a thread that is no "
            "daemon?): killed by the agent"
        )
    else:
        rest = f"{script} ran on, and started no other trainer within {RESTARTS_WITHIN_S:g} s: killed by the agent"
    return _failure(trainer, f"{trainer.cause}; {rest}")


def too_often(trainer: Progress) -> LastWords:
    """Judge a trainer that has failed once more than its job may, and was started again all the same."""
    times = trainer.survived.before + trainer.survived.failures + 1
    rest = f"its launcher started it again, after {times} failures without progress: killed by the agent"
    return _failure(trainer, f"{trainer.cause}; {rest}")


def ending_failed(trainer: Progress) -> LastWords:
    """Judge a trainer that has failed, or the one started in its place that has not begun, when its pod ends."""
    last = trainer.survived.last
    if last is not None and trainer.failed is None and not trainer.lost:
        return _failure(trainer, f"{last}; the trainer that was started again had not begun yet")
    return _failure(trainer, trainer.cause)


def _failure(trainer: Progress, message: str) -> LastWords:
    code = ExitCode.SUPERSEDED if trainer.superseded else 1
    if trainer.completed is not None:
        message = f"{message}; training was complete, the code after it failed"
    killed = trainer.shortage and trainer.failed is None
    return LastWords(ReleaseReason.OOM_KILLED if killed else _reason(trainer), code, message)


def _reason(trainer: Progress) -> ReleaseReason:
    volume = trainer.volume_failed and trainer.completed is None
    return ReleaseReason.VOLUME_TROUBLE if volume else ReleaseReason.PROCESS_EXITED


def ends_complete(trainer: Progress) -> LastWords | None:
    """Judge a pod that ends while its script does: complete, once the script's own code has run; None before."""
    if trainer.completed is None or trainer.returned is None or trainer.failed is not None:
        return None
    return LastWords(ReleaseReason.COMPLETED, 0, f"training is complete, and so is the script{_held_up(trainer)}")


def outlived(within_s: float, trainer: Progress) -> LastWords:
    """Judge a script that did not end after its training: it is ended."""
    what = "but its process lived on" if trainer.returned is not None else "but its script ran on"
    text = (
        f"training is complete, {what}{_held_up(trainer)}: ended by the agent after {within_s:g} s "
        "(endDeadlineSeconds). If its code needs longer, raise spec.failover.endDeadlineSeconds"
    )
    return LastWords(ReleaseReason.COMPLETED, 0, text)


def _held_up(trainer: Progress) -> str:
    return f" (waiting for {trainer.returned.waits_for})" if trainer.returned and trainer.returned.waits_for else ""


def late_hand_over(within_s: float, trainer: Progress) -> LastWords:
    """Judge a hand-over that missed its deadline: the trainer is killed."""
    if trainer.failed is not None:
        return _failure(
            trainer, f"{trainer.failed}; no hand-over within {within_s:g} s after that: killed by the agent"
        )
    if trainer.completed is not None:
        return LastWords(
            ReleaseReason.HANDED_OVER,
            ExitCode.HANDED_OVER,
            f"complete, but the script did not end within {within_s:g} s",
        )
    killed = 128 + signal.SIGKILL
    return LastWords(ReleaseReason.PROCESS_EXITED, killed, f"no hand-over within {within_s:g} s: killed by the agent")


def stalled(patience: Patience, step: int, script: str, trainer: Progress) -> LastWords:
    """Judge a trainer that did nothing for its deadline: it is killed."""
    killed = 128 + signal.SIGKILL
    if not trainer.hello:
        return LastWords(
            ReleaseReason.NOT_INTEGRATED,
            ExitCode.NOT_INTEGRATED,
            f"{script} did not call understudy within {patience.limit_s:g} s ({patience.setting}): killed by the "
            "agent; call understudy.keras.train or Session.steps in it",
        )
    if trainer.failed is not None:
        idle = f"the script caught it, and did nothing for {patience.limit_s:g} s ({patience.setting})"
        return _failure(trainer, f"{trainer.failed}; {idle}: killed by the agent")
    where = "before its first step" if trainer.first is None else f"after step {step}"
    what = f"no progress for {patience.limit_s:g} s ({patience.setting}) {where}"
    return LastWords(ReleaseReason.STALLED, killed, f"{what}: killed by the agent")


def not_called_yet(script: str) -> Notice:
    """Say that the SDK has not been heard of, once, while the script may still be starting."""
    return Notice(
        EventReason.NOT_INTEGRATED_YET,
        f"the script {script} has not called understudy yet, after {HELLO_WITHIN_S:g} s; "
        "unless it is slow to start, call understudy.keras.train or Session.steps in it",
    )
