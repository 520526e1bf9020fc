"""What a run came to: a table by kind of fault, the verdict, and every fault as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.stats import percentile
from chaos.kinds import KINDS
from chaos.outcome import Loss, Outcome
from chaos.run import Run

Verdict = Mapping[str, list[str] | str]
"""By the name of each check: a sentence for whatever is wrong; or, as one string, why it was not judged."""

HEAD: Final = (
    "fault",
    "sent",
    "primaries lost",
    "cold starts",
    "decided p50 / p95 / worst, s",
    "first step p50 / p95 / worst, s",
    "steps lost p50 / worst",
    "whole again p50 / worst, s",
    "late",
    "wrong",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Render the table as Markdown; times count from the fault.

    Faults of which two came at once have a row of their own: each is slowed down by the other. `late` counts primaries
    that no fault took: they were silent for a whole lease. The verdict says whether they are too many.
    """
    alone, paired = ([o for o in outcomes if o.paired is wanted] for wanted in (False, True))
    rows = [_row(kind.title, [o for o in alone if o.kind == name]) for name, kind in KINDS.items()]
    lines = [HEAD, tuple("---" for _ in HEAD), *rows, _row("two faults at once", paired), _row("all", outcomes)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines if line) + "\n"


def _row(title: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    sent = [outcome for outcome in outcomes if not outcome.void]
    if not sent:
        return ()
    every = [loss for outcome in sent for loss in outcome.losses]
    losses = [loss for loss in every if not loss.late]
    steps = [loss.lost_steps for loss in losses if loss.lost_steps is not None]
    whole = [outcome.whole_s for outcome in sent if outcome.whole_s is not None]
    return (
        title,
        str(len(sent)),
        str(len(losses)),
        str(sum(loss.cold for loss in losses)),
        _times([loss.decided_s for loss in losses]),
        _times([loss.recovered_s for loss in losses if loss.recovered_s is not None]),
        f"{percentile(steps, 0.5)} / {max(steps)}" if steps else "",
        f"{percentile(whole, 0.5):.1f} / {max(whole):.1f}" if whole else "",
        str(len(every) - len(losses)),
        str(sum(len(outcome.wrong) for outcome in sent)),
    )


def _times(seconds: Sequence[float]) -> str:
    return " / ".join(f"{percentile(seconds, share):.2f}" for share in (0.5, 0.95, 1)) if seconds else ""


def line(outcome: Outcome) -> str:
    """Tell one fault in words."""
    upon = f" (upon {outcome.after})" if outcome.after else ""
    at = f"{datetime.fromtimestamp(outcome.at, UTC):%H:%M:%S}" if outcome.at else "--:--:--"
    lines = [f"{outcome.number:4} {at} {outcome.kind}{upon}: {outcome.what}"]
    lines += [f"void: {outcome.void}"] if outcome.void else []
    lines += map(_loss, outcome.losses)
    lines += [f"whole again after {outcome.whole_s:.1f} s"] if outcome.whole_s is not None else []
    lines += [f"WRONG: {wrong}" for wrong in outcome.wrong]
    return "\n       ".join(lines)


def _loss(loss: Loss) -> str:
    took = "none" if loss.recovered_s is None else f"{loss.recovered_s:.2f} s"
    steps = "?" if loss.lost_steps is None else loss.lost_steps
    how = f"term {loss.term}, {loss.cause}{', cold' if loss.cold else ''}{', late' if loss.late else ''}"
    decided = f"decided {loss.decided_s:.2f} s, first step {took}"
    return f"{loss.target} {loss.old} → {loss.new} ({how}): {decided}, {steps} steps lost"


def verdict_text(verdict: Verdict) -> str:
    """Say what was checked, and what is wrong: that comes last, since of a long log often only the end is kept."""
    sound = [f"ok    {check}" for check, found in verdict.items() if not found]
    lines = sound + [f"not judged: {check}: {found}" for check, found in verdict.items() if isinstance(found, str)]
    for check, sentences in wrong(verdict).items():
        lines.append(f"WRONG {check}")
        lines += [f"      {sentence}" for sentence in sentences]
    return "\n".join(lines) + "\n"


def wrong(verdict: Verdict) -> dict[str, list[str]]:
    """Return the checks that found something wrong; what was not judged is none of them."""
    return {check: found for check, found in verdict.items() if found and not isinstance(found, str)}


def write(folder: Path, name: str, run: Run, facts: Mapping[str, Any], verdict: Verdict) -> None:
    """Write table and verdict as Markdown, and everything as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{table(run.outcomes)}\n```\n{verdict_text(verdict)}```\n"
    (folder / f"{name}.md").write_text(text)
    found = {
        "facts": facts,
        "verdict": verdict,
        "events_worst_minute": run.events_worst_minute,
        "operator_peak_mb": round(run.memory.peak_mb(), 1),
        "operator_growth_mb": run.memory.judged(),
        "checkpoints_seen": len(run.audit.checksums),
        "steps_compared_between_terms": run.audit.compared,
        "faults": [asdict(outcome) for outcome in run.outcomes],
    }
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
