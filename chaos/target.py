"""What a fault can aim at, and how one file is told from another."""

from dataclasses import dataclass

FileId = tuple[int, int]
"""Device and inode: a checkpoint that two terms share has a name in the folder of each, and is one file."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A rank of a job."""

    job: str
    rank: int

    def __str__(self) -> str:
        return f"{self.job}/{self.rank}"
