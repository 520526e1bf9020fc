"""Draws the run: steps of each pod over time, a panel per rank, and each failover under the magnifying glass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demo.screen import JOB
from testbed import Testbed, faults
from testbed.logs import PodLog
from testbed.measure import Failover

COLOURS: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
FAULT: Final = "#c1121f"
HANDING_OVER: Final = "#fdeeee"
GAP: Final = "#f6c6c9"
"""Nobody trains."""
SHOWN_S: Final = 0.7
"""How much of both primaries a magnified failover shows."""
LATE: Final = 0.8
"""Share of the run behind which a fault's text stands left of it."""
DPI: Final = 150

TITLES: Final = {fault.name: fault.title for fault in faults.ALL}


def draw(testbed: Testbed, failovers: Sequence[Failover], began: float, folder: Path) -> tuple[Path, Path]:
    """Write the timeline and a small one for a README; return both paths."""
    logs = [log for log in testbed.logs.all() if log.pod.startswith(f"{JOB}-") and log.steps]
    shown = sorted((log for log in logs if log.steps[-1].at > began), key=lambda log: log.steps[0].at)
    ranks = sorted({log.rank for log in shown})
    figure = Figure(figsize=(13, 3.1 * len(ranks) + 3.6), layout="constrained")
    grid: Any = figure.subfigures(2, 1, height_ratios=(2.9 * len(ranks), 3.4))
    top, bottom = grid
    panels = top.subplots(len(ranks), 1, sharex=True, squeeze=False)[:, 0]
    for rank, axes in zip(ranks, panels, strict=True):
        _rank(axes, rank, shown, failovers, began)
    panels[-1].set_xlabel("seconds since kubectl apply")
    top.suptitle("Digits: steps of every pod", fontweight="bold", x=0.01, ha="left")
    bottom.suptitle("Each failover, magnified: one dot is one step", fontweight="bold", x=0.01, ha="left")
    for axes, found in zip(bottom.subplots(1, len(failovers), squeeze=False)[0], failovers, strict=True):
        _magnified(axes, found, shown)
    timeline, small = folder / "timeline.png", folder / "failover.png"
    figure.savefig(timeline, dpi=DPI)
    _small(shown, failovers, began).savefig(small, dpi=DPI)
    return timeline, small


def _small(logs: Sequence[PodLog], failovers: Sequence[Failover], began: float) -> Figure:
    """Show a rank that lost a trainer, and that failover beside it."""
    found = next((f for f in failovers if f.fault == faults.KILL_TRAINER.name), failovers[-1])
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    _rank(left, found.rank, logs, failovers, began)
    left.set_xlabel("seconds since kubectl apply")
    left.set_title("Steps of a rank, by pod", fontsize=10)
    _magnified(right, found, logs)
    return figure


def _rank(axes: Axes, rank: int, logs: Sequence[PodLog], failovers: Sequence[Failover], began: float) -> None:
    mine = [log for log in logs if log.rank == rank]
    for log, colour in zip(mine, COLOURS, strict=False):
        axes.plot([s.at - began for s in log.steps], [s.step for s in log.steps], color=colour, lw=2.2, label=log.pod)
    top = max(step.total for log in mine for step in log.steps)
    axes.set_ylim(0, top * 1.4)
    axes.set_ylabel(f"rank {rank}: step")
    own = [found for found in failovers if found.rank == rank]
    end = max(step.at for log in logs for step in log.steps) - began
    for found in failovers:
        mine_too = found in own
        axes.axvline(found.at - began, color=FAULT, lw=1.4 if mine_too else 0.7, ls="--", alpha=1 if mine_too else 0.35)
    for place, found in enumerate(own):
        late = found.at - began > LATE * end
        axes.annotate(
            f"{TITLES[found.fault]}\n{found.took_s:.2f} s, {_lost(found)}",
            # Neighbours stand at two heights: their texts may be longer than the time between them.
            (found.at - began, top * (1.33 - 0.2 * (place % 2))),
            xytext=(-5 if late else 5, 0),
            textcoords="offset points",
            color=FAULT,
            fontsize=8.5,
            va="top",
            ha="right" if late else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )
    axes.legend(loc="lower right", fontsize=8.5, frameon=False)
    _tidy(axes)


def _magnified(axes: Axes, found: Failover, logs: Sequence[PodLog]) -> None:
    mine = [log for log in logs if log.rank == found.rank]
    left, right = -max(SHOWN_S, found.took_s / 3), found.took_s + max(SHOWN_S, found.took_s / 3)
    values: list[int] = []
    stopped = 0.0
    for log, colour in zip(mine, COLOURS, strict=False):
        near = [s for s in log.steps if left <= s.at - found.at <= right]
        if not near:
            continue
        axes.plot([s.at - found.at for s in near], [s.step for s in near], "o", ms=3.2, color=colour)
        values += [s.step for s in near]
        old = near[0].at < found.at
        if old:
            stopped = max(0.0, near[-1].at - found.at)
        axes.text(
            0.02 if old else 0.98,
            0.03,
            log.pod,
            transform=axes.transAxes,
            color=colour,
            fontsize=9,
            fontweight="bold",
            ha="left" if old else "right",
        )
    low, high = min(values, default=0), max(values, default=1)
    room = max(high - low, 10)
    axes.set(xlim=(left, right), ylim=(low - 0.22 * room, high + 0.4 * room))
    axes.axvspan(0, found.took_s, color=HANDING_OVER, lw=0, zorder=0)
    axes.axvspan(min(stopped, found.took_s), found.took_s, color=GAP, lw=0, zorder=0)
    axes.axvline(0, color=FAULT, lw=1.4, ls="--")
    axes.axvline(found.decided_s, color="0.45", lw=1, ls=":")
    axes.annotate(
        f"{found.took_s:.2f} s, {_lost(found)}",
        (0, high + 0.36 * room),
        xytext=(5, 0),
        textcoords="offset points",
        va="top",
        fontsize=10,
        fontweight="bold",
        color=FAULT,
    )
    axes.annotate(
        f"decision {found.decided_s:.2f} s",
        (found.decided_s, high + 0.2 * room),
        xytext=(-5, 0) if found.decided_s > right / 2 else (5, 0),
        textcoords="offset points",
        ha="right" if found.decided_s > right / 2 else "left",
        va="top",
        fontsize=8.5,
        color="0.3",
    )
    axes.set_title(f"rank {found.rank}: {TITLES[found.fault]}", fontsize=10)
    axes.set_xlabel("seconds since the fault")
    axes.set_ylabel("step")
    _tidy(axes)


def _lost(found: Failover) -> str:
    return "no step lost" if found.lost_steps == 0 else f"{found.lost_steps} steps lost"


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
