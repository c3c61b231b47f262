"""Moments, durations and amounts as views write them: moments in the time of the kernel's machine, with its zone.

A still picture has them in UTC: who looks at it may be anywhere.
"""

from __future__ import annotations

from datetime import datetime
from html import escape

from matterstack.core.text import format_time

_STEPS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def in_words(seconds: float) -> str:
    """Return a duration by its two largest units.

    Examples
    --------
    >>> in_words(0.4), in_words(3725), in_words(172800)
    ('0 s', '1 h 2 min', '2 d')
    """
    left = max(0, round(seconds))
    for number, (size, unit) in enumerate(_STEPS):
        if left >= size:
            whole, rest = divmod(left, size)
            below, name = _STEPS[number + 1] if number + 1 < len(_STEPS) else (1, "")
            return f"{whole} {unit}" + (f" {rest // below} {name}" if rest >= below and name else "")
    return "0 s"


def memory(gib: float | None) -> str:
    """Return an amount of memory in a unit in which it has few digits.

    Examples
    --------
    >>> memory(1.5), memory(0.0146484375), memory(None)
    ('1.5 GiB', '15 MiB', '')
    """
    if gib is None:
        return ""
    return f"{gib:.3g} GiB" if gib >= 1 else f"{gib * 1024:.3g} MiB"


def moment_html(at: float) -> str:
    """Return a moment without its zone, and without the year if that is this one; all of it where one points at it."""
    local = datetime.fromtimestamp(at).astimezone()
    shown = f"{local:%m-%d %H:%M:%S}" if local.year == datetime.now().year else f"{local:%Y-%m-%d %H:%M:%S}"
    return f"<span title='{local:%Y-%m-%d %H:%M:%S} {_zone(local)}, {format_time(at)}'>{shown}</span>"


def _zone(local: datetime) -> str:
    return escape(local.tzname() or "")
