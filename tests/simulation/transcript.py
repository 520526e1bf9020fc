"""What happened, in lines that a person can follow."""

from understudy import protocol
from understudy_contract.names import Label

from tests.simulation.server import Change
from tests.simulation.timeline import Timeline


class Transcript:
    """Lines of time, who, and what."""

    def __init__(self, timeline: Timeline) -> None:
        self.lines: list[tuple[float, str, str]] = []
        self.phase = ""
        """Of the job."""
        self._timeline = timeline

    def say(self, who: str, text: str) -> None:
        """Write a line."""
        self.lines.append((self._timeline.now, who, text))

    def __str__(self) -> str:
        """Render all of it."""
        return "".join(f"{at:9.3f}  {who:<12} {text}\n" for at, who, text in self.lines)

    def note(self, change: Change) -> None:
        """Write down what changed, unless it is a renewal or an Event."""
        if change.resource == "trainingjobs" and change.new is not None:
            self.phase = change.new.get("status", {}).get("phase", "")
        if change.resource == "events" or _is_renewal(change):
            return
        verb = "makes" if change.old is None else "removes" if change.new is None else "changes"
        text = f"{verb} {change.resource}/{change.name}"
        match change.resource:
            case "leases" if change.new is not None:
                spec = change.new["spec"]
                text += f": {spec.get('holderIdentity')} in term {spec.get('leaseTransitions')}"
            case "pods" if change.new is not None:
                meta, phase = change.new["metadata"], change.new["status"]["phase"]
                role = meta["labels"].get(Label.ROLE, "without a role")
                text += f": {phase}, {role}{', is to end' if meta.get('deletionTimestamp') else ''}"
            case "trainingjobs" if change.new is not None:
                text += f": {self.phase}"
        self.say(change.who, text)


def brief(message: protocol.FromTrainer) -> str:
    """Shorten a message: six digits of a digest tell it from another."""
    text = str(message)
    return text.partition("digest=")[0] + text[text.find("digest=") + 8 :][:6] if "digest=" in text else text


def _is_renewal(change: Change) -> bool:
    if change.resource != "leases" or change.old is None or change.new is None:
        return False
    renewed = {"renewTime": change.new["spec"].get("renewTime")}
    same = {**change.old["spec"], **renewed} == change.new["spec"]
    return not change.who.startswith("operator") or (same and "labels" not in change.new["metadata"])
