"""Tables as answers: CSV, typed as the schema of a list of flat objects says."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from matterstack.core.schemas import columns
from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError


def parse_table(raw: bytes, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, typed as its schema says; an empty cell is left out.

    Raises
    ------
    InvalidJsonError
        It is no table of the expected columns.
    """
    kinds = columns(schema)
    if kinds is None:
        raise InvalidJsonError("a table is not asked for: answer in response.json")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"not UTF-8 text: byte {error.start} is {raw[error.start]:#04x}") from None
    if "\0" in text:
        raise InvalidJsonError("a NUL is not text")
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if not header or len(set(header)) != len(header):
            raise InvalidJsonError(f"the first line must name each column once: {', '.join(kinds)}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidJsonError(f"line {reader.line_num}: {len(cells)} cells, but {len(header)} columns")
            rows.append(
                {
                    name: _cell(cell, kinds.get(name, "string"), f"line {reader.line_num}, column {name}")
                    for name, cell in zip(header, cells, strict=True)
                    if cell.strip()
                }
            )
    except csv.Error as error:
        raise InvalidJsonError(f"line {reader.line_num}: {error}") from None
    return rows


def _cell(cell: str, kind: str, where: str) -> Any:
    """Return a cell as its type; text that is not of the type stays text, for the schema to refuse."""
    word = cell.strip()
    if kind == "boolean" and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if kind in ("number", "integer"):
        try:
            value = parse_json(word.encode())
        except InvalidJsonError:
            return cell
        return value if isinstance(value, int | float) and not isinstance(value, bool) else cell
    if kind == "null" and word == "null":
        return None
    return cell
