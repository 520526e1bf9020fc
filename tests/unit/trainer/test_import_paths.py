"""The paths by which a script imports understudy: the ones of today, and those of the release before."""

import importlib
import subprocess
import sys

import pytest
import understudy
import understudy.trainer.session
import understudy.trainer.state


def test_a_script_imports_session_and_state_from_the_package() -> None:
    assert understudy.Session is understudy.trainer.session.Session
    assert understudy.State is understudy.trainer.state.State


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        understudy.Sessions  # noqa: B018


@pytest.mark.parametrize(
    ("path", "names"), [("understudy.session", ("Export", "Session", "State")), ("understudy.state", ("State",))]
)
def test_the_paths_of_the_last_release_give_the_same_classes_and_warn(path: str, names: tuple[str, ...]) -> None:
    sys.modules.pop(path, None)
    with pytest.warns(DeprecationWarning, match="from understudy import"):
        old = importlib.import_module(path)
    for name in names:
        here = understudy.trainer.state if name == "State" else understudy.trainer.session
        assert getattr(old, name) is getattr(here, name)


def test_the_warning_names_the_line_of_the_script() -> None:
    script = "import sys\nfrom understudy.session import Session\nassert Session"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "<string>:2: DeprecationWarning: understudy.session will be removed" in ended.stderr


def test_the_agent_starts_without_numpy() -> None:
    script = "import sys, understudy.agent.__main__, understudy.agent.app; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
