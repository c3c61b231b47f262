"""Strict JSON: what a file from outside may hold.

UTF-8, no NaN or infinity, no duplicate keys, no lone surrogates, bounded depth and size
(RFC 8259 leaves these open; RFC 7493, I-JSON, closes most of them). A byte order mark is
tolerated.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from matterstack.core.numbers import MINUSES
from matterstack.core.text import neutral
from matterstack.errors import InvalidJsonError

MAX_BYTES = 1_000_000
MAX_DEPTH = 100
_MAX_DIGITS = 400


def _no_constant(name: str) -> NoReturn:
    raise InvalidJsonError(f"{name} is not JSON: use null, or leave the value out")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InvalidJsonError(f"a number of {len(text)} digits is too long")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidJsonError(f"the number {text[:40]} is too large for a double")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidJsonError(f"the key {key!r} appears twice in one object")
            seen.add(key)
    return value


def _brackets(text: str) -> tuple[int, bool]:
    """Return how deep brackets nest outside strings, and whether one, or a string, is still open at the end.

    Cheap, and never recursive.
    """
    deepest = depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest, depth > 0 or in_string


def is_cut_off(raw: bytes) -> bool:
    """Return whether bytes may be the beginning of a JSON text that somebody still writes.

    Examples
    --------
    >>> is_cut_off(b'{"energy_eV": -3.'), is_cut_off(b'no JSON at all')
    (True, False)
    """
    text = raw.decode("utf-8-sig", errors="ignore")
    return not text.strip() or _brackets(text)[1]


#: What people write in place of what JSON has, where a value or a name should begin.
_SLIPS: tuple[tuple[str, str], ...] = (
    (r"[\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019]", 'curly quotes are no quotes here: write straight ones, "'),
    (r"'", 'write straight double quotes, "'),
    (r"//|/\*|#", "JSON has no comments: take it away"),
    (r"[+-]?\.\d", "write a digit before the point, as in 0.5"),
    (r"\+", "write the number without +"),
    (rf"[{MINUSES}]", "write a plain minus, -"),
    (r"-?0\d", "write the number without zeros before it"),
    (r"(None|True|False)\b", "write null, true or false"),
    (r"[A-Za-z_]", 'text stands in straight double quotes, as in "text"'),
)


def _hint(text: str, error: json.JSONDecodeError) -> str | None:
    """Return what a person who wrote JSON by hand did, and should do; None where that is not known."""
    at = error.pos
    before, after = text[max(0, at - 1000) : at].rstrip(), text[at : at + 100].lstrip()
    if "escape" in error.msg:
        return "in quotes a backslash is written twice, as in D:\\\\data, or as a slash, D:/data"
    if "control character" in error.msg:
        return "text in quotes has to end on its line; write \\n for a new line"
    if before.endswith(","):
        if after[:1] in ("}", "]"):
            return "the comma before it is one too many"
        if re.search(r"\d,\Z", before) and after[:1].isdigit():
            return "a decimal comma? Write a point, as in 1.1"
    if after[:1] in ("}", "]") and "Expecting property name" in error.msg:
        return "a comma is one too many"
    found = next((hint for slip, hint in _SLIPS if re.match(slip, after)), None)
    if error.msg.startswith("Expecting ',' delimiter") and (found is None or re.match(r'["A-Za-z_+.-]', after)):
        found = None
        if after.startswith('"'):
            found = "a comma is missing before it"
        elif re.match(r"\.(\D|\Z)", after):
            found = "write a digit after the point, as in 5.0"
        elif after[:1].isdigit() and re.search(r"(^|[^\d.])-?0\Z", before):
            found = "write the number without zeros before it"
    if error.msg == "Extra data":
        return found if re.match(r"//|/\*|#", after) else "there is more after the end"
    return found


def _shown_line(error: json.JSONDecodeError) -> str:
    """Return the line of an error, as much of it as is worth showing."""
    begin = error.doc.rfind("\n", 0, error.pos) + 1
    end = error.doc.find("\n", error.pos)
    first = max(begin, error.pos - 40)
    line = error.doc[first : min(len(error.doc) if end < 0 else end, error.pos + 40)].strip()
    return f"{'...' if first > begin else ''}{neutral(line)}" if line else "nothing"


def parse_json(raw: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """Parse bytes as strict JSON.

    Parameters
    ----------
    raw : bytes
        The whole file.
    max_bytes : int
        Longest text accepted.

    Raises
    ------
    InvalidJsonError
        With the place and the reason in plain words.

    Examples
    --------
    >>> parse_json(b'{"energy_eV": -3.4}')
    {'energy_eV': -3.4}
    """
    if len(raw) > max_bytes:
        raise InvalidJsonError(f"{len(raw)} bytes are too many: {max_bytes} at most")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"not UTF-8 text: byte {error.start} is {raw[error.start]:#04x}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _brackets(text)[0] > MAX_DEPTH:
        raise InvalidJsonError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_real,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        hint = _hint(text, error)
        said = f"{hint} ({error.msg})" if hint else error.msg
        raise InvalidJsonError(f"{where}: {said}; it reads {_shown_line(error)}") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidJsonError("a \\u escape is half of a surrogate pair") from None
    return value


#: Encode plain data as compact JSON text; NaN is refused. One encoder serves all: making it costs more than using it.
to_text = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def _culprit(value: object, place: str, depth: int = 0) -> str | None:
    """Return in plain words which part of a value is no JSON, and what to do about it; None where none is."""
    if depth > MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH} levels, or holds itself"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{place} has the key {key!r:.100}: a JSON key is a string, so use str(...)"
            if (found := _culprit(item, f"{place}[{key!r:.60}]", depth + 1)) is not None:
                return found
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            if (found := _culprit(item, f"{place}[{number}]", depth + 1)) is not None:
                return found
    elif not isinstance(value, str | int | float | None):
        return f"{place} is a {_kind(value)}: {_cure(value)}"
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f"{place} is {value}, which JSON does not have: use None, or leave it out"
    else:
        try:
            to_text(value).encode()
        except ValueError as error:
            return f"{place} cannot be written: {error}"
    return None


def _kind(value: object) -> str:
    module = type(value).__module__
    return type(value).__name__ if module == "builtins" else f"{module}.{type(value).__name__}"


def _cure(value: object) -> str:
    if hasattr(value, "tolist"):  # numpy's and pandas' own way to plain values
        plain = {"f": "float", "i": "int", "u": "int", "b": "bool"}.get(
            getattr(getattr(value, "dtype", None), "kind", "")
        )
        return f"use {plain}(...)" if plain and getattr(value, "ndim", 1) == 0 else "use .tolist()"
    if hasattr(value, "isoformat"):
        return "use .isoformat()"
    cures = {"set": "list(...)", "frozenset": "list(...)", "Decimal": "float(...)", "complex": "[z.real, z.imag]"}
    return f"use {cures.get(type(value).__name__, 'str(...), or the numbers and texts it is made of')}"


def _has_odd_keys(value: object, depth: int = 0) -> bool:
    # json.dumps turns the key 1 into "1" without a word, and the next reader gets other data.
    if depth > MAX_DEPTH:
        return True
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or _has_odd_keys(item, depth + 1):
                return True
    elif isinstance(value, list | tuple):
        for item in value:
            if _has_odd_keys(item, depth + 1):
                return True
    return False


def dump_json(value: object, what: str, name: str = "it") -> str:
    """Return compact JSON text, or raise if `value` is not plain JSON data.

    Parameters
    ----------
    value : object
    what : str
        How the error names the whole of it.
    name : str
        The variable it is to whoever made it, which begins the path to the culprit.

    Raises
    ------
    InvalidJsonError
        NaN, infinity, a cycle, a key that is not a string, or a type JSON does not have; by its place.

    Examples
    --------
    >>> dump_json({"Cu": {"x": float("nan")}}, "the state", "state")
    Traceback (most recent call last):
    ...
    matterstack.errors.InvalidJsonError: the state is not plain JSON data: state['Cu']['x'] is nan, which JSON does \
not have: use None, or leave it out
    See docs/troubleshooting.md#invalidjsonerror
    """
    try:
        if not _has_odd_keys(value):
            text = to_text(value)
            text.encode()
            return text
        error: Exception | None = None
    except (TypeError, ValueError) as caught:
        error = caught
    raise InvalidJsonError(f"{what} is not plain JSON data: {_culprit(value, name) or error}")
