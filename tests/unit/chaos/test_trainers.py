"""What the trainers of the chaos run can be made to suffer from outside."""

import os
import time
from pathlib import Path

import pytest

from chaos.trainers import storage


def test_a_file_on_the_volume_makes_each_fsync_slow_and_no_less_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    slept: list[float] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(time, "sleep", slept.append)
    storage.slow_on_demand(tmp_path)
    os.fsync(1)
    (tmp_path / storage.SLOW).touch()
    os.fsync(2)
    (tmp_path / storage.SLOW).unlink()
    os.fsync(3)
    assert (synced, slept) == ([1, 2, 3], [storage.FSYNC_S])
