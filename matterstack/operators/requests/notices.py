"""Telling somebody that a request waits: once a request, and once a refused answer."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.errors import InvalidConfigError
from matterstack.files import write_inside

log = logging.getLogger("matterstack.notices")

_PATIENCE_S, _COMMAND_S = 2.0, 10.0
_under_way: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody is told of a request.

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
    if notify is None or (attempt.directory / MACHINERY / "notified" / key).exists():
        return
    notice = Notice(
        key.partition("-")[0], attempt.task_id, attempt.attempt, attempt.task.assignee, str(attempt.directory), text
    )

    def tell() -> None:
        try:
            if callable(notify):
                notify(notice)
            else:
                message = json.dumps(asdict(notice)).encode()
                subprocess.run(list(notify), input=message, capture_output=True, timeout=_COMMAND_S, check=True)
        except Exception as error:  # noqa: BLE001 - somebody else's function: whatever it raises is logged
            log.warning("notify of %s (%s) failed: %r", attempt.name, key, error, extra={"task_id": attempt.task_id})

    # In a thread, because somebody's function may hang, and the tick holds the lock. A command ends
    # in any case, so it is let finish although this process may be about to end.
    thread = threading.Thread(target=tell, daemon=callable(notify), name="matterstack-notify")
    patient = not any(other.is_alive() for other in _under_way)
    thread.start()
    _under_way.add(thread)
    thread.join(_PATIENCE_S if patient else 0.0)
    if thread.is_alive() and patient:
        log.warning("notify of %s (%s) takes long, and is not waited for", attempt.name, key)
    write_inside(attempt.directory, f"{MACHINERY}/notified/{key}", b"")
