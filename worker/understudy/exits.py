"""How a trainer ends without failing: SystemExit with a reserved code, so that the script's `finally` clauses run."""

from understudy_contract.exits import ExitCode


class HandedOverExit(SystemExit):
    """The state is saved and another pod goes on: nothing behind the training loop runs."""

    def __init__(self) -> None:
        super().__init__(int(ExitCode.HANDED_OVER))


class SupersededExit(SystemExit):
    """Another pod trains this rank at a higher term."""

    def __init__(self, term: int) -> None:
        super().__init__(int(ExitCode.SUPERSEDED))
        self.term = term
        """The higher term."""
