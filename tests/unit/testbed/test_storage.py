"""A volume that is made to be slow, or to fail, while trainers write to it."""

import os
import time
from pathlib import Path

import pytest

from testbed import storage


def test_a_file_on_the_volume_makes_each_fsync_slow_and_no_less_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    slept: list[float] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(time, "sleep", slept.append)
    storage.spoil_fsync(tmp_path, slow_s=3)
    os.fsync(1)
    (tmp_path / storage.SLOW).touch()
    os.fsync(2)
    (tmp_path / storage.SLOW).unlink()
    os.fsync(3)
    assert (synced, slept) == ([1, 2, 3], [3])


def test_a_file_on_the_volume_makes_each_fsync_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    storage.spoil_fsync(tmp_path, slow_s=3)
    flag = tmp_path / storage.FAILING
    flag.touch()
    with pytest.raises(OSError, match="Input/output error"):
        os.fsync(1)
    flag.unlink()
    os.fsync(2)
    assert synced == [2]
