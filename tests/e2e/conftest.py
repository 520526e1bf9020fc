"""The cluster, the images, the operator installed by helm, and a namespace for each module or test.

A failing test is shown with what a person would look at first: Events, status, pods, the logs of the pods and of the
operator.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from localcluster import Cluster, choice
from testbed import Testbed, operator
from tests.e2e import jobs
from tests.e2e.beds import MakeBed, describe, described, in_use

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The local cluster, with the images as they are in this checkout.

    UNDERSTUDY_IMAGES=keep takes the images that the nodes have, whatever the checkout says.
    """
    found = choice.up()
    if os.environ.get("UNDERSTUDY_IMAGES") != "keep":
        subprocess.run([sys.executable, "-m", "localcluster", "images"], cwd=ROOT, check=True)
    return found


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Cluster:
    """The cluster with the operator at work."""
    operator.install(cluster)
    return cluster


@pytest.fixture(scope="session")
def make_bed(release: Cluster) -> Iterator[MakeBed]:
    """Make namespaces with the trainers' scripts in them; they are deleted at the end of the session."""
    with ExitStack() as stack:

        def make(**labels: str) -> Testbed:
            testbed = Testbed(release, f"e2e-{uuid.uuid4().hex[:6]}")
            testbed.kube.create("/api/v1/namespaces", {"metadata": {"name": testbed.namespace, "labels": labels}})
            stack.enter_context(testbed)
            jobs.deliver_scripts(testbed)
            return testbed

        yield make


@pytest.fixture
def bed(make_bed: MakeBed) -> Iterator[Testbed]:
    """A namespace of the test's own."""
    testbed = make_bed()
    with described(testbed):
        yield testbed


@pytest.fixture(scope="module")
def module_bed(make_bed: MakeBed) -> Iterator[Testbed]:
    """A namespace for a module whose tests share their jobs."""
    testbed = make_bed()
    with described(testbed):
        yield testbed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add to a failure what the cluster looked like at that moment."""
    report = yield
    if report.failed:
        for testbed in in_use:
            report.sections.append((f"namespace {testbed.namespace}", describe(testbed)))
    return report
