"""What an operator does that is there before what it needs; on a control plane of the test's own, which lacks it."""

from pathlib import Path

import pytest
from understudy_kube.client import Api

from tests.integration.operator.conftest import DEFINITION, install, operators_of
from tests.integration.operator.control_plane import running
from tests.integration.operator.stage import Stage

pytestmark = pytest.mark.cluster


async def test_an_operator_started_before_the_resource_definition_hears_of_jobs_once_it_is_there(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as plane:
        install(plane)
        plane.run_kubectl("delete", "crd", DEFINITION)
        operator = operators_of(plane)("early")
        operator.start()
        try:
            await operator.said("install the resource definition first")
            install(plane)
            async with Api(plane.credentials()) as api:
                stage = Stage(api, "default")
                for name in ("first", "second"):  # who begins to lead lists the jobs; of later ones kopf has to tell
                    await stage.create_job(name)
                    await stage.until("pods", f"{name}-0-0", lambda _: True, f"the pod of {name}")
        finally:
            operator.kill()
