"""A namespace for each case, and what is noted of it for the table in docs/reference/cases.md.

A case that fails is shown as an end-to-end test is. UNDERSTUDY_IMAGES=keep takes the images that the nodes have, and
UNDERSTUDY_CHART=keep the release that is installed: the runner (`python -m tests.cases`) sets both.
"""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from localcluster import Cluster
from testbed import Testbed, operator
from tests.e2e.beds import described
from tests.e2e.conftest import cluster, pytest_runtest_makereport

__all__ = ["cluster", "pytest_runtest_makereport"]

Note = Callable[[str], None]
"""Notes what was seen, in words for a reader of the table."""


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Cluster:
    """The cluster with the operator at work."""
    if os.environ.get("UNDERSTUDY_CHART") != "keep":
        operator.install(cluster)
    return cluster


@pytest.fixture
def bed(release: Cluster) -> Iterator[Testbed]:
    """A namespace of the case's own."""
    with Testbed(release, f"case-{uuid.uuid4().hex[:6]}") as testbed, described(testbed):
        yield testbed


@pytest.fixture(autouse=True)
def seen(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Note:
    """Note what a case stages and expects, and return what notes more."""
    marker = request.node.get_closest_marker("case")
    assert marker is not None, "each case says what it stages and expects: @pytest.mark.case(staged=…, expected=…)"
    for key in ("staged", "expected"):
        record_property(key, marker.kwargs[key])
    return lambda text: record_property("seen", text)
