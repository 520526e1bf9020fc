"""A training that survives its pod: `for step in Session(state, step_fn).steps(total)`, for any framework.

    session = Session(state, step_fn)
    for step in session.steps(20_000, save_every=100):
        ...                                     # validation, logging: runs after each step, before its checkpoint

Beside an agent, `steps` blocks on a redundant pod until it is promoted; then, and on a primary from the start, it
restores the newest checkpoint and goes on. Without an agent it is one rank with a folder of checkpoints of its own.

Guarantees: `step_fn(index)` is called for each index from the restored checkpoint's step to total - 1, in order, and
every checkpoint holds the state after the loop's body of its step. A loop that is left by `break` or `return` ends the
training there, a loop that an exception leaves does not (leaving.py). Does not guarantee that a step is taken once:
what was not committed is taken again, by another pod. `step_fn` runs once more on a redundant pod, to warm up; the
state is restored after it, and its arrays are compared. Durations are measured on the monotonic clock; the wall clock
is for display.
"""

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from understudy_contract.events import EventReason

from understudy import __version__
from understudy.checkpoint import Checkpoint, RankStore, TermWriter, as_json
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
from understudy.trainer import global_random
from understudy.trainer.context import Context, finish, read_context
from understudy.trainer.exits import HandedOverExit, SupersededExit, at_end_of_script, terminate_script
from understudy.trainer.facts import collect, differences
from understudy.trainer.failures import explain_end, explain_failures, failed, name_failure, sentence
from understudy.trainer.interrupt import interruptible
from understudy.trainer.leaving import left_willingly
from understudy.trainer.link import Link, Orders
from understudy.trainer.log import say, step_line, wall_clock
from understudy.trainer.restore import Restorer, first_order
from understudy.trainer.saves import Saves
from understudy.trainer.standby import Follower
from understudy.trainer.state import State, require_equal

ENVELOPE: Final = 1
"""Version of the layout of a manifest's extra."""
OPEN_WITHIN_S: Final = 120.0
OPEN_PAUSE_S: Final = 1.0
OPEN_PAUSE_MAX_S: Final = 3.0
"""Tries to begin a term on a volume that is full, read-only or failing."""


@dataclass(frozen=True, slots=True)
class Export:
    """One way to save a trained model."""

    name: str
    """Of the file, in the folder `final`."""
    write: Callable[[Path], None]
    """Writes the file at the path that it is given."""


class Session:
    """One training, in one of the pods of its rank."""

    def __init__(
        self,
        state: State,
        step_fn: Callable[[int], object],
        *,
        metrics: Callable[[], Mapping[str, float]] | None = None,
        prepare: Callable[[int], None] | None = None,
        export: Callable[[Path], None] | Sequence[Export] | None = None,
        export_name: str = "model",
        ended: Callable[[], None] | None = None,
        started: Callable[[int], None] | None = None,
        facts: Callable[[], Mapping[str, str]] | None = None,
        warm_up_always: bool = False,
        directory: str | os.PathLike[str] | None = None,
        fresh: bool = False,
    ) -> None:
        """Connect to the agent and say Hello; everything slow waits for `steps`.

        `metrics()` gives the newest values for a log line, computed; `prepare(index)` is told which step comes next,
        while there is time; `started(step)` is called on becoming primary, restored; `ended()` once the last
        step's checkpoint is durable; `export(path)` then writes the trained model, which is published as
        `final/<export_name>`, and is called again when the volume was in trouble. Several ways to write it, the best
        first, may be given instead: one that fails is told, and the next is tried. `facts()` adds what exactness
        depends on. `warm_up_always` warms a primary up as well. `directory` and `fresh` are for standalone runs.
        """
        self.context: Context = read_context(directory=directory, fresh=fresh)
        self._state = state
        self._step_fn = step_fn
        self._metrics = metrics or dict
        self._prepare = prepare or (lambda index: None)
        self._exports = [Export(export_name, export)] if callable(export) else list(export or ())
        self._started = started or (lambda step: None)
        self._ended = ended or (lambda: None)
        self._facts = facts or dict
        self._warm_up_always = warm_up_always
        self._orders = Orders()
        self._counters = Counters(self.context.counters)
        self._link = Link(self.context.socket, self._orders) if self.context.socket else None
        self._tell(Hello(__version__))
        if self._link is not None:
            explain_failures(self._tell, lambda: self._thread)
        self._store = RankStore(
            self.context.root, self.context.job_uid, self.context.rank, keep=self.context.keep, sleep=self._wait
        )
        self._saves: Saves | None = None
        self._used = False
        self._thread: threading.Thread | None = None
        """The one that trains, once one does."""
        self._last_word: FromTrainer | None = None
        self._recorded_facts: dict[str, str] = {}
        self._completed = 0
        self._term = 0
        self._stopped = False
        self._handed_over = False
        self._handled: BaseException | None = None
        """What the script was handling when it asked for the step that runs."""
        self._open = False
        """The loop's body runs, or has been left without closing the iterator."""
        self._iterator: Callable[[], Generator[int] | None] = lambda: None
        self._checked = False

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

        Leaving the loop by `break` or `return`, or closing this iterator, ends the training there, as `stop` does. An
        exception that leaves the loop does not: it is a failure, also SystemExit and one that the script catches.
        Raises SystemExit with a reserved code when another pod takes over, and whatever `step_fn` raises.
        """
        if total < 0 or save_every < 1 or log_every < 1:
            raise ValueError(f"steps({total}, save_every={save_every}, log_every={log_every}): use positive numbers")
        if self._used:
            raise NotStarted("steps() was called twice on one Session: a script is one training")
        self._used = True
        if self._link is not None:
            at_end_of_script(self._script_ended)
        iterator = self._steps(total, save_every, log_every)
        self._iterator = weakref.ref(iterator)
        return iterator

    def _steps(self, total: int, save_every: int, log_every: int) -> Generator[int]:
        self._thread = threading.current_thread()
        if self._link is not None:
            explain_end(self._thread, self._why_ended, self._tell)
        self._recorded_facts = collect(self._facts())
        try:
            with interruptible(self._orders, standalone=self._link is None):
                self._become_primary(total)
                assert self._saves is not None
                try:
                    yield from self._train(total, save_every, log_every)
                    self._finish()
                except GeneratorExit as closing:
                    if not left_willingly(closing, sys._getframe().f_back, self._handled):
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
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Say whether `stop` was called, here or in the pod whose checkpoint was loaded."""
        return self._stopped

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
        first = True
        self.poll()
        with self.busy():
            self._started(self._completed)
        logged_step, logged_at = self._completed, time.monotonic()
        while self._completed < total and not self._stopped:
            index = self._completed
            with name_failure(f"step_fn({index})"):
                self._step_fn(index)
            self._completed = self._counters.step = step = index + 1
            if first or step % log_every == 0 or step == total:
                values = self._metrics()  # waits for the step's result: the time is taken after it
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
            if step % save_every == 0 and step < total and not self._stopped:
                assert self._saves is not None
                self._saves.submit(step)

    def _become_primary(self, total: int) -> None:
        restorer = Restorer(self._store, self.context, self._load, self.notice)
        order: Standby | Promote
        if self._link is not None:
            order = first_order(self._link)
        else:
            order = Promote(term=self._store.highest_term() + 1, volume=self._store.volume_id())
        if isinstance(order, Standby) or self._warm_up_always:
            self._warm_up(total)
        if isinstance(order, Standby):
            assert self._link is not None
            order = Follower(self._link, self._store, order, restorer.take, self._counters).run()
        with self.busy():
            self._begin_term(order, restorer)

    def _begin_term(self, order: Promote, restorer: Restorer) -> None:
        writer, volume = None, ""
        while writer is None:
            try:
                writer, volume = self._open_term(order, restorer)
            except Superseded as taken:
                if self._link is None:
                    raise
                say(f"term {order.term} cannot begin: term {taken.term} is on the volume; waiting for a higher one")
                self._tell(TermTaken(taken.term))
                order = restorer.await_term(self._link, order, taken, self._counters.bump)
        self._term = order.term
        base, inherited = restorer.loaded, restorer.inherited
        source = base or inherited
        self._completed = self._counters.step = source.ref.step if source else 0
        if inherited is not None:
            self._stopped = False  # whoever stopped that job's training has asked for more of it
        self._saves = Saves(
            writer,
            self._state,
            orders=self._orders,
            tell=self._tell,
            bump=self._counters.bump,
            envelope=self._envelope,
        )
        start = base.ref if base else self._saves.commit(self._completed)
        self._prepare(self._completed)
        self._tell(Started(order.term, start, volume))
        self._say_start(base)
        restorer.report_foreign()

    def _open_term(self, order: Promote, restorer: Restorer) -> tuple[TermWriter, str]:
        """Open the term; while the volume is in trouble, try for two minutes: its trouble is not the program's."""
        give_up_at, pause_s = time.monotonic() + OPEN_WITHIN_S, OPEN_PAUSE_S
        told = ""
        while True:
            try:
                return restorer.begin(order)
            except VolumeTrouble as trouble:
                if self._link is None or time.monotonic() + pause_s > give_up_at:
                    raise
                if str(trouble) != told:
                    told = str(trouble)
                    self.notice(EventReason.VOLUME_TROUBLE, f"term {order.term} cannot begin yet, retrying: {told}")
            self._wait(pause_s)
            pause_s = min(2 * pause_s, OPEN_PAUSE_MAX_S)

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
        if self._stopped:
            anew = "" if self._link is not None else ". Train with fresh=True to start over"
            say(f"the script ended this training at step {self._completed}: no step is left to take{anew}")

    def _warm_up(self, total: int) -> None:
        newest = None
        with contextlib.suppress(VolumeTrouble):  # the Follower tells of it, or _open_term does
            newest = self._store.peek()
        index = min(newest.step if newest else 0, max(total - 1, 0))
        before, extra, drawn = self._state.tensors(), as_json(self._state.extra()), global_random.read()
        with name_failure(f"step_fn({index})"):
            self._step_fn(index)
        global_random.write(drawn)
        self._counters.bump()
        self._state.load(before)
        if as_json(self._state.extra()) != extra:
            self._state.load_extra(extra)
        require_equal(before, self._state.tensors(), "after the warm-up step")

    def _load(self, checkpoint: Checkpoint) -> None:
        self._state.load(checkpoint.tensors)
        if not self._checked:
            require_equal(checkpoint.tensors, self._state.tensors(), f"after loading step {checkpoint.ref.step}")
            self._checked = True
            self._compare_facts(checkpoint.extra.get("facts", {}))
        self._stopped = bool(checkpoint.extra.get("stopped", False))
        self._state.load_extra(checkpoint.extra.get("state", {}))
        global_random.write(checkpoint.extra.get("random", {}))
        self._prepare(checkpoint.ref.step)
        self._counters.bump()

    def _compare_facts(self, recorded: Mapping[str, Any]) -> None:
        if differs := differences(recorded, self._recorded_facts):
            self.notice(
                EventReason.NOT_EXACT,
                f"exactness is off, the training itself is not: {'; '.join(differs)}. Results are bit for bit "
                "repeatable only with one image, one number of threads and one type of CPU",
            )

    def _envelope(self) -> dict[str, Any]:
        return {
            "version": ENVELOPE,
            "stopped": self._stopped,
            "state": as_json(self._state.extra()),  # a copy: it is written while training goes on
            "facts": self._recorded_facts,
            "random": global_random.read(),
        }

    def _finish(self, *, leaving: bool = False) -> None:
        assert self._saves is not None
        model = None
        with self.busy():
            ref = self._saves.commit(self._completed)
            self._ended()
            model = self._publish()
        self._tell(Completed(ref.step, model))
        finish(self.context)
        say(f"finished at step {ref.step} of term {self._term}" + (f", model {model}" if model else ""))
        if self._link is not None and self._orders.finish() and not leaving:
            terminate_script()

    def _script_ended(self, waits_for: str) -> None:
        if self._orders.finished:
            self._tell(Returned(waits_for))
        elif self._open and self._stopped and (iterator := self._iterator()) is not None:
            iterator.close()
            self._tell(Returned(waits_for))
        elif self._open and not hasattr(sys, "last_value"):  # which an exception that nobody caught has set
            say(
                f"the script ends, and its loop stands open after step {self._completed}: `break` does not close an "
                "iterator that is kept in a variable. To end the training there, call session.stop(), or close it"
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
        for export in self._exports:
            try:
                return str(self._saves.publish(export.name, export.write).relative_to(self.context.root))
            except Exception as error:
                if len(self._exports) == 1 or isinstance(error, (UnderstudyError, OSError)):
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


__all__ = ["Export", "Session", "State"]
