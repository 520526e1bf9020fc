"""Every kind of fault, by name."""

from typing import Final

from chaos import places, plane, volumes, workers
from chaos.strike import Kind

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind for kind in (*workers.KINDS, *places.KINDS, *plane.KINDS, *volumes.KINDS)
}
