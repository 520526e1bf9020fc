"""A training that survives its pod: `for step in Session(state, step_fn).steps(total)`, for any framework.

    session = Session(state, step_fn)
    for step in session.steps(20_000, save_every=100):
        ...                                     # validation, logging: runs after each step, before its checkpoint

A session goes through these stages, and none comes twice:

    building ──▶ waiting ──▶ standby ──▶ restoring ──▶ training ──▶ finishing
                    │                        ▲
                    └────────────────────────┘

    building    the script makes its model, and calls `steps`
    waiting     for the role, which the agent tells; without an agent this is one rank, always primary
    standby     redundant: warm, with the newest checkpoint loaded, until the promotion (standby.py)
    restoring   primary: the right checkpoint is loaded, and the term is begun on the volume (restore.py)
    training    the loop of the script runs
    finishing   the last checkpoint, then the trained model; the script's own code may run on

Every stage can end the training here: by SystemExit with a reserved code when another pod takes over, and by whatever
the program raises.

Guarantees: `step_fn(index)` is called for each index from the restored checkpoint's step to total - 1, in order, and
every checkpoint holds the state after the loop's body of its step. A loop that is left by `break` or `return` ends the
training there, a loop that an exception leaves does not (leaving.py). Where the iterator outlives its loop, in a
variable, the training ends with the script instead. Does not guarantee that a step is taken once:
what was not committed is taken again, by another pod. `step_fn` runs once more on a redundant pod, to warm up; the
state is restored after it, and its arrays are compared. Durations are measured on the monotonic clock; the wall clock
is for display.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from enum import StrEnum, auto

from understudy_contract.events import EventReason

from understudy import __version__
from understudy.checkpoint import Checkpoint, RankStore
from understudy.counters import Counters
from understudy.errors import NotStarted, Superseded, UnderstudyError, VolumeTrouble
from understudy.protocol import (
    Completed,
    Failed,
    FirstStep,
    FromTrainer,
    HandedOver,
    Hello,
    Notice,
    Promote,
    Returned,
    Standby,
    Started,
    TermTaken,
)
from understudy.protocol import Superseded as SupersededMessage
from understudy.trainer.content import Content
from understudy.trainer.context import Context, finish, read_context
from understudy.trainer.exits import HandedOverExit, SupersededExit, at_end_of_script, terminate_script
from understudy.trainer.failures import explain_end, explain_failures, failed, name_failure, sentence
from understudy.trainer.interrupt import interruptible
from understudy.trainer.leaving import has_returned, left_willingly, program
from understudy.trainer.link import AgentLink, Orders, receive
from understudy.trainer.loading import Loader
from understudy.trainer.log import say, step_line, wall_clock
from understudy.trainer.program import Program, as_program
from understudy.trainer.restore import Restorer
from understudy.trainer.saves import Saves
from understudy.trainer.standby import Follower
from understudy.trainer.state import State


class Stage(StrEnum):
    """How far a session has come."""

    BUILDING = auto()
    WAITING = auto()
    STANDBY = auto()
    RESTORING = auto()
    TRAINING = auto()
    FINISHING = auto()


class Session:
    """One training, in one of the pods of its rank."""

    def __init__(
        self,
        state: State | Program,
        step_fn: Callable[[int], object] | None = None,
        *,
        metrics: Callable[[], Mapping[str, float]] | None = None,
        directory: str | os.PathLike[str] | None = None,
        fresh: bool = False,
    ) -> None:
        """Connect to the agent and say Hello; everything slow waits for `steps`.

        `step_fn(index)` takes one step of `state`; `metrics()` returns the newest values for a log line, computed. A
        Program in place of the state has both, and more (program.py). `directory` and `fresh` are for standalone runs.
        """
        self.context: Context = read_context(directory=directory, fresh=fresh)
        self._program = as_program(state, step_fn, metrics)
        self.stage = Stage.BUILDING
        self._orders = Orders()
        self._counters = Counters(self.context.counters)
        self._link = AgentLink(self.context.socket, self._orders) if self.context.socket else None
        self._tell(Hello(__version__))
        if self._link is not None:
            explain_failures(self._tell, lambda: self._thread)
        self._store = RankStore(
            self.context.root, self.context.job_uid, self.context.rank, keep=self.context.keep, sleep=self._wait
        )
        self._content = Content(self._program, self.notice, self._counters.bump)
        self._saves: Saves | None = None
        self._thread: threading.Thread | None = None
        """The one that trains, once one does."""
        self._last_word: FromTrainer | None = None
        self._completed = 0
        self._term = 0
        self._handed_over = False
        self._handled: BaseException | None = None
        """What the script was handling when it asked for the step that runs."""
        self._open = False
        """The loop's body runs, or has been left without closing the iterator."""
        self._iterator: Callable[[], Generator[int] | None] = lambda: None
        self._script = program()
        self._script_left = False
        """The script has ended well, and its loop stands open: it has left the loop."""

    @property
    def rank(self) -> int:
        """This worker's index."""
        return self.context.rank

    @property
    def ranks(self) -> int:
        """Number of workers of the job."""
        return self.context.ranks

    def steps(self, total: int, *, save_every: int = 100, log_every: int = 100) -> Generator[int]:
        """Run `step_fn` for each step that is left, and yield the number of completed steps after each.

        Leaving the loop by `break` or `return`, or closing this iterator, ends the training there, as `stop` does. If a
        variable still holds the iterator after the loop (`bar = tqdm(session.steps(…))`), the state is saved at the end
        of the script. An exception that leaves the loop is a failure, also SystemExit and one that the script catches.
        Raises SystemExit with a reserved code when another pod takes over, and whatever `step_fn` raises.
        """
        if total < 0 or save_every < 1 or log_every < 1:
            raise ValueError(f"steps({total}, save_every={save_every}, log_every={log_every}): use positive numbers")
        if self.stage is not Stage.BUILDING:
            raise NotStarted("steps() was called twice on one Session: a script is one training")
        self.stage = Stage.WAITING
        at_end_of_script(weakref.WeakMethod(self._script_ended))
        iterator = self._steps(total, save_every, log_every)
        self._iterator = weakref.ref(iterator)
        return iterator

    def _steps(self, total: int, save_every: int, log_every: int) -> Generator[int]:
        self._thread = threading.current_thread()
        if self._link is not None:
            explain_end(self._thread, self._why_ended, self._tell)
        self._content.record_facts()
        try:
            with interruptible(self._orders, standalone=self._link is None):
                self._become_primary(total)
                assert self._saves is not None
                try:
                    yield from self._train(total, save_every, log_every)
                    self._finish()
                except GeneratorExit as closing:
                    if not (self._script_left or left_willingly(closing, sys._getframe().f_back, self._handled)):
                        left = f"the loop was left after step {self._completed} of {total}"
                        say(f"{left} by an exception, or as if by one: the training is not complete")
                        raise
                    self._finish_early(total)
                finally:
                    self._handled, self._open = None, False
                    self._saves.close()
        except Superseded as superseded:
            self._stop_superseded(superseded.term)
        except Exception as error:
            self.fail(error)
            raise

    def fail(self, error: Exception) -> None:
        """Tell the agent that this exception has left the training; the script may still catch it."""
        self._tell(failed(error, final=False))

    def stop(self) -> None:
        """End the training after this step, as if `total` were reached."""
        self._content.stopped = True

    @property
    def stopped(self) -> bool:
        """Say whether `stop` was called, here or in the pod whose checkpoint was loaded."""
        return self._content.stopped

    @property
    def must_stop(self) -> bool:
        """Say whether `poll` would not return."""
        return self._orders.pending

    def poll(self) -> None:
        """Obey the agent's orders, if there are any: call it now and then in a long body of the loop.

        Saves the state as it is, as that of the last completed step, and raises SystemExit when the pod has to stop.
        """
        self._counters.bump()
        if self._orders.superseded_by is not None:
            self._stop_superseded(self._orders.superseded_by)
        if self._handed_over:
            raise HandedOverExit  # its own SIGTERM handler polls, or it has caught the first one
        if self._orders.hand_over:
            assert self._saves is not None
            ref = self._saves.commit(self._completed)
            self._tell(HandedOver(ref))
            self._handed_over = True
            if self._link is None:
                say(f"interrupted; saved step {ref.step} in {self.context.root}")
                raise KeyboardInterrupt
            say(f"handed over at step {ref.step} of term {self._term}")
            if not self._orders.signalled:
                terminate_script()
            raise HandedOverExit

    def busy(self) -> AbstractContextManager[None]:
        """Enter a long piece of your own in the loop's body that calls neither `poll` nor anything else of understudy.

        In it startupDeadlineSeconds holds instead of progressDeadlineSeconds: an evaluation of minutes is no stall.
        """
        return self._counters.busy()

    def _train(self, total: int, save_every: int, log_every: int) -> Iterator[int]:
        self.stage, first = Stage.TRAINING, True
        self.poll()
        with self.busy():
            self._program.started(self._completed)
        logged_step, logged_at = self._completed, time.monotonic()
        while self._completed < total and not self.stopped:
            index = self._completed
            with name_failure(f"step_fn({index})"):
                self._program.step(index)
            self._completed = self._counters.step = step = index + 1
            if first or step % log_every == 0 or step == total:
                values = self._program.metrics()  # waits for the step's result: the time is taken after it
                at = wall_clock()
                if first:
                    self._tell(FirstStep(self._term, step, at))
                    first = False
                now = time.monotonic()
                say(step_line(step, total, values, (now - logged_at) * 1e3 / (step - logged_step), self._term), at)
                logged_step, logged_at = step, now
            self._handled, self._open = sys.exc_info()[1], True
            yield step
            self._open = False
            if self._orders.pending:
                self.poll()
            if step % save_every == 0 and step < total and not self.stopped:
                assert self._saves is not None
                self._saves.submit(step)

    def _become_primary(self, total: int) -> None:
        loader = Loader(self._store, self._content.load, self.notice)
        order: Standby | Promote
        if self._link is not None:
            order = _await_role(self._link)
        else:
            order = Promote(term=self._store.highest_term() + 1, volume=self._store.volume_id())
        if isinstance(order, Standby) or self._program.warms_up_always:
            self._warm_up(total)
        if isinstance(order, Standby):
            assert self._link is not None
            self.stage = Stage.STANDBY
            order = Follower(self._link, self._store, loader, order, self._counters).run()
        self.stage = Stage.RESTORING
        with self.busy():
            self._begin_term(order, loader)

    def _begin_term(self, order: Promote, loader: Loader) -> None:
        restorer = Restorer(self._store, self.context, loader, self.notice)
        writer, volume = None, ""
        while writer is None:
            try:
                writer, volume = restorer.open(order, self._wait if self._link is not None else None)
            except Superseded as taken:
                if self._link is None:
                    raise
                say(f"term {order.term} cannot begin: term {taken.term} is on the volume; waiting for a higher one")
                self._tell(TermTaken(taken.term))
                order = restorer.await_term(self._link, order, taken, self._counters.bump)
        self._term = order.term
        base, inherited = loader.loaded, loader.inherited
        source = base or inherited
        self._completed = self._counters.step = source.ref.step if source else 0
        if inherited is not None:
            self._content.stopped = False  # whoever stopped that job's training has asked for more of it
        self._saves = Saves(
            writer,
            self._program.state,
            orders=self._orders,
            tell=self._tell,
            bump=self._counters.bump,
            envelope=self._content.envelope,
        )
        start = base.ref if base else self._saves.commit(self._completed)
        self._program.prepare(self._completed)
        self._tell(Started(order.term, start, volume))
        self._say_start(base)
        restorer.report_foreign()

    def _wait(self, seconds: float) -> None:
        """Wait for the volume, and show that this is no hang."""
        self._counters.bump()
        time.sleep(seconds)

    def _say_start(self, base: Checkpoint | None) -> None:
        if base is None:
            say(f"starting from step {self._completed} as primary of term {self._term}")
        elif self._link is None:
            say(f"resuming from step {base.ref.step} of {self.context.root}")
        else:
            say(f"resuming from step {base.ref.step} of term {base.ref.term} as primary of term {self._term}")
        if self.stopped:
            anew = "" if self._link is not None else ". Train with fresh=True to start over"
            say(f"the script ended this training at step {self._completed}: no step is left to take{anew}")

    def _warm_up(self, total: int) -> None:
        newest = None
        with contextlib.suppress(VolumeTrouble):  # the Follower reports it, or the Restorer does
            newest = self._store.peek()
        index = min(newest.step if newest else 0, max(total - 1, 0))
        self._content.warm_up(index)

    def _finish(self, *, leaving: bool = False) -> None:
        assert self._saves is not None
        self.stage = Stage.FINISHING
        with self.busy():
            ref = self._saves.commit(self._completed)
            self._program.ended()
            model = self._publish()
        self._tell(Completed(ref.step, model))
        finish(self.context)
        say(f"finished at step {ref.step} of term {self._term}" + (f", model {model}" if model else ""))
        if self._link is not None and self._orders.finish() and not leaving:
            terminate_script()

    def _script_ended(self, waits_for: str) -> None:
        """Take in that the main thread has run all its code. A loop that stands open then was left."""
        if self._open and self._last_word is None:
            self._leave_open_loop()
        if self._orders.finished:
            self._tell(Returned(waits_for))

    def _leave_open_loop(self) -> None:
        in_main_thread = self._thread is threading.main_thread()
        trains_on = not in_main_thread and self._thread is not None and self._thread.is_alive()
        if trains_on or hasattr(sys, "last_value"):  # which an exception that nobody has caught has set
            return
        willing = self.stopped or (in_main_thread and has_returned(self._script))
        if willing and (iterator := self._iterator()) is not None:
            self._script_left = True
            try:
                iterator.close()
            except (Exception, SupersededExit):  # noqa: BLE001 - the agent knows; others wait for the script's end, too
                traceback.print_exc()
        else:
            say(
                f"the script ends, and its loop stands open after step {self._completed}: the training is not complete;"
                " a variable holds the loop's iterator, and the script ends by sys.exit or trains in a thread, so that "
                "understudy cannot tell whether it left the loop on purpose. If it did, call session.stop(), or close "
                "the iterator"
            )

    def _finish_early(self, total: int) -> None:
        """Finish where the script has left its loop; an error here cannot reach it, so that the agent is told."""
        say(f"the loop was left after step {self._completed} of {total}: the training ends here, as by session.stop()")
        self.stop()
        try:
            self._finish(leaving=True)
        except Superseded:
            raise
        except Exception as error:
            self._tell(failed(error))
            raise

    def _publish(self) -> str | None:
        """Save the trained model in the first way that works; return its path below the volume's root.

        Of several ways none may fail the training: the last checkpoint holds its result, and a new run would fail again
        in the same way. Trouble of the volume is raised all the same, since it passes.
        """
        assert self._saves is not None
        exports = self._program.exports()
        for export in exports:
            try:
                return str(self._saves.publish(export.name, export.write).relative_to(self.context.root))
            except Exception as error:
                if len(exports) == 1 or isinstance(error, (UnderstudyError, OSError)):
                    raise
                why, _, _ = sentence(error).partition(". ")  # Keras goes on with an example
                self.notice(
                    EventReason.MODEL_NOT_EXPORTED, f"the trained model could not be saved as {export.name}: {why}"
                )
        return None

    def _stop_superseded(self, term: int) -> None:
        self._tell(SupersededMessage(term))
        say(f"superseded by term {term}")
        raise SupersededExit(term)

    def notice(self, reason: EventReason, message: str) -> None:
        """Say a sentence in the log and in an Event of the job; training goes on."""
        say(message)
        self._tell(Notice(reason, message))

    def _why_ended(self) -> Failed | None:
        """Say why the thread that trained has ended; None: it had a good reason, or has told another."""
        match self._last_word:
            case None:
                return Failed(
                    f"the thread that trains ended after step {self._completed}, before its training was complete "
                    "(sys.exit?), and other threads keep its process"
                )
            case Failed(message, volume, final=False):
                return Failed(message, volume)
            case _:
                return None

    def _tell(self, message: FromTrainer) -> None:
        if isinstance(message, Completed | HandedOver | SupersededMessage | Failed):
            self._last_word = message
        if self._link is not None:
            self._link.send(message)


def _await_role(link: AgentLink) -> Standby | Promote:
    while not isinstance(order := receive(link), Standby | Promote):
        pass  # nothing to follow before the role is known
    return order


__all__ = ["Session", "Stage"]
