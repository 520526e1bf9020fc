"""Every kind of fault, by name."""

from typing import Final

from chaos import network, nodes, plane, volumes, workers
from chaos.strike import Kind

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind for kind in (*workers.KINDS, *nodes.KINDS, *network.KINDS, *plane.KINDS, *volumes.KINDS)
}
