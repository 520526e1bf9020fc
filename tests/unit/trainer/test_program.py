"""A program beside a state and a function: what a Session calls, and in which order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy import Session, State
from understudy.trainer.program import Export, Program
from understudy.trainer.session import Stage


class Sum(State):
    def __init__(self) -> None:
        self.value = np.zeros(1)

    def tensors(self) -> dict[str, Any]:
        return {"value": self.value.copy()}

    def load(self, tensors: Mapping[str, Any]) -> None:
        self.value[:] = tensors["value"]


class Recorded(Program):
    def __init__(self) -> None:
        super().__init__(Sum())
        self.calls: list[str] = []

    def facts(self) -> dict[str, str]:
        self.calls.append("facts")
        return {"made by": "hand"}

    def prepare(self, index: int) -> None:
        self.calls.append(f"prepare {index}")

    def started(self, step: int) -> None:
        self.calls.append(f"started {step}")

    def step(self, index: int) -> None:
        self.calls.append(f"step {index}")

    def metrics(self) -> dict[str, float]:
        self.calls.append("metrics")
        return {"loss": 1.0}

    def ended(self) -> None:
        self.calls.append("ended")

    def exports(self) -> tuple[Export, ...]:
        def fail(_path: Path) -> None:
            raise ValueError("it cannot be pickled")

        return Export("whole", fail), Export("parts", lambda path: path.write_text("model") and None)  # type: ignore[func-returns-value]


def test_a_session_calls_its_program_in_this_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = Recorded()
    session = Session(program, directory=tmp_path)
    stages = [session.stage]
    stages.extend(session.stage for _ in session.steps(2, log_every=10))
    assert program.calls == ["facts", "prepare 0", "started 0", "step 0", "metrics", "step 1", "metrics", "ended"]
    assert [*stages, session.stage] == [Stage.BUILDING, Stage.TRAINING, Stage.TRAINING, Stage.FINISHING]
    said = capsys.readouterr().out
    assert "step 2/2 loss 1" in said
    assert "the trained model could not be saved as whole: ValueError: it cannot be pickled" in said
    assert [path.read_text() for path in tmp_path.glob("**/final/*")] == ["model"]


def test_a_program_that_is_resumed_is_told_where(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="amid"):
        for step in Session(Recorded(), directory=tmp_path).steps(3, save_every=1):
            if step == 2:
                raise ValueError("amid the training")
    again = Recorded()
    for _ in Session(again, directory=tmp_path).steps(3):
        pass
    assert again.calls[:5] == ["facts", "prepare 1", "prepare 1", "started 1", "step 1"]


def test_what_is_neither_a_program_nor_a_state_with_a_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Session\(state, step_fn\)"):
        Session(Sum(), directory=tmp_path)
    with pytest.raises(TypeError, match="give Session the program alone"):
        Session(Recorded(), lambda _: None, directory=tmp_path)


class Counted:
    """A feed that keeps its place by itself, as an iterator does."""

    def __init__(self) -> None:
        self.place = 0
        self.aimed: list[tuple[int, int]] = []

    def aim(self, step: int) -> None:
        self.aimed.append((step, self.place))

    def next(self) -> int:
        self.place += 1
        return self.place

    def state(self) -> dict[str, Any]:
        return {"place": self.place}

    def load(self, state: Mapping[str, Any]) -> None:
        self.place = state["place"]

    def close(self) -> None:
        pass


class Fed(Program):
    def __init__(self) -> None:
        super().__init__(Sum())
        self.feed = self.counted = Counted()

    def prepare(self, index: int) -> None:
        self.counted.aim(index)

    def step(self, index: int) -> None:
        self.counted.next()
        self.counted.next()


def test_the_place_of_a_feed_is_saved_and_loaded_before_it_is_aimed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="amid"):
        for step in Session(Fed(), directory=tmp_path).steps(5, save_every=1):
            if step == 3:
                raise ValueError("amid the training")
    again = Fed()
    for _ in Session(again, directory=tmp_path).steps(5):
        pass
    assert again.counted.aimed[0] == (2, 4)
    assert again.counted.place == 10
