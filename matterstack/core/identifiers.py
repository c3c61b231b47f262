"""Names that are safe as a file name, a job name and an HTML id."""

from __future__ import annotations

import re

from matterstack.errors import InvalidIdentifierError, UnsafePathError

MAX_LENGTH = 128
_SEPARATOR = re.compile(r"[-_.]")
_LABEL = re.compile(r"\d+\.")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_identifier(text: object, what: str) -> str:
    """Return `text` if it is a valid id, else raise.

    Parameters
    ----------
    text : object
        The candidate.
    what : str
        How the error names it, for example ``"task id"``.

    Raises
    ------
    InvalidIdentifierError
        Not a string, empty, too long, or with a character that is not allowed.
    """
    if isinstance(text, str) and len(text) <= MAX_LENGTH and _IDENTIFIER.match(text):
        return text
    shown = repr(text)
    if len(shown) > 80:
        shown = f"{shown[:77]}... ({len(shown)} characters)"
    raise InvalidIdentifierError(
        f"{shown} is not a valid {what}: use letters, digits, '.', '_' and '-', beginning with a letter or digit, "
        f"at most {MAX_LENGTH} characters"
    )


def check_task_id(text: object) -> str:
    """Return `text` if it is a valid task id, else raise: a valid id that is not read as ``<iteration>.<task_id>``.

    Raises
    ------
    InvalidIdentifierError
    """
    name = check_identifier(text, "task id")
    if _LABEL.match(name):
        raise InvalidIdentifierError(
            f"{name!r} is not a valid task id: tables call a task <iteration>.<task_id>, so an id must not begin with "
            "digits and a dot; 't" + name + "' would do"
        )
    return name


def check_relative_path(text: object, what: str) -> str:
    """Return `text` if it is a path that stays inside the directory it is relative to.

    Raises
    ------
    UnsafePathError
        Empty, absolute, with ``..``, ``.`` or empty parts, a backslash or a control character.
    """
    if isinstance(text, str) and text and "\\" not in text and text.isprintable() and len(text) <= 1024:
        parts = text.split("/")
        if not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
            return text
    raise UnsafePathError(
        f"{what} {text!r} is not a plain relative path: it must stay inside the attempt's directory, "
        "as in 'final.xyz' or 'out/final.xyz'"
    )


def stem_of(task_id: str) -> str:
    """Return the part of a name that its likes share: to the first separator, else without the number at its end.

    Examples
    --------
    >>> stem_of("relax-Al"), stem_of("bands_003"), stem_of("t17"), stem_of("42")
    ('relax', 'bands', 't', '')
    """
    head, *rest = _SEPARATOR.split(task_id, maxsplit=1)
    return head if rest else head.rstrip("0123456789")
