"""Looks of the statuses: one letter, colour, glyph and name each, alike in every view.

The colours are those of the palette; the glyphs are paths, so that they need no font and can be told apart in grey.
"""

from __future__ import annotations

from typing import NamedTuple

from matterstack.core.states import AttemptStatus, RunStatus, TaskStatus
from matterstack.notebook.palette import AMBER, BLUE, GREEN, GREY, RED, ROSE, TAN, TEAL, VIOLET


class Look(NamedTuple):
    """How a status is shown.

    Attributes
    ----------
    code : str
        One letter.
    name : str
        As in tables and legends.
    colour : str
        Of the node's edge and glyph.
    glyph : str
        Path in a box of 16 by 16.
    """

    code: str
    name: str
    colour: str
    glyph: str


LOOKS: tuple[Look, ...] = (
    Look("C", "COMPLETED", GREEN, "M3 8.5 L6.5 12 L13 4.5"),
    Look("X", "RUNNING", BLUE, "M5 3 L13 8 L5 13 Z"),
    Look("W", "WAITING", AMBER, "M8 2.5 V9.5 M8 12 V13.5"),
    Look("Q", "SUBMITTED", TEAL, "M4 3 H12 L4 13 H12 Z"),
    Look("R", "READY", VIOLET, "M8 3.5 A4.5 4.5 0 1 1 7.99 3.5"),
    Look("B", "BLOCKED", GREY, "M3.5 8 H4.5 M7.5 8 H8.5 M11.5 8 H12.5"),
    Look("F", "FAILED", RED, "M4 4 L12 12 M12 4 L4 12"),
    Look("S", "SKIPPED", ROSE, "M3.5 4 L8 8 L3.5 12 M8.5 4 L13 8 L8.5 12"),
    Look("N", "CANCELLED", TAN, "M4 4 H12 V12 H4 Z"),
)
BY_CODE = {look.code: look for look in LOOKS}
#: Looks of what is under way.
LIVE_LOOKS = frozenset(BY_CODE[code] for code in "XWQ")
#: Looks of the statuses of a run: those of tasks, and two bars for one that is paused.
RUN_LOOKS = {
    RunStatus.PENDING: Look("R", "PENDING", VIOLET, BY_CODE["R"].glyph),
    RunStatus.RUNNING: BY_CODE["X"],
    RunStatus.PAUSED: Look("P", "PAUSED", AMBER, "M5.5 3.5 V12.5 M10.5 3.5 V12.5"),
    RunStatus.COMPLETED: BY_CODE["C"],
    RunStatus.FAILED: BY_CODE["F"],
    RunStatus.CANCELLED: BY_CODE["N"],
}
#: Of the statuses of attempts.
COLOURS_OF_ATTEMPTS = {
    str(AttemptStatus.SUBMITTING): TEAL,
    str(AttemptStatus.SUBMITTED): TEAL,
    str(AttemptStatus.RUNNING): BLUE,
    str(AttemptStatus.WAITING): AMBER,
    str(AttemptStatus.COLLECTING): BLUE,
    str(AttemptStatus.COMPLETED): GREEN,
    str(AttemptStatus.FAILED): RED,
    str(AttemptStatus.LOST): RED,
    str(AttemptStatus.CANCELLED): TAN,
}
_OF_TASK = {str(status): code for status, code in zip(TaskStatus, "BQCFSN", strict=True)}
_OF_ATTEMPT = {
    str(AttemptStatus.RUNNING): "X",
    str(AttemptStatus.COLLECTING): "X",
    str(AttemptStatus.WAITING): "W",
}


def code_of(status: str, unmet: int, attempt_status: str | None, *, asks: bool = False, held: bool = False) -> str:
    """Return the letter of a task that stands so.

    Examples
    --------
    >>> code_of("PENDING", 0, None), code_of("PENDING", 2, None), code_of("SUBMITTED", 0, "WAITING")
    ('R', 'B', 'W')
    """
    if status == TaskStatus.PENDING:
        return "W" if asks else "B" if unmet or held else "R"
    if status == TaskStatus.SUBMITTED and attempt_status in _OF_ATTEMPT:
        return _OF_ATTEMPT[attempt_status]
    return _OF_TASK[status]


def look_of_attempt(status: str) -> Look:
    """Return how an attempt of a status looks.

    Examples
    --------
    >>> look_of_attempt("COLLECTING").name, look_of_attempt("LOST").name
    ('RUNNING', 'FAILED')
    """
    if status == AttemptStatus.LOST:
        return BY_CODE["F"]
    return BY_CODE[_OF_ATTEMPT.get(status) or _OF_TASK.get(status, "Q")]
