"""The reading of an answer: from its bytes to a value, and what is wrong with it. It touches no file and no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from matterstack.core.schemas import shown_path, violations_by_path
from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError
from matterstack.operators.requests.tables import read_csv
from matterstack.operators.requests.workbooks import read_workbook


class Violation(NamedTuple):
    """One thing that is wrong with an answer.

    Attributes
    ----------
    path : sequence of str and int
        Where in the value.
    place : str
        The same for a reader: ``$.gap_eV``, or ``line 3, column gap_eV``; empty for the whole.
    text : str
        What is wrong, in plain words.
    """

    path: Sequence[str | int]
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class Reading(NamedTuple):
    """An answer that was read.

    Attributes
    ----------
    value : Any
        Plain JSON data; None where it cannot be read.
    violations : sequence of Violation
        What is wrong with it; empty where nothing is.
    """

    value: Any
    violations: Sequence[Violation]

    @property
    def wrong(self) -> list[str]:
        """What is wrong, each with its place."""
        return [str(violation) for violation in self.violations]


def read_answer(source: str, raw: bytes, schema: Mapping[str, Any]) -> Reading:
    """Read and check an answer, however long that takes.

    Parameters
    ----------
    source : str
        The name of its file, whose ending says what it is: ``.json``, ``.csv`` or ``.xlsx``.
    raw : bytes
        The whole file.
    schema : mapping
        JSON Schema of the answer.
    """
    try:
        match PurePath(source).suffix:
            case ".csv":
                table = read_csv(raw, schema)
            case ".xlsx":
                table = read_workbook(raw, schema)
            case _:
                value = parse_json(raw)
                found = violations_by_path(schema, value)
                return Reading(value, [Violation(path, shown_path(path), text) for path, text in found])
    except InvalidJsonError as error:
        return Reading(None, [Violation((), "", str(error))])
    return Reading(table.rows, [Violation((), place, text) for place, text in table.violations(schema)])
