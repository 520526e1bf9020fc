"""What the pods of a job have otherwise than its template says.

docs/reference/template.md has each field of a pod: most are taken as they are, some are refused by the resource
definition, and a few are changed. Those that are changed are told here, for an Event. Pure; the template is any JSON
that the API server has let pass, so that nothing here relies on its shape.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from understudy_contract.names import GROUP, TRAINER_CONTAINER, Env

TERMINATION_LOG: Final = "/dev/termination-log"
"""Kubernetes' default for terminationMessagePath."""


def changes(template: Mapping[str, Any]) -> tuple[str, ...]:
    """Name each field that a pod does not take from the template, with what it has instead."""
    trainer = _trainer(template)
    return tuple(_of_trainer(trainer)) + tuple(_of_metadata(_map(template.get("metadata"))))


def _of_trainer(trainer: Mapping[str, Any]) -> Iterator[str]:
    if trainer.get("readinessProbe"):
        yield f"the readinessProbe of container {TRAINER_CONTAINER} is Understudy's, since drains go by it"
    if trainer.get("terminationMessagePath") not in (None, "", TERMINATION_LOG):
        yield f"the terminationMessagePath of container {TRAINER_CONTAINER} is the agent's, {TERMINATION_LOG}"
    given = {str(_map(entry).get("name")) for entry in _list(trainer.get("env"))}
    if ours := sorted(given & set(Env)):
        yield f"the env of container {TRAINER_CONTAINER} keeps Understudy's values of {', '.join(ours)}"


def _of_metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("labels", "annotations"):
        if ours := sorted(key for key in _map(metadata.get(kind)) if str(key).startswith(f"{GROUP}/")):
            yield f"the {kind} are without {', '.join(ours)}, since {GROUP}/ is Understudy's own"


def _trainer(template: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = map(_map, _list(_map(template.get("spec")).get("containers")))
    return next((container for container in containers if container.get("name") == TRAINER_CONTAINER), {})


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
