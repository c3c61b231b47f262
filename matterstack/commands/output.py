"""Output: one JSON document, or text and tables, which a terminal gets in colour."""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

from matterstack.commands.remedies import as_typed
from matterstack.core.text import neutral
from matterstack.errors import InvalidJsonError

#: The last second that a timestamp of Python can show.
_LATEST_S = 253_402_300_799
#: Of the words that stand in columns of these names.
_STATUS_COLUMNS = frozenset({"status"})
#: Of sentences and lists, which a terminal folds.
_TEXT_COLUMNS = frozenset({"reason", "what", "why", "remedy", "text", "by", "waiting"})
#: What tells rows apart: folded where a terminal is narrow, and never cut.
_NAMES = frozenset({"workspace", "run_id", "task_id", "status", "path", "name", "key"})
#: So wide columns stay, if they need it, before others are left out: of texts, of names and of values.
_TEXT_WIDTH, _NAME_WIDTH, _VALUE_WIDTH = 24, 30, 20
_LEAST_WIDTH, _GAP = 4, 2
#: So many characters a table shows of a text, and of an object or a list.
_MOST_TEXT, _MOST_NESTED = 200, 40
_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "blue",
    "SUBMITTED": "blue",
    "WAITING": "yellow",
    "PAUSED": "yellow",
    "FAILED": "bold red",
    "LOST": "bold red",
    "CANCELLED": "magenta",
    "SKIPPED": "magenta",
    "well": "green",
    "wrong": "bold red",
    "not known": "yellow",
}


class Table(NamedTuple):
    """A table.

    Attributes
    ----------
    columns : sequence of str
    rows : sequence of mapping
        Values by column; more than the columns is not shown.
    empty : str
        What is said where there are no rows.
    spare : sequence of str
        Columns that a narrow terminal does without first, in this order; then come others, from the right. Names and
        texts are always shown.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    empty: str = "There is nothing."
    spare: Sequence[str] = ()


def moment(at: float | None) -> datetime | None:
    """Return a moment, in seconds since the Unix epoch, as JSON and tables show it."""
    # A database of a stranger may hold anything.
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) and 0 <= at <= _LATEST_S else None


def show(given: argparse.Namespace, document: Mapping[str, Any], *parts: str | Table) -> None:
    """Write the document where ``--json`` was said, else the parts.

    Parameters
    ----------
    given : argparse.Namespace
    document : mapping
        Plain data, and moments; it has the shape that the command's schema says.
    *parts : str or Table
        Texts of anybody: what would not be seen in a terminal is written as escapes, and markup means nothing.
    """
    if given.json:
        # ASCII, so that nothing of a stranger's acts on a terminal.
        try:
            write(json.dumps(document, indent=2, allow_nan=False, default=_plain), file=given.out)
        except ValueError as error:  # a database of a stranger may hold anything
            raise InvalidJsonError(f"what is there cannot be written as JSON: {error}") from None
        return
    for part in parts:
        if isinstance(part, str):
            write(neutral(as_typed(part, given)))
        elif not part.rows:
            write(part.empty)
        elif is_rich():
            _write_rich(part)
        else:
            write(_aligned(part))


def write(text: str, end: str = "\n", file: TextIO | None = None) -> None:
    """Write a line, or several; to the standard output, where nothing else is said."""
    print(text, end=end, file=file, flush=True)


def write_error(text: str) -> None:
    """Write to the standard error what is wrong."""
    print(neutral(f"matterstack: {text}".rstrip()), file=sys.stderr)


def is_rich() -> bool:
    """Return whether the output is a terminal that shows colours, whose user wants them (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(f"{type(value).__name__} is not JSON")


def cell_text(value: object) -> str:
    """Return a value as one line of harmless text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping | list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=_plain)
        return _cut(value, _MOST_NESTED)
    return _cut(str(value), _MOST_TEXT)


def _cut(text: str, most: int) -> str:
    line = " ".join(neutral(text[: 2 * most]).split())
    return line if len(line) <= most else f"{line[:most]}..."


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cells(table: Table) -> list[list[str]]:
    return [[cell_text(row.get(name)) for name in table.columns] for row in table.rows]


def _aligned(table: Table) -> str:
    rows = [list(table.columns), *_cells(table)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def rich_table(table: Table, width: int) -> Any:
    """Return the table as rich draws it in so many columns of a terminal; no text in it is markup."""
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    cells = dict(zip(table.columns, zip(*_cells(table), strict=True), strict=True))
    widths = _widths(table, {name: max(map(_width, (name, *texts))) for name, texts in cells.items()}, width)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name, columns in widths.items():
        folds = name in _TEXT_COLUMNS or name in _NAMES
        drawn.add_column(Text(name), overflow="fold" if folds else "ellipsis", no_wrap=not folds, width=columns)
    for row in zip(*(cells[name] for name in widths), strict=True):
        drawn.add_row(
            *(
                Text(text, style=_STYLES.get(text, "") if name in _STATUS_COLUMNS else "")
                for name, text in zip(widths, row, strict=True)
            )
        )
    if not (hidden := [name for name in table.columns if name not in widths]):
        return drawn
    names = ", ".join(map(cell_text, hidden))
    return Group(drawn, Text(f"There is no room for {names}: --json shows all, and so does a pipe.", style="dim"))


def _widths(table: Table, wanted: Mapping[str, int], width: int) -> dict[str, int]:
    """Return how wide each column is that is shown, by how wide each would be."""
    least = {
        name: min(wide, _TEXT_WIDTH if name in _TEXT_COLUMNS else _NAME_WIDTH if name in _NAMES else _VALUE_WIDTH)
        for name, wide in wanted.items()
    }

    def lacking() -> int:
        return sum(least.values()) + _GAP * (len(least) - 1) - width

    for name in (*table.spare, *reversed(table.columns)):
        if lacking() > 0 and name in least and name not in _NAMES and name not in _TEXT_COLUMNS:
            del least[name]
    while lacking() > 0 and (widest := max(least, key=least.__getitem__)) and least[widest] > _LEAST_WIDTH:
        least[widest] -= 1
    for name in sorted(least, key=_TEXT_COLUMNS.__contains__):  # texts get what is left, since they fold best
        least[name] = min(wanted[name], least[name] + max(0, -lacking()))
    return least


def _write_rich(table: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(rich_table(table, console.width))
