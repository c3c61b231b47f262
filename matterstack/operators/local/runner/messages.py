"""Messages about attempts: what a runner tells of them, and how one that ended is journalled.

Who reads them in a journal, and who hears them, looks at each before it is believed: either may be anybody's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

_MOST_USED = 1e12  # seconds of CPU time, or GiB
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


def _is_exit_code(value: object) -> bool:
    return is_whole(value, -128, 0xFFFFFFFF)


def _is_amount(value: object) -> bool:
    return is_number(value, 0, _MOST_USED)


#: What a message has, how that is checked, and whether it may be null.
_Fields = tuple[tuple[str, "Callable[[object], bool]", bool], ...]
_IDENTITY: _Fields = (("token", is_text, False),)
_START: _Fields = (*_IDENTITY, ("external_id", is_text, True), ("started_at", is_time, True))
_FIELDS: dict[str, _Fields] = {
    "queued": _IDENTITY,
    "absent": _IDENTITY,
    "vanished": _IDENTITY,
    "started": _START,
    "ended": (
        *_START,
        ("exit_code", _is_exit_code, True),
        ("reason", is_text, True),
        ("note", is_text, True),
        ("ended_at", is_time, False),
    ),
}
#: What a message may have besides: it is null where that is not known, and runners of before did not tell it.
_BESIDES: _Fields = (("cpu_s", _is_amount, True), ("peak_memory_gib", _is_amount, True))


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
    for name, is_right, may_be_null in fields:
        if name not in message:
            return f"it has no {name}"
        value = message[name]
        if not (value is None and may_be_null) and not is_right(value):
            return f"its {name} is {value!r:.80}"
    for name, is_right, _ in _BESIDES:
        if message.get(name) is not None and not is_right(message[name]):
            return f"its {name} is {message[name]!r:.80}"
    reason = message.get("reason")
    return None if reason is None or is_text(reason) else f"its reason is {reason!r:.80}"
