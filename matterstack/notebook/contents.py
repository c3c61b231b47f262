"""Contents of a file that somebody left: of which kind it is, and as a table, a tree, an array, or bytes to look at."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from matterstack.core.text import neutral
from matterstack.errors import UnsafeFileError
from matterstack.files import read_inside, read_part
from matterstack.notebook.pages import opened
from matterstack.notebook.structures import structure_format

#: More is sent only when somebody asks for it.
UNASKED_BYTES = 10_000_000
MOST_ROWS = 1000
_MOST_COLUMNS = 60
_MOST_TABLE_BYTES = 2 << 20
_MOST_CELL = 500
#: So many entries of a list or an object are told at once.
ENTRIES = 100
_MOST_WORDS = 2000
#: What is shorter stands beside its name before it is opened.
_FEW, _MOST_PREVIEW = 8, 80
_HEX_BYTES = 1024
_MOST_NUMBERS = 1000
_MOST_SAID = 100_000
_MOST_HEADER = 10_000

#: How a page shows what is called so; anything else is text, or bytes.
KINDS: Mapping[str, str] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"), "picture"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    ".json": "tree",
    ".npy": "array",
}
#: Pictures as a page is told what they are.
TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}


def kind_by_name(name: str) -> str:
    """Return how a file that is called so is shown.

    Examples
    --------
    >>> kind_by_name("out/relax.cif"), kind_by_name("POSCAR"), kind_by_name("log.txt")
    ('structure', 'structure', 'text')
    """
    kind = KINDS.get(PurePosixPath(name).suffix.lower())
    return kind or ("structure" if structure_format(name) else "text")


def kind_of(root: Path, relative: str) -> tuple[str, int]:
    """Return how a file is shown, and its size in bytes.

    Returns
    -------
    tuple
        One of `KINDS`, ``"structure"``, ``"text"``, or ``"bytes"`` where it looks like none of these.
    """
    with opened(root, relative) as (file, status):
        kind = kind_by_name(relative)
        if kind == "tree" and status.st_size > UNASKED_BYTES:
            kind = "text"
        begin = b"" if kind in ("picture", "array", "structure") else read_part(file, 8192, 0)
    return ("bytes" if b"\0" in begin else kind), status.st_size


def read_at(root: Path, relative: str, at: int, count: int) -> tuple[bytes, os.stat_result]:
    """Return a part of a file."""
    with opened(root, relative) as (file, status):
        return read_part(file, count, max(0, at)), status


def table_of(root: Path, relative: str) -> dict[str, Any]:
    """Return the first rows of a CSV or TSV file; none of it is read as anything but text."""
    raw, status = read_at(root, relative, 0, _MOST_TABLE_BYTES)
    is_all = len(raw) >= status.st_size
    if not is_all:
        raw = raw[: raw.rfind(b"\n") + 1 or len(raw)]
    text = raw.decode("utf-8-sig", "backslashreplace").replace("\0", "\\x00")
    first = text.partition("\n")[0]
    tab = relative.lower().endswith(".tsv")
    delimiter = "\t" if tab else ";" if first.count(";") > first.count(",") else ","
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = list(itertools.islice(reader, MOST_ROWS + 2))
    except csv.Error as error:  # a field that is too long
        raise UnsafeFileError(f"it cannot be read as a table: {error}") from error
    width = max(map(len, rows), default=0)
    told = [[neutral(cell[:_MOST_CELL]) for cell in row[:_MOST_COLUMNS]] for row in rows[: MOST_ROWS + 1]]
    return {
        "head": told[0] if told else [],
        "rows": told[1:],
        "is_all": is_all and len(rows) <= MOST_ROWS + 1,
        "columns": width,
    }


def parse(root: Path, relative: str) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    UnsafeFileError
        It is too large, or no JSON.
    """
    try:
        return json.loads(read_inside(root, relative, UNASKED_BYTES))
    except (ValueError, RecursionError) as error:
        raise UnsafeFileError(f"it is no JSON that can be read: {error}") from error


def entries_of(data: Any, places: Sequence[int], start: int) -> dict[str, Any]:
    """Return some entries of a list or an object that stands in a JSON text.

    Parameters
    ----------
    data
        The whole of it.
    places : sequence of int
        Which entry, and which entry of that, and so on.
    start : int
        The first entry that is wanted; `ENTRIES` are told at most.
    """
    for place in places:
        data = next(itertools.islice(data.values() if isinstance(data, dict) else data, place, None))
    if not isinstance(data, dict | list):
        return {"total": 1, "entries": [_entry("", data)]}
    named = data.items() if isinstance(data, dict) else enumerate(data)
    some = itertools.islice(named, start, start + ENTRIES)
    return {"total": len(data), "entries": [_entry(str(name), one) for name, one in some]}


def _entry(name: str, value: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": neutral(name[:200])}
    if isinstance(value, dict | list):
        inner = list(itertools.islice(_values(value), _FEW + 1))
        is_small = len(inner) <= _FEW and not any(isinstance(one, dict | list) for one in inner)
        said = json.dumps(value, ensure_ascii=False) if is_small else ""
        kind = "object" if isinstance(value, dict) else "list"
        return {**entry, "kind": kind, "size": len(value), "said": neutral(said) if len(said) <= _MOST_PREVIEW else ""}
    said = json.dumps(value, ensure_ascii=False)
    more = f"... ({len(said)} characters)" if len(said) > _MOST_WORDS else ""
    kind = "text" if isinstance(value, str) else "word" if value is None or isinstance(value, bool) else "number"
    return {**entry, "kind": kind, "said": neutral(said[:_MOST_WORDS]) + more}


def _values(data: Any) -> Any:
    return data.values() if isinstance(data, dict) else data


def array_of(root: Path, relative: str) -> dict[str, Any]:
    """Return the shape, the type and the first numbers of an array of NumPy; nothing is unpickled.

    Raises
    ------
    UnsafeFileError
        It is no such file.
    """
    from numpy import array2string, frombuffer
    from numpy.lib import format as npy

    raw, status = read_at(root, relative, 0, _MOST_HEADER + _MOST_NUMBERS * 64)
    stream = io.BytesIO(raw)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, in_columns, dtype = read(stream, max_header_size=_MOST_HEADER)
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise UnsafeFileError(f"it is no array of NumPy that can be read: {error}") from error
    told = {"shape": list(shape)[:64], "dtype": neutral(str(dtype)[:_MOST_WORDS]), "in_columns": bool(in_columns)}
    if dtype.hasobject:
        return {**told, "said": "It holds Python objects, which are not unpickled here."}
    if not dtype.itemsize:
        return {**told, "said": ""}
    there = raw[stream.tell() :]
    numbers = frombuffer(there[: len(there) // dtype.itemsize * dtype.itemsize], dtype)[:_MOST_NUMBERS]
    is_all = stream.tell() + numbers.nbytes >= status.st_size
    if is_all and numbers.size == prod(shape):
        numbers = numbers.reshape(shape, order="F" if in_columns else "C")
    said = array2string(numbers, max_line_width=100, threshold=_MOST_NUMBERS + 1)
    return {**told, "said": neutral(said[:_MOST_SAID]) + ("" if is_all else "\n... and more")}


def hex_of(root: Path, relative: str) -> str:
    """Return the first bytes of a file, sixteen a line, and what they are as characters."""
    raw, _ = read_at(root, relative, 0, _HEX_BYTES)
    lines = []
    for at in range(0, len(raw), 16):
        part = raw[at : at + 16]
        signs = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  {signs}")
    return "\n".join(lines)
