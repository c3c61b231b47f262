"""Search: the tasks of one run that meet conditions, and the attempts that made or took a file, each by one question.

Nothing of what is looked for is text of a question: values and paths are bound to it, and keys that a path of SQLite
cannot name safely are compared as values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matterstack.core.conditions import Condition, Path
from matterstack.core.strict_json import to_text
from matterstack.storage.reader import StoreReader

#: A key that stands in the text of JSON as it is, whoever wrote that.
_IS_PLAIN = re.compile(r"[ !#-\[\]-~]+\Z")
_NUMBERS = "('integer', 'real')"
#: What a task gave; only what completed it counts.
_GAVE = "CASE WHEN t.status = 'COMPLETED' THEN a.data END"


@dataclass(frozen=True)
class Wanted:
    """Which tasks are looked for, and what of them.

    Attributes
    ----------
    function : str or None
        Only calls of a function of this name.
    task : str or None
        Only tasks whose id is of this pattern, with ``*``, ``?`` and ``[...]``.
    statuses : sequence of str
        Only tasks of one of these; empty for all.
    tags : sequence of str
        Only tasks that have all of them, or whose run has.
    conditions : sequence of Condition
        All of which hold.
    values : bool
        Whether what the tasks gave, and were done with, is wanted as well.
    """

    function: str | None = None
    task: str | None = None
    statuses: Sequence[str] = ()
    tags: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    values: bool = False


class FoundTask(NamedTuple):
    """A task that was looked for.

    Attributes
    ----------
    iteration : int
    task_id : str
    status : str
    attempt : int
        Number of its last attempt; 0 for none.
    function : str or None
        Which it calls.
    tags, run_tags : str or None
        Its own, and those of its run, as JSON lists.
    data : str or None
        What it gave, as JSON text.
    changes, arguments, parameters : str or None
        What it was done with: what a person's word has changed of it, keyword arguments of its call, parameters.
    """

    iteration: int
    task_id: str
    status: str
    attempt: int
    function: str | None
    tags: str | None
    run_tags: str | None
    data: str | None
    changes: str | None
    arguments: str | None
    parameters: str | None


class FoundFile(NamedTuple):
    """A file that an attempt left or took.

    Attributes
    ----------
    role : str
        ``made``; ``cached``, where it was taken from a cache in place of running; or ``used``.
    attempt : str
        As ``0.relax.1``.
    name : str
        What it is called there.
    sha256 : str
    size : int or None
        In bytes, where that was noted.
    origin : str or None
        Of which attempt it was taken: of this run ``0.relax.1``, of another one ``"<run_id> 0.relax.1"``.
    """

    role: str
    attempt: str
    name: str
    sha256: str
    size: int | None
    origin: str | None


def find_tasks(reader: StoreReader, wanted: Wanted) -> list[FoundTask]:
    """Return the tasks of a run that are looked for, in the order of the plan."""
    question = _Question()
    if wanted.statuses:
        question.ask("t.status IN (SELECT value FROM json_each({}))", to_text(list(wanted.statuses)))
    if wanted.task is not None:
        question.ask("t.task_id GLOB {}", wanted.task)
    if wanted.function is not None:
        question.ask(f"{_FUNCTION} = {{}}", wanted.function)
    for tag in wanted.tags:
        has = "EXISTS (SELECT 1 FROM json_each({0}) WHERE value = {{0}})"
        question.ask(f"({has.format('t.tags')} OR {has.format('(SELECT tags FROM runs)')})", tag)
    for condition in wanted.conditions:
        question.ask_condition(condition)
    values = _VALUES if wanted.values else "NULL, NULL, NULL, NULL"
    sql = f"{_ASKED.format(values)} WHERE {' AND '.join(question.terms) or 'TRUE'} ORDER BY t.id"
    return [FoundTask._make(row) for row in reader.query(sql, question.values)]


def known_paths(reader: StoreReader, paths: Sequence[Path]) -> list[Path]:
    """Return those of some paths at which any task of a run has something."""
    question = _Question()
    terms = [f"EXISTS (SELECT 1 {_TASKS} WHERE {question.kind_at(path)} IS NOT NULL)" for path in paths]
    (found,) = reader.query(f"SELECT {', '.join(terms)}", question.values)
    return [path for path, has in zip(paths, found, strict=True) if has]


def some_tasks(reader: StoreReader, most: int) -> list[FoundTask]:
    """Return so many tasks of a run with what they gave and were done with, those first that gave something."""
    sql = f"{_ASKED.format(_VALUES)} ORDER BY t.status != 'COMPLETED', t.id LIMIT ?1"
    return [FoundTask._make(row) for row in reader.query(sql, [most])]


_FUNCTION = "CASE WHEN instr(t.spec, '\"call\":') THEN json_extract(t.spec, '$.call.function') END"
_VALUES = f"{_GAVE}, a.changes, json_extract(t.spec, '$.call.kwargs'), json_extract(t.spec, '$.parameters')"


_TASKS = "FROM tasks t LEFT JOIN attempts a ON a.task = t.id AND a.attempt = t.attempts"
_ASKED = (
    f"SELECT t.iteration, t.task_id, t.status, t.attempts, {_FUNCTION}, t.tags, (SELECT tags FROM runs), {{}} {_TASKS}"
)


class _Question:
    """What is asked of a row, as terms that all hold, with the values that are bound to them."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.values: list[object] = []

    def bind(self, value: object) -> str:
        """Return what stands for a value."""
        self.values.append(value)
        return f"?{len(self.values)}"

    def ask(self, term: str, value: object) -> None:
        """Add a term, in which ``{}`` stands for a value."""
        self.terms.append(term.format(self.bind(value)))

    def ask_condition(self, condition: Condition) -> None:
        """Add a condition."""
        kind, value = self._at(condition.path)
        said = condition.value
        match condition.operator:
            case "exists":
                term = f"{kind} IS {'NOT ' if said else ''}NULL"
            case "==":
                term = self._is(kind, value, said)
            case "!=":
                term = f"{kind} IS NOT NULL AND NOT ({self._is(kind, value, said)})"
            case "in":
                term = " OR ".join(self._is_among(kind, value, said))
            case "between":
                low, high = (self._comparable(one) for one in said)
                term = f"{value} BETWEEN {low} AND {high} AND {self._alike(kind, said[0])}"
            case "contains":
                term = self._contains(kind, value, said)
            case operator:  # of order
                term = f"{value} {operator} {self._comparable(said)} AND {self._alike(kind, said)}"
        self.terms.append(f"({term})")

    def kind_at(self, path: Path) -> str:
        """Return what gives the JSON type of what is at a path."""
        return self._at(path)[0]

    def _at(self, path: Path) -> tuple[str, str]:
        """Return what gives the JSON type of what is at a path, and what gives its value; both NULL where it is null.

        What a task gave comes first, then what it was done with.
        """
        places = [
            (_GAVE, path),
            ("a.changes", ("arguments", path[0], "value", *path[1:])),
            ("t.spec", ("call", "kwargs", *path)),
            ("t.spec", ("parameters", *path)),
        ]
        if path[0] == "data":  # as the table of results calls what is no object
            places.insert(0, (f"CASE WHEN json_type({_GAVE}) != 'object' THEN a.data END", path[1:]))
        found = [self._in(text, keys) for text, keys in places]
        kinds, values = zip(*found, strict=True)
        return f"coalesce({', '.join(kinds)})", f"coalesce({', '.join(values)})"

    def _in(self, text: str, keys: Path) -> tuple[str, str]:
        if all(map(_IS_PLAIN.match, keys)):
            path = self.bind("".join(["$", *(f'."{key}"' for key in keys)]))
            return f"nullif(json_type({text}, {path}), 'null')", f"json_extract({text}, {path})"
        tables, terms = [], []
        for depth, key in enumerate(keys):
            tables.append(f"json_each({text}) e{depth}")
            terms.append(f"e{depth}.key = {self.bind(key)}")
            text = f"CASE e{depth}.type WHEN 'object' THEN e{depth}.value END"
        found, last = f"FROM {', '.join(tables)} WHERE {' AND '.join(terms)}", f"e{len(keys) - 1}"
        return f"(SELECT nullif({last}.type, 'null') {found})", f"(SELECT {last}.value {found})"

    def _comparable(self, value: str | float) -> str:
        """Return what stands for a number or a text; a number as JSON, so that SQLite reads both sides alike."""
        return self.bind(value) if isinstance(value, str) else f"json_extract({self.bind(_number(value))}, '$')"

    @staticmethod
    def _alike(kind: str, value: str | float) -> str:
        return f"{kind} = 'text'" if isinstance(value, str) else f"{kind} IN {_NUMBERS}"

    def _is(self, kind: str, value: str, said: str | float | bool) -> str:
        if isinstance(said, bool):
            return f"{kind} = '{'true' if said else 'false'}'"
        return f"{value} = {self._comparable(said)} AND {self._alike(kind, said)}"

    def _is_among(self, kind: str, value: str, said: Sequence[str | float | bool]) -> list[str]:
        """Return terms of which one has to hold: for numbers, for texts, for True and False."""
        terms = [self._is(kind, value, one) for one in said if isinstance(one, bool)]
        if texts := [one for one in said if isinstance(one, str)]:
            listed = self.bind(to_text(texts))
            terms.append(f"{value} IN (SELECT value FROM json_each({listed})) AND {kind} = 'text'")
        if numbers := [_number(one) for one in said if not isinstance(one, str | bool)]:
            listed = self.bind(f"[{','.join(numbers)}]")
            terms.append(f"{value} IN (SELECT value FROM json_each({listed})) AND {kind} IN {_NUMBERS}")
        return terms

    def _contains(self, kind: str, value: str, said: str | float | bool) -> str:
        """Return the term for a text with this text in it, or a list with this value."""
        items = f"json_each(CASE {kind} WHEN 'array' THEN {value} END)"
        term = f"EXISTS (SELECT 1 FROM {items} item WHERE {self._is('item.type', 'item.value', said)})"
        if isinstance(said, str):
            term += f" OR {kind} = 'text' AND instr({value}, {self.bind(said)}) > 0"
        return term


def _number(value: float) -> str:
    """Return a number as JSON; infinity as what is read as that."""
    if value in (float("inf"), float("-inf")):
        return "9e999" if value > 0 else "-9e999"
    return to_text(value)


_LABEL = "{0}t.iteration || '.' || {0}t.task_id || '.' || {0}a.attempt"
_MADE_SQL = f"""SELECT a.id, {_LABEL.format("")}, o.name, o.sha256, o.size, CASE WHEN a.cached IS NOT NULL THEN
  coalesce(CASE WHEN json_valid(a.cached) THEN json_extract(a.cached, '$.run') || ' '
  || json_extract(a.cached, '$.attempt') END, '') END FROM outputs o JOIN attempts a ON a.id = o.attempt
  JOIN tasks t ON t.id = a.task WHERE o.sha256 BETWEEN ?1 AND ?2 ORDER BY a.id, o.name"""
_USED_SQL = f"""SELECT {_LABEL.format("")}, i.name, coalesce(i.sha256, o.sha256), o.size,
  coalesce(i.origin, {_LABEL.format("s")}) FROM inputs i
  JOIN attempts a ON a.id = i.attempt JOIN tasks t ON t.id = a.task
  LEFT JOIN attempts sa ON sa.id = i.source LEFT JOIN tasks st ON st.id = sa.task
  LEFT JOIN outputs o ON o.attempt = i.source AND o.name = i.path
  WHERE coalesce(i.sha256, o.sha256) BETWEEN ?1 AND ?2 ORDER BY a.id, i.name"""


def find_file(reader: StoreReader, digits: str) -> list[FoundFile]:
    """Return the attempts of a run that left or took a file whose SHA-256 begins with these digits."""
    bounds = (digits, f"{digits}g")  # which is after all digits
    with reader.reading():
        made = reader.query(_MADE_SQL, bounds)
        found = [
            FoundFile("made" if origin is None else "cached", label, name, sha256, size, origin or None)
            for _, label, name, sha256, size, origin in made
        ]
        found += [FoundFile("used", *row) for row in reader.query(_USED_SQL, bounds)]
        for attempt, label, name, sha256, size, _ in made:
            if name != "result.json":
                continue
            for link in reader.links_down(attempt):  # the data of a task goes to all that come after it
                if link.name == "inputs.json":
                    taker = f"{link.iteration}.{link.task_id}.{link.attempt}"
                    found.append(FoundFile("used", taker, link.name, sha256, size, label))
    return found
