"""What the operators' processes hold in memory, sampled after each fault.

A process is judged that was seen for long enough: the median of the last third of its samples against that of the first
third, once it has warmed up. Chaos ends operators, too, so that several processes are judged, each by itself; `draw`
leaves time between those faults. Finds a leak of a third of a megabyte in each failover, and none much smaller.
"""

import statistics
from dataclasses import dataclass, field
from typing import Final

from benchmarks.processes import resident_mb
from chaos.ward import Ward
from localcluster.processes import Identity
from testbed import operator
from testbed.kube import wall

WARM_AFTER_S: Final = 60.0
JUDGED_AFTER_S: Final = 240.0
SAMPLES_MIN: Final = 9
GROWTH_MAX_MB: Final = 8.0
"""Between the thirds: CPython's arenas and caches of connections move by less than half of it."""
PEAK_MAX_MB: Final = 120.0
"""The operator's goal with ten jobs (docs/reference/measurements.md)."""


@dataclass(slots=True)
class Life:
    """Samples of one process: wall clock and megabytes."""

    pod: str
    samples: list[tuple[float, float]] = field(default_factory=list)

    def growth_mb(self) -> float | None:
        """Say how much it grew; None: not seen for long enough."""
        warm = [(at, mb) for at, mb in self.samples if at >= self.samples[0][0] + WARM_AFTER_S]
        if len(warm) < SAMPLES_MIN or warm[-1][0] - warm[0][0] < JUDGED_AFTER_S:
            return None
        third = len(warm) // 3
        first, last = (statistics.median(mb for _, mb in part) for part in (warm[:third], warm[-third:]))
        return last - first


@dataclass(slots=True)
class Memory:
    """All processes of operators that were seen."""

    lives: dict[Identity, Life] = field(default_factory=dict)

    def sample(self, ward: Ward) -> None:
        """Look at those that run now."""
        for pod in operator.pods(ward.kube):
            name: str = pod["metadata"]["name"]
            for process in ward.cluster.processes(operator.NAMESPACE, name):
                if (identity := Identity.of(process.pid)) is not None:
                    self.lives.setdefault(identity, Life(name)).samples.append((wall(), resident_mb(process.pid)))

    def peak_mb(self) -> float:
        """Return the most that any of them held."""
        return max((mb for life in self.lives.values() for _, mb in life.samples), default=0.0)

    def judged(self) -> list[tuple[str, float]]:
        """Return pod and growth of each process that was seen for long enough; a pod may have had several."""
        found = [(life.pod, life.growth_mb()) for life in self.lives.values()]
        return [(pod, growth) for pod, growth in found if growth is not None]

    def grown(self) -> list[str] | str:
        """Say which of them grew; or, as one string, why nobody can tell."""
        if not (judged := self.judged()):
            return f"no process of an operator was seen for {(WARM_AFTER_S + JUDGED_AFTER_S) / 60:g} minutes"
        return [f"the operator {pod} grew by {mb:.1f} MB" for pod, mb in judged if mb > GROWTH_MAX_MB]

    def too_large(self) -> list[str]:
        """Say whether one of them held more than it may."""
        peak = self.peak_mb()
        return [f"an operator held {peak:.0f} MB, more than {PEAK_MAX_MB:.0f}"] if peak > PEAK_MAX_MB else []
