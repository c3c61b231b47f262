"""Text from outside, made harmless to look at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeGuard

_KEPT = frozenset("\n\t")


def neutral(text: str) -> str:
    r"""Return text with escapes instead of what would not be seen: ANSI sequences, bidirectional controls, NUL.

    Examples
    --------
    >>> print(neutral("gap \x1b[31m1.1 eV\x1b[0m"))
    gap \x1b[31m1.1 eV\x1b[0m
    """
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_one_line(text: str) -> str:
    r"""Return text that may be a line of a log: escaped, where anything in it would not be seen or would end the line.

    Examples
    --------
    >>> print(in_one_line("runs/a\nb"))
    runs/a\nb
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def format_time(at: float) -> str:
    """Return a moment, in seconds since the Unix epoch, as UTC text.

    Examples
    --------
    >>> format_time(0.9)
    '1970-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def storable(text: str) -> str:
    r"""Return text with escapes instead of what UTF-8 does not have: lone surrogates, of file names in another code.

    Examples
    --------
    >>> print(storable("M\udcfcller.dat"))
    M\udcfcller.dat
    """
    return text.encode("utf-8", "backslashreplace").decode()


def has_utf8(text: str) -> bool:
    """Return whether text can be written in UTF-8, which has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_storable(value: object) -> TypeGuard[str]:
    """Return whether it is text that programs and databases take: in UTF-8, without NUL."""
    return isinstance(value, str) and "\0" not in value and has_utf8(value)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a question that names what is nearly called so, to go on an error's sentence; nothing where nothing is.

    Examples
    --------
    >>> did_you_mean("relx", ["relax", "bands"])
    " (did you mean 'relax'?)"
    """
    from difflib import get_close_matches

    near = get_close_matches(str(word), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
