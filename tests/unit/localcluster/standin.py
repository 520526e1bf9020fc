"""Programs on PATH that stand in for docker, kind, kubectl and helm: they record how they are called, and answer.

An answer belongs to a pattern of the whole command line; the newest pattern that matches answers. Of several answers
the first call gets the first one, and so on; the last one is repeated. Without an answer a program prints nothing and
succeeds. `docker exec NODE sh …` really runs the script on this machine, with the stand-ins on PATH, so that the
scripts themselves are tested.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

SCRIPT = """#!{python} -IS
import json, os, re, sys
folder, name, words = {folder!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
text = " ".join([name, *words])
script = name == "docker" and words[:1] == ["exec"] and words[2:3] == ["sh"]
sent = "" if script or not ({{"-", "--interactive"}} & set(words)) else sys.stdin.read()
with open(folder + "/calls", "a") as file:
    file.write(json.dumps([name, words, sent]) + "\\n")
if script:
    os.execvp("sh", words[2:])
with open(folder + "/answers") as file:
    answers = [json.loads(line) for line in file]
for number, (pattern, outs) in reversed(list(enumerate(answers))):
    if re.search(pattern, text):
        used = folder + "/used-" + str(number)
        count = os.path.getsize(used) if os.path.exists(used) else 0
        with open(used, "a") as file:
            file.write("x")
        out = outs[min(count, len(outs) - 1)]
        if isinstance(out, list):
            sys.stderr.write(out[1])
            sys.exit(out[0])
        sys.stdout.write(out)
        break
"""

IPTABLES = """#!{python} -IS
import os, sys
words = [word for word in sys.argv[1:] if word != "-w"]
if words[2] == "-S":
    sys.exit(0)
file = {folder!r} + "/rules-" + os.path.basename(sys.argv[0])
rules = open(file).read().splitlines() if os.path.exists(file) else []
verb, rule = words.pop(2), " ".join(words)
if verb != "-I" and rule not in rules:
    sys.exit("no such rule")
if verb == "-I":
    rules.insert(0, rule)
if verb == "-D":
    rules.remove(rule)
open(file, "w").write("".join(rule + chr(10) for rule in rules))
"""


class Standins:
    """The programs, their answers, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self._folder = folder
        self.bin.mkdir(parents=True)
        (folder / "answers").touch()
        (folder / "calls").touch()
        for name in ("docker", "kind", "kubectl", "helm"):
            self.install(name)
        for name in ("iptables", "ip6tables"):
            self.install(name, IPTABLES)
        for name in ("sh", "cat", "grep", "base64"):  # what the scripts need of the system
            (self.bin / name).symlink_to(shutil.which(name) or name)

    def install(self, name: str, script: str = SCRIPT) -> None:
        """Put a program on PATH."""
        file = self.bin / name
        file.write_text(script.format(python=sys.executable, folder=str(self._folder)))
        file.chmod(0o755)

    def remove(self, name: str) -> None:
        """Take a program off PATH."""
        (self.bin / name).unlink()

    def answer(self, pattern: str, *outs: str | tuple[int, str]) -> None:
        """Set what calls that match are answered: output, or exit code and error text."""
        with (self._folder / "answers").open("a") as file:
            file.write(json.dumps([pattern, outs]) + "\n")

    def answer_json(self, pattern: str, *objects: Any) -> None:
        """Set what calls that match are answered, as JSON."""
        self.answer(pattern, *map(json.dumps, objects))

    def calls(self) -> list[str]:
        """Return the command lines, in their order."""
        return [" ".join([name, *words]) for name, words, _ in self._calls()]

    def called(self, start: str) -> list[str]:
        """Return the command lines that begin so."""
        return [call for call in self.calls() if call.startswith(start)]

    def sent(self, start: str) -> str:
        """Return what the first call that begins so was sent on its standard input."""
        return next(sent for name, words, sent in self._calls() if " ".join([name, *words]).startswith(start))

    def rules(self, program: str = "iptables") -> list[str]:
        """Return the rules that the firewall holds now."""
        file = self._folder / f"rules-{program}"
        return file.read_text().splitlines() if file.exists() else []

    def _calls(self) -> list[tuple[str, list[str], str]]:
        return [tuple(json.loads(line)) for line in (self._folder / "calls").read_text().splitlines()]
