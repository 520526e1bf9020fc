"""The transcripts of the simulation's stories.

python -m tests.simulation.transcripts NAME ...      tell these stories
python -m tests.simulation.transcripts --write       write all transcripts anew, and say which have changed
"""

import argparse
import sys

from tests.simulation.transcripts.stories import STORIES
from tests.simulation.transcripts.tell import FOLDER, path, tell


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *STORIES], metavar="NAME", help="stories to tell")
    parser.add_argument("--write", action="store_true", help="write all transcripts anew")
    asked = parser.parse_args()
    for name in asked.names:
        print(tell(STORIES[name]))
    if asked.write:
        write()
    elif not asked.names:
        print("\n".join(f"{name:<14} {story.title}" for name, story in STORIES.items()))
    return 0


def write() -> None:
    """Write all transcripts, and remove those of stories that are no more."""
    for name, story in STORIES.items():
        told, file = tell(story), path(name)
        if not file.exists() or file.read_text() != told:
            print(f"{file.name} has changed")
            file.write_text(told)
    for file in FOLDER.glob("*.txt"):
        if file.stem not in STORIES:
            print(f"{file.name} is removed: there is no such story")
            file.unlink()


if __name__ == "__main__":
    sys.exit(main())
