"""Things to look at in a request, as HTML: pictures, tables, structures, text. All is escaped."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path, PurePath
from typing import Any

from matterstack.core.attempt_files import NOT_SHOWN, SHOWN
from matterstack.core.text import neutral
from matterstack.errors import UnsafeFileError
from matterstack.files import list_inside, read_inside
from matterstack.notebook.markdown import markdown_html
from matterstack.notebook.structure_picture import structure_svg
from matterstack.orchestration.capture import capture

#: As the source of a picture alone: what is in an SVG then neither runs nor loads anything.
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
_MOST_PICTURES, _PICTURE_BYTES = 12, 1_000_000
_TEXT_BYTES, _MOST_ROWS, _MOST_COLUMNS, _MOST_CHARACTERS = 200_000, 50, 30, 4000
#: Of all that one form holds.
_MOST_HTML = 8_000_000
#: Of a CIF, sites times operations of its space group: each is compared with each, which takes 0.4 s for so many.
_MOST_IMAGES = 2000
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_DIGITS = 6


def context_html(directory: Path, show: Sequence[str] = ()) -> str:
    """Return what is in a request's directory to be looked at.

    Parameters
    ----------
    directory : pathlib.Path
        Of the request.
    show : sequence of str
        What the request shows, as paths in its folder for that; then come pictures, and the table of results.
    """
    run = directory.parents[2]
    home = directory.relative_to(run).as_posix()
    try:
        names = [name for name, _ in list_inside(run, home)]
    except (OSError, UnsafeFileError):
        return ""
    missing = _missing(run, f"{home}/{SHOWN}") if show else {}
    parts = []
    room = _MOST_HTML
    for name in show:
        part = _file(run, f"{home}/{SHOWN}/{name}", name, missing.get(name, "is not there"))
        if len(part) > room:
            part = _figure(name, _note(f"is too much for this form: see {SHOWN}/{name}"))
        room -= len(part)
        parts.append(part)
    pictures = [name for name in names if PurePath(name).suffix.lower() in _PICTURES][:_MOST_PICTURES]
    parts += [_file(run, f"{home}/{name}", name, "") for name in pictures]
    parts.append(_file(run, f"{home}/results.csv", "", ""))
    return "".join(parts)


def _missing(run: Path, home: str) -> Mapping[str, str]:
    """Return why something is not shown, as was noted when the request was made."""
    try:
        lines = read_inside(run, f"{home}/{NOT_SHOWN}", _TEXT_BYTES).decode(errors="replace").splitlines()
    except (OSError, UnsafeFileError):
        return {}
    return {name: why for name, _, why in (line.partition(": ") for line in lines)}


def _file(run: Path, relative: str, name: str, absent: str) -> str:
    """Return a file as HTML; where it is not there, that, in words, and nothing where there are none."""
    suffix = PurePath(relative).suffix.lower()
    most = _PICTURE_BYTES if suffix in _PICTURES else _TEXT_BYTES
    try:
        content = read_inside(run, relative, most)
    except FileNotFoundError:
        return _figure(name, _note(absent)) if absent else ""
    except UnsafeFileError as error:
        # The end of its path says which; what is too large can be looked at where it is.
        return _figure(name, _note(str(error).removeprefix(f"{relative} "))) if absent else ""
    except OSError as error:
        return _figure(name, _note(f"cannot be read: {error.strerror}")) if absent else ""
    if suffix in _PICTURES:
        encoded = base64.b64encode(content).decode()
        return _figure(name, f"<img alt='{_text(name)}' src='data:{_PICTURES[suffix]};base64,{encoded}'>")
    if b"\0" in content:
        return _figure(name, _note("is no text, and cannot be shown here"))
    shown = _SHOW.get(suffix, _plain)(content.decode(errors="replace"))
    return _figure(name, shown)


def _figure(name: str, inner: str) -> str:
    caption = f"<figcaption>{_text(name)}</figcaption>" if name else ""
    return f"<figure>{caption}{inner}</figure>"


def _note(words: str) -> str:
    return f"<em>{_text(words)}</em>"


def _text(text: str) -> str:
    return escape(neutral(text))


def _plain(text: str) -> str:
    more = f"\n... ({len(text)} characters)" if len(text) > _MOST_CHARACTERS else ""
    return f"<pre>{_text(text[:_MOST_CHARACTERS])}{more}</pre>"


def _csv(text: str) -> str:
    text = text.removeprefix("\ufeff")
    first = text.partition("\n")[0]
    delimiter = next((one for one in "\t;" if one in first), ",")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return _plain(text)
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for number, row in enumerate(rows[: _MOST_ROWS + 1]):
        tag = "td" if number else "th"
        lines.append("<tr>" + "".join(_cell(cell, tag) for cell in row[:_MOST_COLUMNS]) + "</tr>")
    rest = f"<p>and {len(rows) - _MOST_ROWS - 1} more rows</p>" if len(rows) > _MOST_ROWS + 1 else ""
    wide = max((len(row) for row in rows), default=0)
    rest += f"<p>and {wide - _MOST_COLUMNS} more columns</p>" if wide > _MOST_COLUMNS else ""
    return f"<table>{''.join(lines)}</table>{rest}"


def _cell(text: str, tag: str = "td") -> str:
    """Return a cell; a number has few digits, and all of them where one points at it."""
    if tag == "td" and _is_number(text):
        short = _short(text)
        whole = f" title='{_text(text)}'" if short != text else ""
        return f"<td class='ms-figure'{whole}>{_text(short)}</td>"
    return f"<{tag}>{_text(text)}</{tag}>"


def _is_number(text: str) -> bool:
    return bool(_DECIMAL.fullmatch(text)) or (len(text) < 16 and text.removeprefix("-").isdecimal() and text.isascii())


def _short(text: str) -> str:
    """Return a decimal number with as many digits as a person compares; whole numbers stay, they may be names.

    Examples
    --------
    >>> _short("1.0281166789931415"), _short("0.5"), _short("1234567"), _short("-3.2e-19")
    ('1.02812', '0.5', '1234567', '-3.2e-19')
    """
    short = f"{float(text):.{_DIGITS}g}" if _DECIMAL.fullmatch(text) else text
    return short if len(short) < len(text) else text


def _json(text: str) -> str:
    """Return JSON as a table, where it is flat, with a structure's picture, where it holds one."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _plain(text)
    picture = structure_svg(data)
    if isinstance(data, dict) and data and not any(isinstance(value, dict | list) for value in data.values()):
        rows = "".join(f"<tr><th>{_text(str(key))}</th>{_cell(_word(value))}</tr>" for key, value in data.items())
        return f"{picture}<table>{rows}</table>" if len(data) <= _MOST_ROWS else _plain(text)
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        names = list(dict.fromkeys(str(name) for row in data for name in row))
        if not any(isinstance(value, dict | list) for row in data for value in row.values()):
            return _table([names, *([_word(row.get(name, "")) for name in names] for row in data)])
    return picture + _plain(text)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_xyz(text: str) -> Any:
    from ase.io import read

    return read(io.StringIO(text), format="extxyz")


def _read_cif(text: str) -> Any:
    from ase.io.cif import parse_cif

    block = next(iter(parse_cif(io.StringIO(text))))
    images = len(block.get_symbols()) * block.get_spacegroup(True).nsymop
    return block.get_atoms() if images <= _MOST_IMAGES else None


def _structure(read: Callable[[str], Any]) -> Callable[[str], str]:
    """Return what shows a structure: as a picture where it can be read, and as text in any case."""

    def show(text: str) -> str:
        atoms: Any = None
        with capture(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = read(text)
        picture = ""
        if atoms is not None:
            with capture():
                numbers, cell = atoms.numbers.tolist(), atoms.cell.array.tolist()
                picture = structure_svg({"numbers": numbers, "positions": atoms.positions.tolist(), "cell": cell})
        inner = _plain(text)
        return f"{picture}<details{'' if picture else ' open'}><summary>text</summary>{inner}</details>"

    return show


_SHOW: Mapping[str, Callable[[str], str]] = {
    ".csv": _csv,
    ".json": _json,
    ".md": markdown_html,
    ".xyz": _structure(_read_xyz),
    ".cif": _structure(_read_cif),
}
