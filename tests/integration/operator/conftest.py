"""The session's API server, with the operator's rights and the definition installed from manifests/install.yaml."""

import gc
import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from understudy_contract import names
from understudy_kube.client import Api

from tests.integration.operator.control_plane import ACCOUNT, SYSTEM, ControlPlane, await_policy, running
from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank
from tests.integration.operator.stage import Stage

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent

DEFINITION = f"{names.PLURAL}.{names.GROUP}"
MakeOperator = Callable[[str], Operator]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A watch that is left ends with a TLS farewell, which a test's loop does not live to see: no leak of ours."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


def install(plane: ControlPlane) -> None:
    """Install what manifests/install.yaml has; no controller makes pods of the operator's Deployment here."""
    plane.run_kubectl("apply", "--server-side", "-f", ROOT / "manifests" / "install.yaml")
    plane.run_kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{DEFINITION}")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running(tmp_path_factory.mktemp("control-plane")) as plane:
        install(plane)
        await_policy(plane)
        yield plane
    gc.collect()  # what the last test's loop left, too, while that test's filter of warnings holds


@pytest_asyncio.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """The API as its administrator sees it."""
    async with Api(control_plane.credentials()) as opened:
        yield opened


@pytest_asyncio.fixture
async def stage(api: Api, control_plane: ControlPlane) -> Stage:
    """A namespace of the test's own."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    return Stage(api, namespace)


@pytest.fixture(scope="session", autouse=True)
def nodes(control_plane: ControlPlane) -> None:
    """Two nodes that are Ready."""
    for name in ("node-a", "node-b"):
        control_plane.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        path = f"/api/v1/nodes/{name}/status"
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": [ready]}}
        control_plane.request("PUT", path, body)


@pytest.fixture(scope="session")
def make_operator(control_plane: ControlPlane) -> MakeOperator:
    """Makes an operator's process, of a name of its own; started by who asked for it."""
    return operators_of(control_plane)


def operators_of(control_plane: ControlPlane) -> MakeOperator:
    """Make what makes operators of a control plane on which the chart is installed."""
    kubeconfig = control_plane.kubeconfig("operator", control_plane.token_of(SYSTEM, ACCOUNT), namespace=SYSTEM)

    def make(name: str) -> Operator:
        with socket.socket() as one, socket.socket() as other:
            for probe in (one, other):
                probe.bind(("127.0.0.1", 0))
            ports = [str(probe.getsockname()[1]) for probe in (one, other)]
        environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
        environment |= dict(zip(("UNDERSTUDY_HEALTH_PORT", "UNDERSTUDY_READY_PORT"), ports, strict=True))
        environment.pop("KUBERNETES_SERVICE_HOST", None)
        return Operator(
            [sys.executable, "-m", "understudy_operator"], environment, control_plane.folder / f"{name}.log"
        )

    return make


@pytest.fixture(scope="session")
def operator(make_operator: MakeOperator) -> Iterator[Operator]:
    """The operator; its log is printed with a failure of the test that uses it last."""
    made = make_operator("operator")
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def rank(stage: Stage, api: Api, operator: Operator) -> Rank:
    await stage.create_job("job", failover={"leaseDurationSeconds": 60, "handOverSeconds": 10})
    begun = Rank(stage, api, "job")
    await begun.begin()
    return begun


@pytest.fixture(autouse=True)
def show_the_operators_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what the operator logged during a test; pytest shows it when the test failed."""
    if "operator" not in request.fixturenames:
        yield
        return
    operator: Operator = request.getfixturevalue("operator")
    start = len(operator.text()) if operator.log.exists() else 0
    yield
    print(operator.text()[start:])
