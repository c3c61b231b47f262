"""Numbers: told from True and False, and read as people write them."""

from __future__ import annotations

import re
from typing import TypeGuard

#: A number as a person may write it in a form or a cell: ``.5``, ``+1.5`` and ``007`` count. JavaScript reads it alike.
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
#: What word processors put in place of a minus: the minus sign, hyphens, the figure dash and the en dash.
MINUSES = "\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d"
_LATEST_S = 9e9  # in the year 2255; tables count nanoseconds in 64 bits, and end in 2262
#: More digits than any measurement has; what is longer is no number.
_MOST_CHARACTERS = 400

_IS_NUMBER = re.compile(rf"{NUMBER}\Z", re.ASCII)
_IS_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}\Z", re.ASCII)
_LOOKS_LIKE_ONE = re.compile(r"[+-]?\d[\d.,'\u2019\s\u00a0\u202f]*\Z", re.ASCII)
_TO_MINUS = str.maketrans(dict.fromkeys(MINUSES, "-"))


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_time(value: object) -> bool:
    """Return whether a value can be a time in seconds since the Unix epoch: one that clocks and tables can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST_S


def is_exit_code(value: object) -> bool:
    """Return whether a value can be the exit code of a command."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 32


def is_amount(value: object) -> bool:
    """Return whether a value can be an amount of something that was used: finite, and not below zero."""
    return is_number(value) and 0 <= value < float("inf")


def read_number(text: str, decimal: str = ".") -> int | float | None:
    """Return the number a person wrote; None where it is none, or can be read in two ways.

    Parameters
    ----------
    text : str
        A cell or the field of a form.
    decimal : {'.', ','}
        The decimal sign of the file. Where it is the comma, a point counts too, unless it may part thousands.

    Examples
    --------
    >>> read_number(" \u2212.5 "), read_number("2,5", ","), read_number("2,5")
    (-0.5, 2.5, None)
    """
    word = text.strip().translate(_TO_MINUS)
    if len(word) > _MOST_CHARACTERS or (decimal == "," and _IS_GROUPED.match(word)):
        return None
    if decimal == "," and "." not in word:
        word = word.replace(",", ".", 1)
    found = _IS_NUMBER.match(word)
    if found is None:
        return None
    value: int | float = int(word) if word.lstrip("+-").isdecimal() else float(word)
    return None if value in (float("inf"), float("-inf")) else value


def why_no_number(text: str, decimal: str = ".") -> str | None:
    """Return in plain words why a text that looks like a number is not taken as one; None where it does not.

    Examples
    --------
    >>> why_no_number("3,2")
    "'3,2' can be read in two ways, since a comma may part thousands too: write a point, as in 3.2"
    """
    word = text.strip().translate(_TO_MINUS)
    if len(word) > 40 or read_number(word, decimal) is not None or not _LOOKS_LIKE_ONE.match(word):
        return None
    shown = f"{text.strip()!r} can be read in two ways"
    if decimal == "," and _IS_GROUPED.match(word):
        ways = f"{word.replace('.', ',')} or {word.replace('.', '')}"
        return f"{shown}, since this table has decimal commas: write {ways}"
    if decimal == "." and word.count(",") == 1 and read_number(word, ",") is not None:
        return f"{shown}, since a comma may part thousands too: write a point, as in {word.replace(',', '.')}"
    return f"{shown}: write it without signs or spaces that part thousands, as in 12345{decimal}6"
