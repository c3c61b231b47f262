"""Moments and durations as live views write them: in the time of the kernel's machine, with its zone.

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


def moment_html(at: float) -> str:
    """Return a moment without its zone, and without the year if that is this one; all of it where one points at it."""
    local = datetime.fromtimestamp(at).astimezone()
    shown = f"{local:%m-%d %H:%M:%S}" if local.year == datetime.now().year else f"{local:%Y-%m-%d %H:%M:%S}"
    return f"<span title='{local:%Y-%m-%d %H:%M:%S} {_zone(local)}, {format_time(at)}'>{shown}</span>"


def _zone(local: datetime) -> str:
    return escape(local.tzname() or "")
