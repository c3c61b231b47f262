"""Workbooks as answers: a table in a file of Excel, by the same rules as CSV.

Needs openpyxl, which the extra ``excel`` brings; without it no workbook is handed out, and whoever brings one is told
how to save it instead. A workbook is read in a process with bounds: it is an archive, and may unpack to anything.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import io
import json
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matterstack.core.schemas import Column, columns, first_rows, row_schema
from matterstack.errors import InvalidJsonError
from matterstack.operators.requests.tables import Cell, Table, as_text, columns_of, read_rows

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

_AS_CSV = "in Excel choose 'Save As', 'CSV UTF-8 (comma delimited)', and name it response.csv"
_MOST_BYTES, _MOST_CELLS = 100_000_000, 1_000_000
_LIST_CHARACTERS = 255  # of a list of choices; the longest that Excel takes
_LAST_ROW = 1000


@functools.cache
def can_use_workbooks() -> bool:
    """Return whether openpyxl is installed."""
    return importlib.util.find_spec("openpyxl") is not None


def read_workbook(raw: bytes, schema: Mapping[str, Any]) -> Table:
    """Return the rows of the one table in a workbook.

    Raises
    ------
    InvalidJsonError
        It is no workbook with a table of the expected columns.
    """
    known = columns_of(schema)
    if not can_use_workbooks():
        raise InvalidJsonError(f"a workbook cannot be read here: {_AS_CSV} (or have openpyxl installed here)")
    import openpyxl

    _check_size(raw)
    try:
        with_results = openpyxl.load_workbook(io.BytesIO(raw), data_only=True)
        as_written = openpyxl.load_workbook(io.BytesIO(raw))
    except Exception as error:  # noqa: BLE001 - openpyxl raises whatever its parsers do
        raise InvalidJsonError(f"this is no workbook that can be read ({type(error).__name__}): {_AS_CSV}") from None
    filled = [sheet for sheet in with_results.worksheets if _is_filled(sheet)]
    if len(filled) > 1:
        names = ", ".join(repr(sheet.title) for sheet in filled)
        raise InvalidJsonError(f"there are {len(filled)} sheets with something in them ({names}): leave one")
    if not filled:
        raise InvalidJsonError(f"the sheet is empty; its first line must name the columns: {', '.join(known)}")
    sheet = filled[0]
    if sheet.merged_cells.ranges:
        raise InvalidJsonError(
            f"the cells {sorted(map(str, sheet.merged_cells.ranges))[0]} are merged: in Excel choose 'Unmerge Cells'"
        )
    return _read_sheet(sheet, as_written[sheet.title], schema, known)


def _check_size(raw: bytes) -> None:
    """Raise where the archive says that it unpacks to more than a table can be."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise InvalidJsonError(
            f"this is no workbook of Excel (.xlsx), or it is not whole ({error}): {_AS_CSV}"
        ) from None
    if size > _MOST_BYTES:
        raise InvalidJsonError(f"the workbook unpacks to {size} bytes, and {_MOST_BYTES} at most are read: {_AS_CSV}")


def _is_filled(sheet: Worksheet) -> bool:
    rows, width = sheet.max_row, sheet.max_column
    if rows * width > _MOST_CELLS:
        raise InvalidJsonError(
            f"the sheet {sheet.title!r} reaches to line {rows} and column {width}: copy the table into a new workbook"
        )
    return any(value not in (None, "") for row in sheet.iter_rows(values_only=True) for value in row)


def _read_sheet(
    sheet: Worksheet, as_written: Worksheet, schema: Mapping[str, Any], known: Mapping[str, Column]
) -> Table:
    records: list[tuple[int, list[Cell]]] = []
    strange: dict[tuple[int, int], str] = {}
    for line, (cells, written) in enumerate(zip(sheet.iter_rows(), as_written.iter_rows(), strict=True), sheet.min_row):
        row: list[Cell] = []
        for place, (cell, origin) in enumerate(zip(cells, written, strict=True)):
            value, problem = _plain(cell, origin)
            if problem is not None:
                strange[line, place] = problem
            row.append(value)
        records.append((line, row))
    table = read_rows(records, schema)
    first = next((cells for _, cells in records if any(cell not in (None, "") for cell in cells)), [])
    names = [str(cell or "").strip() for cell in first]
    index_of = {line: index for index, line in enumerate(table.lines)}
    for (line, place), problem in strange.items():
        index = index_of.get(line)
        if index is None or place >= len(names):
            raise InvalidJsonError(f"line {line}: a cell {problem}")
        column = known.get(names[place])
        text = table.rows[index].get(names[place])
        if column is not None and column.schema.get("format") in ("date", "date-time") and "date" in problem:
            table.rows[index][names[place]] = _as_format(str(text), str(column.schema["format"]))
        else:
            table.problems[index, names[place]] = problem
    return table


def _plain(cell: Any, written: Any) -> tuple[Cell, str | None]:
    """Return the value of a cell, and what is strange about it."""
    value: Any = cell.value
    if written.data_type == "f" and value is None:
        return "=", "holds a formula whose result is not in the file: open and save it in Excel, or type the result"
    if cell.data_type == "e":
        return str(value), f"holds the error {value}"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time | datetime.timedelta):
        return (
            value.isoformat() if not isinstance(value, datetime.timedelta) else str(value),
            f"is a date to Excel ({value}): format the cell as text or as a number, and type it again",
        )
    if value is None or isinstance(value, str | int | float | bool):
        return value, None
    return str(value), "holds more than a plain value: type it again"


def _as_format(text: str, kind: str) -> str:
    """Return a date of Excel as JSON has it: a day is a day; a time has no zone, which the schema will ask for."""
    return text.removesuffix("T00:00:00") if kind == "date" else text


def template_workbook(schema: Mapping[str, Any], note: str) -> bytes | None:
    """Return a workbook to fill in; None where no table is asked for, or openpyxl is not installed.

    Parameters
    ----------
    schema : mapping
        JSON Schema of the table.
    note : str
        What to do with it; it stands as a comment at the first cell.
    """
    if columns(schema) is None or not can_use_workbooks():
        return None
    return _template_workbook(json.dumps(schema), note)


@functools.lru_cache(maxsize=16)  # a campaign asks many people the same
def _template_workbook(schema_text: str, note: str) -> bytes:
    schema = json.loads(schema_text)
    known = columns(schema) or {}
    import openpyxl
    from openpyxl.comments import Comment
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "answer"
    required = (row_schema(schema) or {}).get("required", ())
    for number, (name, column) in enumerate(known.items(), 1):
        letter = get_column_letter(number)
        head = sheet.cell(1, number, str(as_text(name)))
        head.font = Font(bold=True)
        told = [_about(column), "must be filled in" if name in required else "may stay empty"]
        text = "\n".join([*([note] if number == 1 else []), *filter(None, told)])
        head.comment = Comment(text, "MatterStack", height=120, width=320)
        sheet.column_dimensions[letter].width = max(12, min(40, len(name) + 4))
        if column.kinds <= {"string", "null"}:
            # Excel makes dates of MARCH1 and 1-2, unless the cell is text from the beginning.
            sheet.column_dimensions[letter].number_format = "@"
        _add_choices(sheet, letter, column)
    for row in first_rows(schema):
        sheet.append([as_text(cell) for cell in row])
    sheet.freeze_panes = "A2"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _about(column: Column) -> str:
    """Return what a column is for, as its schema tells."""
    said = [str(column.schema[key]) for key in ("title", "description") if key in column.schema]
    if "unit" in column.schema:
        said.append(f"in {column.schema['unit']}")
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
    ):
        if key in column.schema:
            said.append(f"{word} {column.schema[key]}")
    return "; ".join(said)[:500]


def _add_choices(sheet: Worksheet, letter: str, column: Column) -> None:
    """Let a column's cells be chosen from a list, where Excel can hold the list."""
    from openpyxl.worksheet.datavalidation import DataValidation

    choices: list[str] = [c if isinstance(c, str) else json.dumps(c) for c in column.choices]
    if not choices and column.kinds == {"boolean"}:
        choices = ["TRUE", "FALSE"]
    listed = ",".join(choices)
    if not choices or len(listed) > _LIST_CHARACTERS or any('"' in c or "," in c or c != c.strip() for c in choices):
        return
    rule = DataValidation(type="list", formula1=f'"{listed}"', allow_blank=True, showErrorMessage=True)
    rule.error = "Choose one from the list."
    rule.add(f"{letter}2:{letter}{_LAST_ROW}")
    sheet.add_data_validation(rule)
