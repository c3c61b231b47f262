"""Strict JSON: what a file from outside may hold.

UTF-8, no NaN or infinity, no duplicate keys, no lone surrogates, bounded depth and size
(RFC 8259 leaves these open; RFC 7493, I-JSON, closes most of them). A byte order mark is
tolerated.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

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
                raise InvalidJsonError(f"the key {key!r} stands twice in one object")
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
        raise InvalidJsonError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidJsonError("a \\u escape is half of a surrogate pair") from None
    return value


#: Encode plain data as compact JSON text; NaN is refused. One encoder serves all: making it costs more than using it.
to_text = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def _check_keys(value: object, what: str, depth: int = 0) -> None:
    # json.dumps turns the key 1 into "1" without a word, and the next reader gets other data.
    if depth > MAX_DEPTH:
        raise InvalidJsonError(f"{what} is nested deeper than {MAX_DEPTH} levels, or holds itself")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidJsonError(f"{what} has the key {key!r}: a JSON key is a string")
            _check_keys(item, what, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item, what, depth + 1)


def dump_json(value: object, what: str) -> str:
    """Return compact JSON text, or raise if `value` is not plain JSON data.

    Raises
    ------
    InvalidJsonError
        NaN, infinity, a cycle, a key that is not a string, or a type JSON does not have.
    """
    _check_keys(value, what)
    try:
        text = to_text(value)
        text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidJsonError(f"{what} is not plain JSON data: {error}") from None
    return text
