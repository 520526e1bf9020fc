"""Run programs, say what happens, and fail with a sentence that names the program and what it said."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL_INTERVAL_S = 0.05  # between looks at something that sends no event (a process' end, a socket)
MESSAGE_LINES = 12  # of a failed program's output: enough for the cause, not for its log


Argv = Sequence[object]  # the words of a command; each becomes text


class ClusterError(Exception):
    """The local cluster could not do what was asked; the message says what happened and what to do next."""


def say(message: str) -> None:
    """Print one line of progress at once (a pipe would otherwise hold it back)."""
    print(message, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Print a line of progress when the block ends, with the seconds it took."""
    started = time.monotonic()
    yield
    say(f"  {message} ({time.monotonic() - started:.1f} s)")


def run(
    argv: Argv,
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises ClusterError with the last lines of what it said when it fails or takes longer than `timeout_s`.
    """
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            env=env,
            cwd=cwd,
            timeout=timeout_s,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`{' '.join(command)}` did not end within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-MESSAGE_LINES:])
        raise ClusterError(f"`{' '.join(command)}` failed with code {done.returncode}: {said}")
    return done.stdout


def run_logged(argv: Argv, log: Path, *, env: Mapping[str, str], what: str) -> None:
    """Run a long program with its output in `log`, and say once a minute that it is still at work."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
        )
        while True:
            try:
                code = process.wait(timeout=60)
                break
            except subprocess.TimeoutExpired:
                say(f"  … {what}: {(time.monotonic() - started) / 60:.0f} min so far (log: {log})")
            except BaseException:
                process.kill()
                process.wait()
                raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-MESSAGE_LINES:])
        raise ClusterError(f"{what} failed with code {code}; the end of {log}:\n{tail}")


def run_told(argv: Argv, log: Path, *, stdin: str = "", what: str) -> None:
    """Run a program that tells its progress: each line is shown at once, and kept in `log`.

    Raises ClusterError with the line of the output that begins with ERROR, and the line after "Command Output:" that
    gives its cause; the rest (kind adds the log of a node, or a stack of its own) is in `log` only.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    process = _started([str(word) for word in argv])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process, contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin)
            process.stdin.close()
            for line in process.stdout:
                lines.append(line.rstrip())
                if not any(map(_is_error, lines)):
                    say(f"  {lines[-1]}")
    finally:
        log.write_text("\n".join([*lines, ""]))
    if process.returncode != 0:
        said = [line for line in lines if _is_error(line) or line.startswith("Command Output:")]
        raise ClusterError(f"{what} failed: {' '.join(said or lines[-1:])} (all that it said: {log})")


def _started(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not installed") from None


def _is_error(line: str) -> bool:
    return line.startswith("ERROR:")


def wait_until(
    condition: Callable[[], bool], *, timeout_s: float, what: str, interval_s: float = POLL_INTERVAL_S
) -> None:
    """Return as soon as `condition()` holds; ClusterError names `what` when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(interval_s)


def require_root(what: str) -> None:
    """Refuse to go on without the rights that namespaces and mounts need."""
    if os.geteuid() != 0 or sys.platform != "linux":
        raise ClusterError(
            f"{what} needs root on Linux (it makes network namespaces and mounts): run it as root there. "
            "`make cluster` and `make demo` need no root where docker runs and kind is installed"
        )
