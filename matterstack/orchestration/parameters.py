"""Parameters of tasks: what each is done with, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matterstack.core.calls import Call, Reference

if TYPE_CHECKING:
    from matterstack.orchestration.session import Session

_MOST_ARRAY_BYTES = 1_000_000_000


def parameters_of(session: Session, specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task is done with: of a call its arguments by name, of any other its ``parameters``.

    Parameters
    ----------
    session : Session
    specification : mapping
        Of the task, as the store keeps it.

    Raises
    ------
    ValueNotReadableError
        An argument holds something that cannot be read here.
    """
    called = specification.get("call")
    if not isinstance(called, Mapping):
        return dict(specification.get("parameters") or {})
    from matterstack.functions.definitions import stored_classes
    from matterstack.functions.values import read_arguments

    call = Call.from_json(called)
    sources = {one.label: Reference(one.task_id, (), one.iteration, one.run) for one in call.sources}
    trusted = session.is_trusted()

    def fetch(name: str) -> bytes:
        return session.directory.read_stored(name.removesuffix(".npy"), _MOST_ARRAY_BYTES)

    return read_arguments(
        call.arguments,
        sources,
        fetch,
        trusted_packages=session.program(str(call.program)).packages if trusted else None,
        classes=stored_classes(type(session.campaign)) if trusted and session.campaign is not None else {},
    )
