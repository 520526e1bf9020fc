"""The cluster in use, for its faults. (A second one, made and ended by its tests, is in test_life.py.)"""

import os
import time
from collections.abc import Iterator

import pytest

from localcluster.embedded import EmbeddedCluster
from tests.localcluster.tools import until


@pytest.fixture(scope="session")
def cluster() -> EmbeddedCluster:
    """The embedded cluster of this machine, made if none runs."""
    return EmbeddedCluster.up()


@pytest.fixture
def namespace(cluster: EmbeddedCluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"localcluster-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: cluster.api.exists(account), "the namespace's ServiceAccount")
    yield name
    cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")
