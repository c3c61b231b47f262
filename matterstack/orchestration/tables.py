"""The run as pandas tables: one row per thing, plain columns, times in UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from matterstack.core.amended import in_words
from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.core.tags import tags_in
from matterstack.core.text import has_utf8
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import AttemptRow, EventRow, TaskRow

if TYPE_CHECKING:
    import networkx
    import pandas as pd

_TIMES = frozenset({"at", "submitted_at", "started_at", "ended_at", "created_at", "since"})
_WHOLE = frozenset({"exit_code", "attempt"})
_AMOUNTS = frozenset({"cpu_s", "peak_memory_gib"})


def _frame(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(columns))
    for name in columns:
        if name in _TIMES:
            # Whole microseconds: seconds as floats would show rounding noise.
            stamps = frame[name].astype("Float64") * 1e6
            frame[name] = pd.to_datetime(stamps.round().astype("Int64"), unit="us", utc=True)
        elif name in _WHOLE:
            frame[name] = frame[name].astype("Int64")
        elif name in _AMOUNTS:
            frame[name] = frame[name].astype("float64")
        elif name in ("task_id", "reason", "token", "external_id", "event", "changes", "cached", "tags"):
            frame[name] = frame[name].astype("str")
    return frame


def _status(frame: pd.DataFrame, statuses: type[TaskStatus] | type[AttemptStatus]) -> pd.DataFrame:
    import pandas as pd

    kind = pd.CategoricalDtype([str(status) for status in statuses])
    frame["status"] = frame["status"].astype(kind)
    frame["operator"] = frame["operator"].astype("category")
    return frame


def tasks(store: StoreReader, waiting: Mapping[int, str] = MappingProxyType({})) -> pd.DataFrame:
    """Return a row per task; the times and the exit code are those of its last attempt.

    The index is ``<iteration>.<task_id>``. ``tags`` are separated by commas.

    Parameters
    ----------
    store : StoreReader
    waiting : mapping of int to str, optional
        Why ready tasks wait for a limit, by their rows.
    """
    return _task_frame(with_reasons(store.tasks(), waiting))


def with_reasons(rows: Sequence[TaskRow], waiting: Mapping[int, str]) -> Sequence[TaskRow]:
    """Return rows of tasks, and of each of some that wait the reason why, before what it has said itself."""
    if not waiting:
        return rows
    told = ((row, waiting.get(row.id)) for row in rows)
    return [
        row if why is None else row._replace(reason="; ".join(filter(None, (why, row.reason)))) for row, why in told
    ]


def _task_frame(rows: Sequence[TaskRow]) -> pd.DataFrame:
    shown = [(*row[1:11], row.cached, ", ".join(tags_in(row.tags))) for row in rows]
    frame = _status(_frame((*TaskRow._fields[1:11], "cached", "tags"), shown), TaskStatus)
    frame.index = _labels(frame, "task", "iteration", "task_id")
    return frame


def attempts(store: StoreReader) -> pd.DataFrame:
    """Return a row per attempt, in the order of submission; the index is ``<iteration>.<task_id>.<attempt>``.

    ``changes`` tells in words what it was made with that the plan says otherwise. ``cpu_s`` and ``peak_memory_gib`` are
    what its processes used, where that was measured: the CPU time of all that was waited for, and the most memory that
    one of them had.
    """
    rows = [row._replace(changes=in_words(row.changes))[:-1] for row in store.attempts()]
    frame = _status(_frame(AttemptRow._fields[:-1], rows), AttemptStatus)
    frame.index = _labels(frame, "attempt", "iteration", "task_id", "attempt")
    return frame


def events(store: StoreReader) -> pd.DataFrame:
    """Return the journal: a row per transition, in its order; the index is its sequence number."""
    frame = _frame(EventRow._fields, store.events())
    frame["iteration"] = frame["iteration"].astype("Int64")
    frame.index = frame["seq"].rename("event")
    return frame


#: What stands first in the table of results; a key of a result that is called so gets a trailing underscore.
_OF_RESULTS = ("iteration", "task_id", "attempt", "function")


def result_column(key: str, taken: Sequence[str] = _OF_RESULTS) -> str:
    """Return what a key of a result is called as a column of `results`, beside those whose names are taken."""
    return f"{key}_" if key.rstrip("_") in taken else key


def given_data(
    store: StoreReader, function: str | None = None
) -> Iterator[tuple[AttemptRow, str | None, dict[str, Any]]]:
    """Yield what each completed task gave: its attempt, the function that it called, and its data as an object.

    Parameters
    ----------
    store : StoreReader
    function : str, optional
        Only calls of the function of this name.
    """
    for row, called in store.completed():
        if function is None or called == function:
            data = json.loads(row.data) if row.data else {}
            yield row, called, data if isinstance(data, dict) else {"data": data}


def results(store: StoreReader, function: str | None = None) -> pd.DataFrame:
    """Return a row per completed task, with a column for each key of its ``result.json``, each of its own dtype.

    The index is ``<iteration>.<task_id>``. A key that would hide ``iteration``, ``task_id``, ``attempt`` or
    ``function`` gets a trailing underscore, and so does one that would be taken for such a key: ``task_id_`` stands in
    ``task_id__``. Data that is not an object stands in ``data``.

    Parameters
    ----------
    store : StoreReader
    function : str, optional
        Only calls of the function of this name, and only columns that they fill.
    """
    rows = (((*row[:3], called), data) for row, called, data in given_data(store, function))
    frame = results_frame(_OF_RESULTS, rows)
    frame.index = _labels(frame, "task", "iteration", "task_id")
    return frame


def results_frame(names: Sequence[str], rows: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """Return a row per result, with a column for each of its keys, each of its own dtype.

    Parameters
    ----------
    names : sequence of str
        What stands first.
    rows : iterable of (sequence, mapping)
        Their values, and what a task gave.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in names}
    count = 0
    for first, data in rows:
        for name, value in zip(names, first, strict=True):
            columns[name].append(value)
        for key, value in data.items():
            column = columns.setdefault(result_column(key, names), [])
            column.extend([None] * (count - len(column)))
            column.append(value)
        count += 1
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    frame = pd.DataFrame({name: column_of(values) for name, values in columns.items()})
    frame["function"] = frame["function"].astype("category")
    return frame


def column_of(values: list[Any]) -> pd.Series[Any]:
    """Return values of JSON as a column of the dtype that they have in common; what is missing is missing.

    Text that is not all in UTF-8, as of paths in another code, is kept as objects: other columns of text refuse it.
    """
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    whole = None in values
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if whole else "bool")
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pd.Series(values, dtype="Int64" if whole else "int64")
    if kinds and kinds <= {int, float} and all(value is None or abs(value) < 1e300 for value in values):
        return pd.Series([float("nan") if value is None else float(value) for value in values], dtype="float64")
    if kinds == {str} and all(value is None or has_utf8(value) for value in values):
        return pd.Series(values, dtype="str")
    return pd.Series(values, dtype="object")


def graph(store: StoreReader, waiting: Mapping[int, str]) -> networkx.DiGraph[str]:
    """Return the tasks as a graph; see `matterstack.run.Run.graph`."""
    import networkx

    with store.reading():
        rows, edges = with_reasons(store.tasks(), waiting), store.edges()
    names = {row.id: f"{row.iteration}.{row.task_id}" for row in rows}
    found: networkx.DiGraph[str] = networkx.DiGraph()
    columns: list[dict[str, Any]] = _task_frame(rows).to_dict("records")  # type: ignore[assignment]
    found.add_nodes_from((names[row.id], {**it, "group": row.group}) for row, it in zip(rows, columns, strict=True))
    found.add_edges_from((names[dependency], names[dependant]) for dependency, dependant in edges)
    return found


def _labels(frame: pd.DataFrame, name: str, *parts: str) -> pd.Index[Any]:
    import pandas as pd

    columns = [frame[part].astype(str) for part in parts]
    return pd.Index([".".join(values) for values in zip(*columns, strict=True)], name=name, dtype="str")
