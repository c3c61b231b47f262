"""Telling somebody that a request waits: once a request, and once a refused answer."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from matterstack.core.records import Attempt
from matterstack.errors import InvalidConfigError
from matterstack.files import write_inside

log = logging.getLogger("matterstack.notices")

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody is told.

    Attributes
    ----------
    event : str
        ``request`` or ``refusal``.
    task_id : str
    attempt : int
    assignee : str or None
        For whom it is.
    directory : str
        Where the request is.
    text : str
        What is asked, or why an answer was refused.
    """

    event: str
    task_id: str
    attempt: int
    assignee: str | None
    directory: str
    text: str


#: A function of a `Notice`, or a command that gets it as JSON on its standard input.
Notify = Callable[[Notice], object] | Sequence[str]


def check_notify(notify: Notify | None) -> None:
    """Raise `InvalidConfigError` unless this can be used to tell somebody."""
    words = isinstance(notify, list | tuple) and notify and all(isinstance(word, str) for word in notify)
    if not (notify is None or callable(notify) or words):
        raise InvalidConfigError(f"notify must be a function or a command as a list of texts, not {notify!r}")


def notify_once(notify: Notify | None, attempt: Attempt, key: str, text: str) -> None:
    """Tell, unless that was done before; a failure is logged, and is the end of it.

    A kill between the telling and the note of it lets the next tick tell again: better
    twice than never.

    Parameters
    ----------
    notify : callable or sequence of str or None
    attempt : Attempt
    key : str
        ``request``, or ``refusal-<n>``.
    text : str
        What it is about.
    """
    if notify is None or (attempt.directory / "notified" / key).exists():
        return
    spec = attempt.spec
    notice = Notice(
        key.partition("-")[0], attempt.task_id, attempt.attempt, spec.get("assignee"), str(attempt.directory), text
    )
    failure: list[Exception] = []

    def tell() -> None:
        try:
            if callable(notify):
                notify(notice)
            else:
                message = json.dumps(asdict(notice)).encode()
                subprocess.run(list(notify), input=message, capture_output=True, timeout=_PATIENCE_S, check=True)
        except Exception as error:  # noqa: BLE001 - somebody else's function: whatever it raises is logged
            failure.append(error)

    # In a thread, because somebody's function may hang, and the tick holds the lock.
    thread = threading.Thread(target=tell, daemon=True, name="matterstack-notify")
    thread.start()
    thread.join(_PATIENCE_S + 1.0)
    problem = failure[0] if failure else f"it takes longer than {_PATIENCE_S:g} s" if thread.is_alive() else None
    if problem is not None:
        log.warning("notify of %s (%s) failed: %r", attempt.name, key, problem, extra={"task_id": attempt.task_id})
    write_inside(attempt.directory, f"notified/{key}", b"")
