"""Tables as answers: typed as the schema of a list of flat objects says, and never guessed.

A table comes as CSV, as any spreadsheet in any country writes it, or as a workbook (`workbooks`). What parts its
columns is found before anything is read, from its first line. Where that is a semicolon, the comma is the decimal
sign, as spreadsheets have it in countries that write 1,5. A cell that can be read in two ways is refused, by line and
column.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matterstack.core.numbers import is_number, read_number, why_no_number
from matterstack.core.schemas import Column, as_column, columns, row_schema, violations_by_path
from matterstack.core.text import neutral
from matterstack.errors import InvalidJsonError

#: What parts columns, and what a person calls it.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: What spreadsheets of several languages write for a box that is ticked or not; and what the form shows.
_TRUE, _FALSE = frozenset({"true", "yes", "wahr", "vrai"}), frozenset({"false", "no", "falsch", "faux"})
#: A spreadsheet takes text that begins so as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MOST_SHOWN = 20

#: A cell as CSV (text) or a workbook gives it.
Cell = str | int | float | bool | None


class Table(NamedTuple):
    """A table that was read.

    Attributes
    ----------
    rows : list of dict
        Typed by the schema; an empty cell is left out.
    lines : list of int
        In which line of the file each row begins, from 1.
    problems : dict
        By number of the row and name of the column: why a cell cannot be read, in plain words.
    """

    rows: list[dict[str, Any]]
    lines: list[int]
    problems: dict[tuple[int, str], str]

    def violations(self, schema: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return what is wrong, each with its line and column; empty where nothing is."""
        found = [(self._place(index, name), text) for (index, name), text in self.problems.items()]
        for path, text in violations_by_path(schema, self.rows):
            if not path or not isinstance(path[0], int):
                found.append(("the table", text))
            elif len(path) == 1 or (path[0], path[1]) not in self.problems:
                found.append((self._place(path[0], str(path[1]) if len(path) > 1 else None), text))
        return found

    def _place(self, index: int, name: str | None) -> str:
        line = f"line {self.lines[index]}"
        return line if name is None else f"{line}, column {neutral(name)}"


def read_csv(raw: bytes, schema: Mapping[str, Any]) -> Table:
    """Return the rows of a table in a text file.

    Raises
    ------
    InvalidJsonError
        It is no table of the expected columns.
    """
    known = columns_of(schema)
    text = _decode(raw)
    named = re.match(r"sep=(.)\r?\n", text)
    if named:  # Excel's own way to say it
        text = text[named.end() :]
    delimiter = named[1] if named else _find_delimiter(text, known)
    if delimiter not in DELIMITERS:
        raise InvalidJsonError(f"line 1: columns are separated by commas, semicolons or tabs, not by {delimiter!r}")
    records = list(_records(text, delimiter, 1 if named else 0))
    return read_rows(records, schema, "," if delimiter == ";" else ".", DELIMITERS[delimiter])


def columns_of(schema: Mapping[str, Any]) -> dict[str, Column]:
    """Return the columns that a table has to have.

    Raises
    ------
    InvalidJsonError
        The answer is no table.
    """
    known = columns(schema)
    if known is None:
        raise InvalidJsonError("a table is not asked for: answer in response.json")
    return known


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        code = ""
    elif raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        code = "utf-16"
    else:
        code = "utf-8-sig"
    try:
        text = raw.decode(code) if code else None
        where = ""
    except UnicodeDecodeError as error:
        text = None
        line = raw[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        where = f"line {line}: " if code == "utf-8-sig" else ""
    if text is None:
        raise InvalidJsonError(
            f"{where}not UTF-8: in Excel choose 'Save As', 'CSV UTF-8 (comma delimited)'; elsewhere choose the "
            "encoding UTF-8"
        )
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InvalidJsonError(
            f"line {line}: there is a NUL, which is not text: in Excel choose 'Save As', 'CSV UTF-8 (comma delimited)'"
        )
    return text


def _records(text: str, delimiter: str, before: int = 0) -> Iterable[tuple[int, list[Cell]]]:
    """Yield each record with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line + before, list(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidJsonError(
            f"line {line + before}: {error}; a cell with a quotation mark has to begin and end with one"
        ) from None


def _find_delimiter(text: str, known: Mapping[str, Column]) -> str:
    """Return what parts the columns: that by which the first line names most of those that are asked for."""
    found: list[tuple[int, int, str]] = []
    for delimiter in DELIMITERS:
        try:
            first = next((cells for _, cells in _records(text, delimiter) if any(_word(c) for c in cells)), [])
        except InvalidJsonError:
            continue
        names = [_header(cell) for cell in first]
        right = sum(name in known for name in names)
        found.append((right, right - sum(bool(name) for name in names), delimiter))
    if not found:
        raise InvalidJsonError("line 1: a quotation mark is not closed")
    best = max(found, key=lambda one: one[:2])
    if best[0] == 0:
        raise InvalidJsonError(f"the first line must name the columns, each once: {', '.join(known)}")
    alike = [delimiter for *score, delimiter in found if tuple(score) == best[:2]]
    if len(alike) > 1 and len(known) > 1 and any(mark in text for mark in alike[1:]):
        # One name that is right, and nothing that parts it from another: the rows may be parted by anything.
        raise InvalidJsonError(
            "the first line names one column, so it cannot be told what parts the others; it must name each column "
            f"once: {', '.join(known)}"
        )
    return alike[0]


def _word(cell: Cell) -> str:
    return cell.strip() if isinstance(cell, str) else "" if cell is None else str(cell)


def _header(cell: Cell) -> str:
    """Return the name in a cell of the first line, without the mark that keeps a spreadsheet from computing it."""
    name = _word(cell)
    return name[1:] if name.startswith("'") and name[1:].startswith(_FORMULA) else name


def read_rows(
    records: Sequence[tuple[int, Sequence[Cell]]],
    schema: Mapping[str, Any],
    decimal: str = ".",
    parted_by: str = "",
) -> Table:
    """Return the rows of a table from its cells: the first that are not empty name the columns.

    Parameters
    ----------
    records : sequence of (int, sequence of Cell)
        Each with its line in the file.
    schema : mapping
        JSON Schema of the table.
    decimal : {'.', ','}
        The decimal sign.
    parted_by : str
        What parts the columns of the file, in plain words.

    Raises
    ------
    InvalidJsonError
        It is no table of the expected columns.
    """
    filled = [(line, cells) for line, cells in records if any(_word(cell) for cell in cells)]
    known = columns_of(schema)
    if not filled:
        raise InvalidJsonError(f"the first line must name the columns, each once: {', '.join(known)}")
    first, *rest = filled
    header = [_header(cell) for cell in first[1]]
    while header and not header[-1]:
        header.pop()
    kept = _kept_columns(header, first[0], schema, known)
    table = Table([], [], {})
    for line, cells in rest:
        _check_width(line, cells, header, parted_by)
        row: dict[str, Any] = {}
        for place, name, column in kept:
            cell = cells[place] if place < len(cells) else None
            if not _word(cell):
                continue
            value, problem = read_cell(cell, column, decimal)
            row[name] = value
            if problem is not None and len(table.problems) < _MOST_SHOWN:
                table.problems[len(table.rows), name] = problem
        table.rows.append(row)
        table.lines.append(line)
    return table


def _check_width(line: int, cells: Sequence[Cell], header: Sequence[str], parted_by: str) -> None:
    """Raise where a row has cells without a column, or too few."""
    for place, cell in enumerate(cells):
        if _word(cell) and (place >= len(header) or not header[place]):
            more = " (if a comma is a decimal sign there, write a point)" if parted_by == "commas" else ""
            raise InvalidJsonError(
                f"line {line}: {len(cells)} cells, but {sum(map(bool, header))} columns have a name, and "
                f"{_word(cell)!r:.60} stands in none of them{more}"
            )
    if parted_by and len(cells) < len(header):
        raise InvalidJsonError(
            f"line {line}: {len(cells)} cells, but {len(header)} columns, separated by {parted_by} as in the first line"
        )


def _kept_columns(
    header: Sequence[str], line: int, schema: Mapping[str, Any], known: Mapping[str, Column]
) -> list[tuple[int, str, Column]]:
    """Return place, name and schema of each column; raise for one that the schema does not name or allow."""
    kept: list[tuple[int, str, Column]] = []
    seen: set[str] = set()
    for place, name in enumerate(header):
        if not name:
            continue
        if name in seen:
            raise InvalidJsonError(
                f"line {line}: column {name[:60]} stands there twice; the first line must name each column once: "
                f"{', '.join(known)}"
            )
        seen.add(name)
        column = known.get(name) or _more(name, schema)
        if column is None:
            near = difflib.get_close_matches(name[:60].casefold(), [other.casefold() for other in known], 1, 0.7)
            meant = next((f"; is {other} meant?" for other in known if near and other.casefold() == near[0]), "")
            raise InvalidJsonError(
                f"line {line}: column {name[:60]} was not asked for (asked for: {', '.join(known)}){meant}"
            )
        kept.append((place, name, column))
    return kept


def _more(name: str, schema: Mapping[str, Any]) -> Column | None:
    """Return the column of a name that the schema does not list, where it allows it in so many words."""
    items = row_schema(schema) or {}
    for pattern, inner in items.get("patternProperties", {}).items():
        if re.search(pattern, name):
            return as_column(inner, schema)
    more = items.get("additionalProperties", False)
    return as_column(more, schema) if more is not False else None


def read_cell(cell: Cell, column: Column, decimal: str = ".") -> tuple[Any, str | None]:
    """Return the value of a cell by the schema of its column, and why it cannot be read, where it cannot.

    Text that is nothing its column takes stays text, for the schema to refuse.

    Examples
    --------
    >>> read_cell("1,5", Column(frozenset({"number"}), (), {}), ",")
    (1.5, None)
    """
    if column.choices:
        return _read_choice(cell, column, decimal)
    if not isinstance(cell, str):
        return _read_typed(cell, column)
    word = cell.strip()
    if {"number", "integer"} & column.kinds:
        value = read_number(word, decimal)
        if value is not None:
            return value, None
        if "string" not in column.kinds and (why := why_no_number(word, decimal)) is not None:
            return cell, why
    if "boolean" in column.kinds and word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE, None
    if "null" in column.kinds and word == "null":
        return None, None
    return cell, None


def _read_typed(cell: Cell, column: Column) -> tuple[Any, str | None]:
    """Return the value of a cell that has a type of its own, in a workbook."""
    if "string" in column.kinds and not {"number", "integer", "boolean"} & column.kinds:
        # A name such as 110 is a number to a spreadsheet; it shows 15 digits at most.
        return (str(cell).upper() if isinstance(cell, bool) else format(cell, ".15g")), None
    return cell, None


def _read_choice(cell: Cell, column: Column, decimal: str) -> tuple[Any, str | None]:
    def fits(choice: Any) -> bool:
        if choice is None or isinstance(choice, bool):
            return read_cell(cell, Column(frozenset({"null", "boolean"}), (), {}))[0] is choice
        if is_number(choice):
            number = read_number(cell, decimal) if isinstance(cell, str) else cell
            return is_number(number) and number == choice
        return bool(choice == cell or choice == _word(cell))

    texts = [choice for choice in column.choices if isinstance(choice, str) and fits(choice)]
    others = [choice for choice in column.choices if not isinstance(choice, str) and fits(choice)]
    fitting = ([cell] if cell in texts else texts) + others if isinstance(cell, str) else others or texts
    if len(fitting) == 1:
        return fitting[0], None
    if fitting:
        ways = " or ".join(repr(choice) for choice in fitting)
        return cell, f"{_word(cell)!r} can be read in two ways ({ways}): answer in response.json"
    why = why_no_number(cell, decimal) if isinstance(cell, str) and "number" in column.kinds else None
    return cell, why


def as_text(cell: object) -> object:
    """Return a cell for a table that is handed to people: text that a spreadsheet would compute is made plain text.

    Examples
    --------
    >>> as_text("=HYPERLINK(...)"), as_text(-1.5), as_text("-1.5")
    ("'=HYPERLINK(...)", -1.5, '-1.5')
    """
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA) and read_number(cell) is None:
        return f"'{cell}"
    return cell


def write_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV, safe in a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([as_text(cell) for cell in row] for row in rows)
    return text.getvalue()
