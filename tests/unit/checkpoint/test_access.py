"""Who was refused at which folder, and what mends it on a volume of its kind."""

import errno
import os
from pathlib import Path

import pytest
from understudy.checkpoint import access
from understudy.checkpoint.access import Place, Process, explain, explain_denial, kind_of
from understudy.checkpoint.filesystem import volume_errors
from understudy.errors import VolumeReadOnly, VolumeTrouble

WORKER = Process(10001, 10001, frozenset({10001}))
ROOT = Path("/understudy/checkpoints")


def place(uid: int = 0, gid: int = 0, mode: int = 0o755, kind: str = "ext4", **other: bool) -> Place:
    return Place(ROOT, uid, gid, mode, kind, **other)


def test_the_sentence_names_process_folder_owner_mode_and_file_system() -> None:
    said = explain(WORKER, place())
    for part in ("uid 10001, gid 10001, groups 10001", str(ROOT), "owner 0, group 0, mode 0755", "file system ext4"):
        assert part in said


@pytest.mark.parametrize(
    ("found", "remedy", "not_this"),
    [
        (place(), "`chown 10001:10001 /understudy/checkpoints` as root, in an init container", "NFS"),
        (place(kind="nfs4"), "`chown 10001:10001` the exported folder on the server", "mountOptions"),
        (place(1000, 1000, 0o700, "nfs4"), "runAsUser: 1000, runAsGroup: 1000", "mountOptions"),
        (place(kind="cifs"), "mountOptions uid=10001, gid=10001", "as root"),
        (place(gid=10001, mode=0o750), "`chmod g+rwx /understudy/checkpoints`", "chown"),
        (place(uid=10001, mode=0o555), "`chmod u+rwx /understudy/checkpoints`", "chown"),
        (place(10001, 10001, 0o770), "ACLs", "chown"),
        (place(mode=0o600, is_folder=False), "chown 10001:10001", "NFS"),
    ],
    ids=["disk", "NFS of root", "NFS of a user", "SMB", "group", "own", "rules beyond the mode", "file"],
)
def test_the_remedy_fits_the_kind_of_volume(found: Place, remedy: str, not_this: str) -> None:
    said = explain(WORKER, found)
    assert remedy in said and not_this not in said
    assert len(said) < 600, "it ends up in an annotation, an Event and a condition"


def test_the_first_class_that_fits_decides() -> None:
    assert place(uid=10001, mode=0o077).admits(WORKER) is False
    assert place(gid=10001, mode=0o707).admits(WORKER) is False
    assert place(mode=0o707).admits(WORKER)
    assert place(gid=7, mode=0o070).admits(Process(1, 1, frozenset({7})))


def test_a_denial_is_about_the_nearest_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    monkeypatch.setattr(os, "getegid", lambda: 10001)
    monkeypatch.setattr(os, "getgroups", list)
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o700)
    said = explain_denial(folder / "uid" / "rank-0" / "VOLUME")
    assert f"folder {folder} has owner {os.getuid()}" in said and "mode 0700" in said
    inner = folder / "open"
    inner.mkdir()
    inner.chmod(0o777)
    assert f"folder {folder} has owner" in explain_denial(inner), "it cannot be renamed, since that is not its own"


def test_a_refused_write_is_told_with_it() -> None:
    with pytest.raises(VolumeReadOnly, match=r"cannot save: Permission denied at /: this process has uid \d+"):
        _refuse(errno.EACCES)


def test_a_volume_that_is_mounted_read_only_is_no_matter_of_owners() -> None:
    with pytest.raises(VolumeTrouble, match="is mounted read-only") as caught:
        _refuse(errno.EROFS)
    assert "uid" not in str(caught.value)


def _refuse(number: int) -> None:
    with volume_errors("save", Path("/")):
        raise OSError(number, os.strerror(number))


def test_the_file_system_of_the_innermost_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:20 / / rw,relatime - overlay overlay rw\n"
        "30 22 0:30 / /understudy/checkpoints rw - nfs4 server:/export rw\n"
        "31 22 0:31 /x /understudy/check rw shared:1 - tmpfs tmpfs rw\n"
        "32 22 0:32 / /with\\040space rw - cifs //server/share rw\n"
        "broken\n"
    )
    assert kind_of(ROOT / "uid", mounts) == "nfs4"
    assert kind_of(Path("/understudy"), mounts) == "overlay"
    assert kind_of(Path("/with space/x"), mounts) == "cifs"
    assert kind_of(ROOT, tmp_path / "none") == ""
    assert access.kind_of(Path("/")) != "" or not access.MOUNTS.exists()
