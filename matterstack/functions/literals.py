"""Literals, and other obvious statements, that give a constant exactly."""

from __future__ import annotations

import io
import logging
import math
import re
from typing import Any, TypeVar

_MOST_WRITTEN_OUT = 20_000  # characters; a longer constant is written as compact JSON
_WIDTH = 100


def statement_of(name: str, value: Any) -> tuple[str, str] | None:
    """Return the statement of a constant that has an obvious one, and the module it needs."""
    plain = literal_of(value)
    if plain is not None:
        return f"{name} = {plain}", ""
    if isinstance(value, float):
        return f'{name} = float("{value}")', ""
    if isinstance(value, logging.Logger) and logging.getLogger(value.name) is value:
        return f"{name} = logging.getLogger({value.name!r})", "logging"
    if isinstance(value, re.Pattern):
        flags = value.flags & ~(re.compile("").flags if isinstance(value.pattern, str) else 0)
        return f"{name} = re.compile({value.pattern!r}{f', {flags}' if flags else ''})", "re"
    if isinstance(value, TypeVar) and not (value.__constraints__ or value.__bound__):
        return f"{name} = typing.TypeVar({value.__name__!r})", "typing"
    return None


def literal_of(value: Any) -> str | None:
    """Return a value as a literal that gives exactly it, or None."""
    if not _isliteral_of(value, 0):
        return None
    text = _written(value, "")
    return text if len(text) <= _MOST_WRITTEN_OUT else None


def _written(value: Any, margin: str) -> str:
    """Return a plain value as a literal, over several lines where it is long; of a set always in the same order."""
    kind: type = type(value)
    within = margin + "    "
    if kind is dict:
        items = [f"{_written(key, within)}: {_written(item, within)}" for key, item in value.items()]
    elif kind in (list, tuple, set):
        items = [_written(item, within) for item in (sorted(value) if kind is set else value)]
    elif kind is str and len(margin) + len(value) > _WIDTH and "\n" in value:
        items = [repr(line) for line in io.StringIO(value, newline="\n")]
    else:
        return repr(value)
    opens, closes = "{}" if kind in (dict, set) else "[]" if kind is list else "()"
    if kind is not str:
        last = "," if kind is tuple and len(items) == 1 else ""
        line = f"{opens}{', '.join(items)}{last}{closes}"
        if len(margin) + len(line) <= _WIDTH and "\n" not in line:
            return line
    comma = "" if kind is str else ","
    return "\n".join([opens, *(f"{within}{item}{comma}" for item in items), margin + closes])


def _isliteral_of(value: Any, depth: int) -> bool:
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return True
    if kind is float:
        return math.isfinite(value)
    if depth > 20:
        return False
    if kind in (list, tuple):
        return all(_isliteral_of(item, depth + 1) for item in value)
    if kind is dict:
        return all(_isliteral_of(key, depth + 1) and _isliteral_of(item, depth + 1) for key, item in value.items())
    # An order that is the same each time: of one type that sorts.
    return kind is set and bool(value) and {type(item) for item in value} in ({int}, {str})
