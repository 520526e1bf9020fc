"""Which earlier job of a name left checkpoints on a volume."""

from pathlib import Path

from understudy.checkpoint.marks import MARK, Mark, earlier_jobs, leave_mark

FIRST, SECOND = Mark("2026-01-01T00:00:00Z", "digits"), Mark("2026-01-02T00:00:00Z", "digits")
NOW = Mark("2026-01-03T00:00:00Z", "digits")


def marked(root: Path, **jobs: Mark) -> Path:
    for uid, mark in jobs.items():
        (root / uid).mkdir(exist_ok=True)
        leave_mark(root, uid, mark)
    return root


def test_the_newest_earlier_job_of_the_name_comes_first(tmp_path: Path) -> None:
    root = marked(tmp_path, a=SECOND, b=FIRST, c=Mark("2026-01-01T00:00:00Z", "other"))
    marked(root, later=Mark("2026-01-04T00:00:00Z", "digits"), own=NOW)
    assert earlier_jobs(root, "own", NOW) == [("a", SECOND), ("b", FIRST)]


def test_a_job_of_another_namespace_is_another_job(tmp_path: Path) -> None:
    """Two claims of two namespaces may lead to one folder of a file server."""
    mine, theirs = (Mark("2026-01-01T00:00:00Z", "digits", 1, namespace) for namespace in ("team-a", "team-b"))
    root = marked(tmp_path, mine=mine, theirs=theirs, older=FIRST)
    now = Mark("2026-01-03T00:00:00Z", "digits", 1, "team-a")
    assert earlier_jobs(root, "own", now) == [("mine", mine), ("older", FIRST)]


def test_a_mark_is_left_once_and_any_rank_may_leave_it(tmp_path: Path) -> None:
    root = marked(marked(tmp_path, own=NOW), own=NOW)
    assert [path.name for path in (root / "own").iterdir()] == [MARK]


def test_what_bears_no_whole_mark_is_nobodys(tmp_path: Path) -> None:
    root = marked(tmp_path, torn=FIRST)
    whole = (root / "torn" / MARK).read_bytes()
    (root / "torn" / MARK).write_bytes(whole[:-9])
    (root / "bare").mkdir()
    (root / "finish").touch()
    (root / "odd" / MARK).mkdir(parents=True)
    assert earlier_jobs(root, "own", NOW) == []
    marked(root, torn=FIRST)
    assert earlier_jobs(root, "own", NOW) == [("torn", FIRST)]
