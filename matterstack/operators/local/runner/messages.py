"""Messages about attempts: what a runner tells of them, and how one that ended is journalled.

Who reads them in a journal, and who hears them, looks at each before it is believed: either may be anybody's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

_LATEST_S = 1e11  # in the year 5138: seconds since the Unix epoch behind it are no time that was meant


def is_text(value: object) -> bool:
    """Return whether it is text that can be stored."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_whole(value: object, least: int, most: int) -> bool:
    """Return whether it is a whole number between two, both included."""
    return type(value) is int and least <= value <= most


def is_number(value: object, least: float, most: float) -> bool:
    """Return whether it is a number between two, both included."""
    return type(value) in (int, float) and least <= value <= most  # type: ignore[operator]


def is_time(value: object) -> bool:
    """Return whether it is a time, in seconds since the Unix epoch."""
    return is_number(value, 0, _LATEST_S)


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_IDENTITY: dict[str, Callable[[object], bool]] = {"token": is_text}
_is_reason = _or_none(is_text)
_START = {**_IDENTITY, "external_id": _or_none(is_text), "started_at": _or_none(is_time)}
_FIELDS: dict[str, dict[str, Callable[[object], bool]]] = {
    "queued": _IDENTITY,
    "absent": _IDENTITY,
    "vanished": _IDENTITY,
    "started": _START,
    "ended": {
        **_START,
        "exit_code": _or_none(lambda code: is_whole(code, -128, 0xFFFFFFFF)),
        "reason": _is_reason,
        "note": _or_none(is_text),
        "ended_at": is_time,
    },
}


def flaw(message: object) -> str | None:
    """Return what is wrong with a message about an attempt, in a few words; None for nothing.

    Parameters
    ----------
    message : Any
        Decoded JSON.
    """
    if not isinstance(message, dict):
        return "it is no object"
    event = message.get("event")
    fields = _FIELDS.get(event) if isinstance(event, str) else None
    if fields is None:
        return f"its event is {event!r:.80}"
    for name, is_right in fields.items():
        if name not in message:
            return f"it has no {name}"
        if not is_right(message[name]):
            return f"its {name} is {message[name]!r:.80}"
    if "reason" in message and not _is_reason(message["reason"]):
        return f"its reason is {message['reason']!r:.80}"
    return None
