"""A comparison of two runs: settings, tasks, results and timing, side by side, and what of them differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.snapshot import RunRecord
from matterstack.core.text import neutral
from matterstack.errors import InvalidConfigError
from matterstack.orchestration import tables
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.storage.rows import TaskRow

_MOST_SHOWN, _MOST_SETTINGS, _MOST_PARTS, _MOST_NAMES = 10, 30, 5, 3
_MOST_LETTERS, _MOST_BEFORE = 40, 15
#: Of config.json: which run it is, and no setting.
_NO_SETTINGS = frozenset({"key", "workspace", "run_id"})
_OF_RESULTS = frozenset({"iteration", "attempt"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs beside each other; tasks are the same where ``<iteration>.<task_id>`` is.

    Attributes
    ----------
    a, b : str
        Which runs.
    notes : tuple of str
        What cannot be compared, and why.
    summary : pandas.DataFrame
        ``a``, ``b`` and ``difference`` of all in sum: tasks, those completed and failed, ``running_s``, ``waiting_s``,
        and ``elapsed_s`` from the first submission to the last end.
    settings : pandas.DataFrame
        A row per setting of config.json, or of the revision of the user's modules: ``a``, ``b``, ``differs``.
    tasks : pandas.DataFrame
        A row per task: ``where`` it is (``both``, ``a``, ``b``), statuses, numbers of attempts, and in
        ``specification`` how what shall be done differs; empty where it does not.
    results : pandas.DataFrame
        A row per number that a task completed in both runs gave: ``quantity``, ``a``, ``b``, ``difference`` (b less
        a), and ``relative`` to a.
    timing : pandas.DataFrame
        A row per task of both runs: ``running_s`` and ``waiting_s`` of its last attempt, from start to end and from
        submission to start, and ``running_s_difference``.
    """

    a: str
    b: str
    notes: tuple[str, ...]
    summary: pd.DataFrame
    settings: pd.DataFrame
    tasks: pd.DataFrame
    results: pd.DataFrame
    timing: pd.DataFrame

    @property
    def headline(self) -> str:
        """What differs, in a sentence."""
        tasks, results = self.tasks, self.results
        both = tasks["where"] == "both"
        found = (
            (self.settings["differs"], "setting differs", "settings differ"),
            (tasks["where"] == "a", f"task is in {self.a} only", f"tasks are in {self.a} only"),
            (tasks["where"] == "b", f"task is in {self.b} only", f"tasks are in {self.b} only"),
            (tasks["specification"] != "", "task is specified differently", "tasks are specified differently"),
            (both & (tasks["status_a"] != tasks["status_b"]), "task stands otherwise", "tasks stand otherwise"),
            (results["difference"] != 0, "number in results differs", "numbers in results differ"),
        )
        counts = [(int(which.sum()), one, many) for which, one, many in found]
        said = "; ".join(f"{number} {one if number == 1 else many}" for number, one, many in counts if number)
        numbers = f", with {_many(len(results), 'number')} in their results" if len(results) else ""
        compared = f"Compared: {_many(int(both.sum()), 'task')}{numbers}."
        return f"{self.a} and {self.b}: {said or 'nothing differs'}. {compared}"

    def __repr__(self) -> str:
        lines = [self.headline, *self.notes]
        for title, head, rows, _ in self._parts():
            if rows:
                widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
                padded = ([cell.ljust(n) for cell, n in zip(row, widths, strict=True)] for row in [head, *rows])
                lines += ["", title, *("  " + "  ".join(row).rstrip() for row in padded)]
        return neutral("\n".join(lines))

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(neutral(note))}</p>" for note in self.notes)
        parts = "".join(_table_html(part) for part in self._parts() if part.rows)
        return f"<div class='ms-view ms-comparison'><p>{escape(neutral(self.headline))}</p>{notes}{parts}</div>"

    def _parts(self) -> Iterator[_Part]:
        """Yield what is shown: what differs, the largest differences first."""
        a, b = self.a, self.b
        yield _Part("In sum", ("", a, b, "difference"), _rows(self.summary), (1, 2, 3))
        settings = self.settings[self.settings["differs"]][["a", "b"]]
        yield _part("Settings that differ", ("setting", a, b), settings, _MOST_SETTINGS)
        yield _part("Tasks that differ", ("how", "tasks", "for example"), self._ways(), numbers=(1,))
        results = _by_size(self.results[self.results["difference"] != 0], "relative")
        of_results = ("task", "quantity", a, b, "difference", "relative")
        yield _part("Results that differ most", of_results, results, numbers=(2, 3, 4, 5))
        times = _by_size(self.timing[self.timing["running_s_difference"] != 0], "running_s_difference")
        times = times[["running_s_a", "running_s_b", "running_s_difference"]]
        of_times = ("task", f"running_s in {a}", f"running_s in {b}", "difference")
        yield _part("Times that differ most", of_times, times, numbers=(1, 2, 3))

    def _ways(self) -> pd.DataFrame:
        """Return in which ways tasks differ, how many in each, and some of them; the commonest first."""
        import pandas as pd

        only = {"a": f"only in {self.a}", "b": f"only in {self.b}"}
        ways: dict[str, list[str]] = {}
        for label, where, status_a, status_b, _, _, specification in self.tasks.itertuples():
            moved = f"{status_a} -> {status_b}" if status_a != status_b else ""
            if how := only.get(where) or "; ".join(filter(None, (moved, specification))):
                ways.setdefault(how, []).append(str(label))
        found = sorted(ways.items(), key=lambda way: -len(way[1]))
        rows = [(len(labels), ", ".join(labels[:_MOST_NAMES])) for _, labels in found]
        return pd.DataFrame(rows, columns=["tasks", "for example"], index=[how for how, _ in found])


class _Part(NamedTuple):
    """A table that is shown: its title, its head, and its rows."""

    title: str
    head: Sequence[str]
    rows: list[list[str]]
    #: Columns whose cells stand to the right, below each other.
    numbers: Sequence[int] = ()


def compare(a: RunDirectory, b: RunDirectory) -> Comparison:
    """Return two runs beside each other. To look changes nothing, and runs nothing of them.

    Raises
    ------
    StoreError
        A database cannot be used.
    """
    one, other = _Side(a), _Side(b)
    names = _names(one, other)
    tasks = _tasks(one, other)
    results, lacking = _results(one, other)
    notes = [*_notes(one, other, names, tasks), *lacking]
    summary = _summary(one, other)
    return Comparison(*names, tuple(notes), summary, _settings(one, other), tasks, results, _timing(one, other))


class _Side:
    """One of the runs, as it is read."""

    record: RunRecord
    tasks: dict[str, TaskRow]
    specifications: dict[str, str]
    results: pd.DataFrame
    settings: dict[str, Any]
    trouble: str = ""

    def __init__(self, directory: RunDirectory) -> None:
        self.path = directory.path
        with closing(StoreReader(directory.state)) as store, store.reading():
            self.record = store.run()
            self.tasks = {f"{row.iteration}.{row.task_id}": row for row in store.tasks()}
            self.specifications = {f"{n}.{task_id}": text for n, task_id, text in store.specifications()}
            self.results = tables.results(store)
            self.first = store.first_submission()
            code = store.code()
        try:
            config = directory.read_config()
        except InvalidConfigError as error:
            config, self.trouble = {}, str(error)
        settings = {name: value for name, value in config.items() if name not in _NO_SETTINGS}
        self.settings = _flat({**settings, "code": json.loads(code) if code else {}})
        self.campaign = config.get("campaign")


def _names(one: _Side, other: _Side) -> tuple[str, str]:
    """Return what the runs are called, so that they can be told apart."""
    a, b = one.record, other.record
    if a.run_id != b.run_id:
        return a.run_id, b.run_id
    if a.workspace != b.workspace:
        return f"{a.workspace}/{a.run_id}", f"{b.workspace}/{b.run_id}"
    return str(one.path), str(other.path)


def _notes(one: _Side, other: _Side, names: tuple[str, str], tasks: pd.DataFrame) -> Iterator[str]:
    for name, side in zip(names, (one, other), strict=True):
        if side.trouble:
            yield f"The settings of {name} cannot be compared: {side.trouble}"
    if one.campaign != other.campaign:
        said = [_campaign(side.campaign) for side in (one, other)]
        yield (
            f"{names[0]} was made of {said[0]}, {names[1]} of {said[1]}: tasks of one name need not be the same thing."
        )
    if not (tasks["where"] == "both").any():
        yield "No task has the same name in both, so neither results nor times can be compared task by task."


def _campaign(reference: object) -> str:
    if reference == "workflow":
        return "one workflow"
    return "a campaign that it does not keep" if reference is None else f"the campaign {reference}"


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return what is in nested objects by its path, as ``operators.local.settings.max_active``."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = inner
    return found


def _settings(one: _Side, other: _Side) -> pd.DataFrame:
    import pandas as pd

    names = sorted(one.settings.keys() | other.settings.keys())
    a, b = ([side.settings.get(name) for name in names] for side in (one, other))
    frame = pd.DataFrame({"a": pd.Series(a, dtype=object), "b": pd.Series(b, dtype=object)})
    frame["differs"] = pd.Series([x != y for x, y in zip(a, b, strict=True)], dtype=bool)
    frame.index = pd.Index(names, name="setting", dtype="str")
    return frame


def _tasks(one: _Side, other: _Side) -> pd.DataFrame:
    import pandas as pd

    labels = [*one.tasks, *(label for label in other.tasks if label not in one.tasks)]
    rows = []
    for label in labels:
        a, b = one.tasks.get(label), other.tasks.get(label)
        where = "both" if a and b else "a" if a else "b"
        how = _how_it_differs(one.specifications[label], other.specifications[label]) if a and b else ""
        rows.append((where, a and a.status, b and b.status, a and a.attempt, b and b.attempt, how))
    columns = ["where", "status_a", "status_b", "attempts_a", "attempts_b", "specification"]
    frame = pd.DataFrame(rows, columns=columns, index=pd.Index(labels, name="task", dtype="str"))
    return frame.astype({"attempts_a": "Int64", "attempts_b": "Int64"})


def _how_it_differs(a: str, b: str) -> str:
    """Return in which parts what shall be done differs, and how; empty where it does not."""
    if a == b:
        return ""
    old, new = json.loads(a), json.loads(b)
    parts = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    one, other = (_flat({name: spec[name] for name in parts if name in spec}) for spec in (old, new))
    found = [
        f"{name}: {_change(one.get(name), other.get(name))}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and name != "call.python"  # who asks is no part of what is asked
    ]
    more = f"; and {len(found) - _MOST_PARTS} more" if len(found) > _MOST_PARTS else ""
    return "; ".join(found[:_MOST_PARTS]) + more


def _change(a: object, b: object) -> str:
    """Return two values in few letters: of long ones, what is around the first difference."""
    old, new = (_text(value) for value in (a, b))
    same = next((place for place, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), 0)
    first = max(0, same - _MOST_BEFORE) if max(len(old), len(new)) > _MOST_LETTERS else 0
    return f"{_cut(old, first)} -> {_cut(new, first)}"


def _cut(text: str, first: int) -> str:
    last = first + _MOST_LETTERS
    return f"{'...' if first else ''}{text[first:last]}{'...' if len(text) > last else ''}"


def _text(value: object) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return neutral(text).replace("\n", " ")


def _results(one: _Side, other: _Side) -> tuple[pd.DataFrame, list[str]]:
    """Return the numbers that both runs gave, and a note where there are none."""
    import pandas as pd

    a, b = (
        frame[[name for name in frame.select_dtypes("number") if name not in _OF_RESULTS]].astype("float64")
        for frame in (one.results, other.results)
    )
    quantities = [str(name) for name in a if name in b]
    common = a.index.intersection(b.index, sort=False)
    a, b = a.loc[common], b.loc[common]
    parts = [pd.DataFrame({"quantity": name, "a": a[name], "b": b[name]}).dropna() for name in quantities]
    columns = {"quantity": "str", "a": "float64", "b": "float64"}
    frame = pd.concat(parts) if parts else pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    frame["difference"] = frame["b"] - frame["a"]
    # Of what was zero a difference is infinite; of what is zero in both, nothing.
    frame["relative"] = (frame["difference"] / frame["a"].abs()).fillna(0.0)
    frame.index.name = "task"
    lacks = len(common) > 0 and not quantities and (len(a.columns) or len(b.columns))
    return frame, ["No number has the same name in the results of both."] if lacks else []


def _times(row: TaskRow) -> tuple[float | None, float | None]:
    """Return for how many seconds the last attempt at a task ran, and how many it waited for its start."""
    if row.started_at is None:
        return None, None
    running = None if row.ended_at is None else row.ended_at - row.started_at
    return running, None if row.submitted_at is None else row.started_at - row.submitted_at


def _timing(one: _Side, other: _Side) -> pd.DataFrame:
    import pandas as pd

    labels = [label for label in one.tasks if label in other.tasks]
    rows = [(*_times(one.tasks[label]), *_times(other.tasks[label])) for label in labels]
    columns = ["running_s_a", "waiting_s_a", "running_s_b", "waiting_s_b"]
    index = pd.Index(labels, name="task", dtype="str")
    frame = pd.DataFrame(rows, columns=columns, index=index, dtype="float64")
    frame["running_s_difference"] = frame["running_s_b"] - frame["running_s_a"]
    return frame[["running_s_a", "running_s_b", "running_s_difference", "waiting_s_a", "waiting_s_b"]]


def _summary(one: _Side, other: _Side) -> pd.DataFrame:
    import pandas as pd

    a, b = _sums(one), _sums(other)
    differences = [
        y - x if isinstance(x, int | float) and isinstance(y, int | float) else None
        for x, y in zip(a.values(), b.values(), strict=True)
    ]
    index = pd.Index(list(a), name="what", dtype="str")
    columns = {"a": list(a.values()), "b": list(b.values()), "difference": differences}
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()}).set_index(index)


def _sums(side: _Side) -> dict[str, Any]:
    rows = side.tasks.values()
    times = [_times(row) for row in rows]
    ended = max((row.ended_at for row in rows if row.ended_at is not None), default=None)
    elapsed = None if ended is None or side.first is None else round(ended - side.first, 3)
    return {
        "status": str(side.record.status),
        "iterations": side.record.iteration + 1,
        "tasks": len(rows),
        "completed": sum(row.status == "COMPLETED" for row in rows),
        "failed": sum(row.status == "FAILED" for row in rows),
        "attempts": sum(row.attempt for row in rows),
        "running_s": round(sum(running or 0.0 for running, _ in times), 3),
        "waiting_s": round(sum(waiting or 0.0 for _, waiting in times), 3),
        "elapsed_s": elapsed,
    }


def _rows(frame: pd.DataFrame) -> list[list[str]]:
    return [[_said(value) for value in row] for row in frame.itertuples()]


def _said(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:.6g}"
    return neutral(str(value))


def _many(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _part(
    title: str, head: Sequence[str], frame: pd.DataFrame, most: int = _MOST_SHOWN, numbers: Sequence[int] = ()
) -> _Part:
    """Return the first rows of what differs."""
    more = f" ({most} of {len(frame)})" if len(frame) > most else ""
    return _Part(title + more, head, _rows(frame.head(most)), numbers)


def _by_size(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows that have a value in a column, the largest first, whatever its sign."""
    there = frame[frame[column].notna()]
    return there.iloc[(-there[column].abs().to_numpy()).argsort(kind="stable")]


def _table_html(part: _Part) -> str:
    left, right = (f"text-align:{side};vertical-align:top;overflow-wrap:break-word" for side in ("left", "right"))
    styles = [right if column in part.numbers else left for column in range(len(part.head))]
    head = _cells_html("th", styles, part.head)
    body = "".join(f"<tr>{_cells_html('td', styles, row)}</tr>" for row in part.rows)
    return f"<p><b>{escape(part.title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells_html(tag: str, styles: Sequence[str], cells: Sequence[str]) -> str:
    pairs = zip(styles, cells, strict=True)
    return "".join(f"<{tag} style='{style}'>{escape(neutral(cell))}</{tag}>" for style, cell in pairs)
