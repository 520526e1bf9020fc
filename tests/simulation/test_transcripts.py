"""The transcripts that are there to be read are what the simulation gives today."""

import pytest

from tests.simulation.transcripts.stories import STORIES
from tests.simulation.transcripts.tell import FOLDER, path, tell


@pytest.mark.parametrize("name", STORIES)
def test_a_transcript_is_what_happens(name: str) -> None:
    told = tell(STORIES[name])
    assert told == path(name).read_text(), "read the difference, then: python -m tests.simulation.transcripts --write"


def test_every_transcript_has_its_story() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(STORIES)


def test_a_story_is_told_alike_twice() -> None:
    assert tell(STORIES["delete"]) == tell(STORIES["delete"])
