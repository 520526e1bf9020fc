"""Render `manifests/` from the chart, for people without helm; with `--check`, only say whether it has drifted.

Guarantees that the chart is the one source: the files are what `helm template` prints for the default values in the
namespace `understudy-system`, the CRD in a file of its own and in `install.yaml`, and do not depend on helm's version.
Needs helm: one on PATH, or the one that comes with the local cluster. Touches no cluster and reads no clock.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "understudy"
MANIFESTS = ROOT / "manifests"
RELEASE = "understudy"
NAMESPACE = "understudy-system"
KUBERNETES = "1.30.0"
"""The oldest that has every kind of the chart; without it helm would take the Kubernetes that it was built with."""

# Helm makes the namespace by --create-namespace; here it is an object, and enforces what the operator's pod keeps to.
NAMESPACE_MANIFEST = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


def find_helm() -> Path | None:
    """Find helm: of this checkout's cluster, on PATH, or built for a cluster before, the newest build first."""
    local = ROOT / ".cluster" / "bin" / "helm"
    if local.exists():
        return local
    if found := shutil.which("helm"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "understudy" / "kubernetes"
    built = sorted(cache.glob("*/helm"), key=lambda path: path.stat().st_mtime, reverse=True)
    return built[0] if built else None


def template(helm: Path, *arguments: str) -> str:
    """Run `helm template` on the chart; raises CalledProcessError with helm's own words in `stderr`."""
    fixed = ["--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    command = [str(helm), "template", RELEASE, str(CHART), *fixed, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def documents(rendered: str) -> list[str]:
    """Split helm's output; what surrounds a document differs from one version of helm to the next, and is dropped."""
    parts = "\n".join(line for line in rendered.splitlines() if not line.startswith("# Source: ")).split("\n---\n")
    return [part.removeprefix("---\n").strip() + "\n" for part in parts if part.strip("-\n ")]


def render(helm: Path) -> dict[Path, str]:
    """Render every generated file: path below `manifests/` → text."""
    note = "# Rendered from charts/understudy by `make manifests`; change the chart, not this file.\n---\n"
    crd = documents(template(helm, "--show-only", "templates/crd.yaml"))
    every = [NAMESPACE_MANIFEST, *documents(template(helm))]
    return {
        MANIFESTS / "crd.yaml": note + "---\n".join(crd),
        MANIFESTS / "install.yaml": note + "---\n".join(every),
    }


def drifted(files: dict[Path, str]) -> list[Path]:
    """List the files that differ from what the chart renders."""
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]


def main() -> int:
    """Write the files, or with `--check` compare them; 1 when helm is missing, fails, or `--check` finds a drift."""
    helm = find_helm()
    if helm is None:
        print("render.py: helm is missing: run `make cluster`, which builds it, or put it on PATH", file=sys.stderr)
        return 1
    try:
        files = render(helm)
    except subprocess.CalledProcessError as error:
        print(f"render.py: helm cannot render {CHART.relative_to(ROOT)}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    stale = drifted(files)
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"render.py: differs from the chart: {names}; run `make manifests`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path])
    print(f"render.py: wrote {names}" if stale else "render.py: manifests/ is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
