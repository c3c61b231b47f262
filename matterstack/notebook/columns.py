"""Columns of results as they come in: numbers and words, of what tasks gave and of what they were done with."""

from __future__ import annotations

import json
import math
import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matterstack.core.numbers import is_number
from matterstack.core.text import neutral
from matterstack.orchestration.tables import result_column
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import GivenRow

#: So many results are read at a time: about a tenth of a second.
AT_ONCE = 10_000
#: What every result has, in columns of these names unless results have one that is called so.
ORDERS = ("time", "result", "iteration")
_TITLES = {
    "time": "time since the first submission / s",
    "result": "results, in the order in which they came",
    "iteration": "iteration",
}
_MOST_COLUMNS = 200
_MOST_WORDS = 50
_MOST_LETTERS = 100


class Column:
    """The values of a column, a place a result: numbers, or places of words among `words`; NaN where one is missing.

    A column with numbers in it has no words.
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self._numbers = array("d")
        self._codes = array("d")

    def put(self, place: int, value: object) -> None:
        """Take the value of a result, whose place is after all those that were taken."""
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, str):
            if len(value) <= _MOST_LETTERS and len(self.words) <= _MOST_WORDS:
                _fill(self._codes, place)
                self._codes.append(self.words.setdefault(value, len(self.words)))
        elif (number := _finite(value)) is not None:
            _fill(self._numbers, place)
            self._numbers.append(number)

    @property
    def kind(self) -> str | None:
        """``"number"``, ``"word"``, or None where there is nothing to tell results apart by."""
        if self._numbers:
            return "number"
        return "word" if 1 < len(self.words) <= _MOST_WORDS else None

    def values(self, count: int) -> array[float]:
        """Return the values of so many results."""
        found = self._numbers if self._numbers else self._codes
        _fill(found, count)
        return found


def _fill(values: array[float], count: int) -> None:
    values.extend([math.nan] * (count - len(values)))


def _finite(value: object) -> float | None:
    try:
        number = float(value) if is_number(value) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass
class Columns:
    """The results of a run, in the order in which they came, and kept up to date by what is new.

    Parameters
    ----------
    store : StoreReader

    Attributes
    ----------
    names : list of str
        Of the tasks, as `Run.tasks` calls them.
    edition : int
        Another one where a result that was there is gone: all is read anew then. Else results are only added.
    """

    store: StoreReader
    names: list[str] = field(default_factory=list)
    edition: int = 0
    _given: dict[str, Column] = field(default_factory=dict)
    _orders: dict[str, Column] = field(default_factory=dict)
    _ids: array[int] = field(default_factory=lambda: array("q"))
    _attempts: array[int] = field(default_factory=lambda: array("q"))
    _stamp: tuple[int, ...] | None = None
    _seq: int = 0
    _first_at: float | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.names)

    def refresh(self) -> bool:
        """Take in what is new, so much at a time, and return whether there may be more.

        Nothing is read when nothing changed.
        """
        with self._turn:
            return self._read()

    def _read(self) -> bool:
        stamp = self.store.stamp()
        if stamp == self._stamp:
            return False
        seq, rows = self.store.given_after(self._seq, AT_ONCE)
        known = self._known_of({row.id for row in rows if row.at is None or row.attempt > 1})
        if any(row.id in known and (row.at is None or row.attempt != known[row.id]) for row in rows):
            self._forget()  # it was tried again
            return True
        self._seq = seq
        fresh = [row for row in rows if row.at is not None and row.id not in known]
        for row in sorted(fresh, key=lambda row: row.at or 0.0):
            self._take(row)
        if not rows:
            self._stamp = stamp
        return bool(rows)

    def _known_of(self, tasks: set[int]) -> dict[int, int]:
        """Return which attempts of some tasks, by their rows, gave what is here."""
        pairs = zip(self._ids, self._attempts, strict=True) if tasks else ()
        return {task: attempt for task, attempt in pairs if task in tasks}

    def _forget(self) -> None:
        self.edition += 1
        self._seq = 0
        for part in (self.names, self._given, self._orders):
            part.clear()
        self._ids, self._attempts = array("q"), array("q")

    def _take(self, row: GivenRow) -> None:
        if self._first_at is None:
            self._first_at = self.store.first_submission() or row.at
        place = len(self.names)
        self.names.append(f"{row.iteration}.{row.task_id}")
        self._ids.append(row.id)
        self._attempts.append(row.attempt)
        since_s = (row.at or 0.0) - (self._first_at or 0.0)
        for name, value in zip(ORDERS, (since_s, place + 1, row.iteration), strict=True):
            _in(self._orders, name).put(place, value)
        values = _values(row)
        if row.function is not None:
            values["function"] = row.function
        for name, value in values.items():
            if isinstance(value, str | int | float) and (name in self._given or len(self._given) < _MOST_COLUMNS):
                _in(self._given, name).put(place, value)

    def column(self, name: str) -> Column | None:
        """Return the column of a name; None where no result has it."""
        return self._orders.get(name) if self.is_order(name) else self._given.get(name)

    def is_order(self, name: str) -> bool:
        """Return whether a column is one of those that grow as results come in."""
        given = self._given.get(name)
        return name in ORDERS and (given is None or given.kind is None)

    @property
    def offered(self) -> dict[str, str]:
        """The columns by which results can be told apart, each with its kind: those that every result has come last."""
        found = {name: kind for name, column in self._given.items() if (kind := column.kind) is not None}
        return found | {name: "number" for name in ORDERS if name not in found}


def _in(columns: dict[str, Column], name: str) -> Column:
    """Return a column, which is made where it is not there."""
    found = columns.get(name)
    if found is None:
        found = columns[name] = Column()
    return found


def title_of(data: Columns, name: str) -> str:
    """Return what stands at the axis of a column."""
    return _TITLES[name] if data.is_order(name) else neutral(name)


def _values(row: GivenRow) -> dict[str, Any]:
    """Return what a task was done with, and what it gave: of one name, what it gave."""
    changed = _object(row.changes).get("arguments")
    said = {name: one.get("value") for name, one in (changed or {}).items() if isinstance(one, dict)}
    gave, done_with = _object(row.data), {**_object(row.parameters), **said}
    found = {**gave, **{name: value for name, value in done_with.items() if name not in gave}}
    return {result_column(str(name)): value for name, value in found.items() if name}


def gives_numbers(row: GivenRow) -> bool:
    """Return whether there is a number among what a task gave."""
    return row.at is not None and any(_finite(value) is not None for value in _object(row.data).values())


def _object(text: str | None) -> Mapping[str, Any]:
    """Return a JSON object, which may be anything: this run may be a stranger's."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {"data": found}
