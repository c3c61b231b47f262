"""Finding over all runs of workspaces: tasks by what they gave, their results, and who made or used a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from matterstack.core import conditions
from matterstack.core.identifiers import check_identifier
from matterstack.core.states import TaskStatus
from matterstack.core.tags import tags_in, tags_of
from matterstack.core.text import did_you_mean, is_storable, neutral
from matterstack.errors import DamagedStoreError, FindError
from matterstack.orchestration.each_run import Answers, ask_each
from matterstack.orchestration.tables import column_of, result_column, results_frame
from matterstack.storage import search
from matterstack.storage.reader import StoreReader
from matterstack.storage.search import FoundTask, Wanted
from matterstack.storage.workspaces import Workspaces, runs_in

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.storage.run_directory import RunDirectory

_OF_TASKS = ("workspace", "run_id", "iteration", "task_id", "status", "function", "tags")
_OF_RESULTS = ("workspace", "run_id", "iteration", "task_id", "attempt", "function")
_OF_FILES = ("role", "workspace", "run_id", "attempt", "name", "of_run", "of_attempt", "sha256", "size")
_ROLES = ("made", "cached", "used")
_DIGITS = re.compile(r"[0-9a-f]{12,64}\Z")
_CHUNK = 1 << 20
#: Of so many tasks of a run it is asked what they have, where nobody has what was asked for.
_MOST_LOOKED_AT, _MOST_NAMES, _LONGEST = 50, 2000, 100
_FEW = 4

log = logging.getLogger("matterstack.find")

Where = Mapping[str | tuple[str, ...], Any]


def find_tasks(
    workspaces: Workspaces,
    function: Callable[..., Any] | str | None = None,
    *,
    task: str | None = None,
    status: str | Sequence[str] | None = None,
    tags: str | Sequence[str] = (),
    where: Where | None = None,
    columns: Sequence[str | tuple[str, ...]] = (),
    base_path: str | os.PathLike[str] = ".",
) -> pd.DataFrame:
    r"""Return the tasks of all runs of workspaces that are looked for.

    Runs are only read, one by one; there is no index. A run that cannot be read is left out, and said: as a warning in
    the log, and by its path in ``frame.attrs["unread"]``.

    Parameters
    ----------
    workspaces : str, path-like, or a sequence of them
        Names, patterns of names such as ``"*"``, or paths of workspaces.
    function : callable or str, optional
        Only calls of this function, or of this name.
    task : str, optional
        Only tasks whose id is of this pattern, in which ``*`` stands for any characters, ``?`` for one, and ``[ab]``
        for one of these.
    status : str or sequence of str, optional
        Only tasks that stand so, as ``"COMPLETED"``.
    tags : str or sequence of str
        Only tasks that have all of these, or whose run has.
    where : mapping, optional
        By path, what a value has to be: a number, a text, True or False; or a tuple of an operator and what it takes:
        ``("<", -3)``, also ``<= > >= == !=``, ``("between", -4, -3)``, ``("in", [...])``, ``("contains", "Li")`` of a
        text or a list, ``("exists", True)``. All have to hold, also those of one path in a list. Numbers are compared
        with numbers only, and texts with texts.
    columns : sequence of str
        Paths whose values are wanted.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        With ``workspace, run_id, iteration, task_id, status, function, tags`` and the columns. One that is called as
        these are gets a trailing underscore. Paths at which no task of any run has anything, as one that is misspelt,
        are in ``frame.attrs["nowhere"]``, with those that are nearly called so, and in the log.

    Raises
    ------
    FindError
        A condition, a path or a status that makes no sense.
    RunNotFoundError
        There is no such workspace.

    Notes
    -----
    A path names keys in what a task gave, separated by points: ``"cell.a"``. Where a task gave nothing there, and
    before it has given anything, it is what the task was done with: a keyword argument of its function, or one of its
    parameters. A key that has a point in it is in double quotes, or the keys are given one by one, ``("a.b", "c")``.
    What is null counts as not there.

    Examples
    --------
    >>> import tempfile, matterstack as ms
    >>> base = tempfile.mkdtemp()
    >>> for name, energy_eV in [("Al", -3.7), ("Cu", -3.5)]:
    ...     task = ms.Task("relax", f"echo '{{\"energy_eV\": {energy_eV}}}' > result.json", tags="metal")
    ...     _ = ms.initialize_run("metals", ms.Workflow([task]), base_path=base, run_id=name).wait()
    >>> found = ms.find_tasks("*", where={"energy_eV": ("<", -3.6)}, columns=["energy_eV"], base_path=base)
    >>> found[["run_id", "task_id", "energy_eV"]]
      run_id task_id  energy_eV
    0     Al   relax       -3.7
    """
    given = [(one, conditions.path_of(one)) for one in _sequence(columns, "columns")]
    paths = {_column_name(one): path for one, path in given}
    wanted = _wanted(function, task, status, tags, where, values=bool(paths))

    def ask(reader: StoreReader) -> list[tuple[Any, ...]]:
        with _making_sense(reader):
            return [(*_said(one), *_values_at(one, paths.values())) for one in _found(reader, wanted)]

    answers = ask_each(runs_in(workspaces, base_path), ask)
    values: dict[str, list[Any]] = {name: [] for name in (*_OF_TASKS, *paths)}
    for directory, found in answers.found:
        place = _place(directory)
        for row in found:
            for column, value in zip(values.values(), (*place, *row), strict=True):
                column.append(value)
    frame = _frame(values, answers)
    empty = {path for name, path in paths.items() if all(value is None for value in values[name])}
    frame.attrs["nowhere"] = _nowhere(answers, [*_in_doubt(wanted, frame), *empty])
    return frame


def results(
    workspaces: Workspaces,
    function: Callable[..., Any] | str | None = None,
    *,
    task: str | None = None,
    tags: str | Sequence[str] = (),
    where: Where | None = None,
    base_path: str | os.PathLike[str] = ".",
) -> pd.DataFrame:
    r"""Return what completed tasks of all runs of workspaces gave: a row per task, a column per key, as `Run.results`.

    Parameters
    ----------
    workspaces : str, path-like, or a sequence of them
        As in `find_tasks`, which tells of all that follows, too.
    function : callable or str, optional
        Only calls of this function.
    task : str, optional
        Only tasks whose id is of this pattern.
    tags : str or sequence of str
        Only tasks that have all of these.
    where : mapping, optional
        By path, what a value has to be.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        As `Run.results_of` returns it, with ``workspace`` and ``run_id`` before. Runs that cannot be read are in
        ``frame.attrs["unread"]``, and paths at which no task has anything in ``frame.attrs["nowhere"]``.

    Raises
    ------
    FindError, RunNotFoundError
        As in `find_tasks`.

    Examples
    --------
    >>> import tempfile, matterstack as ms
    >>> base = tempfile.mkdtemp()
    >>> flow = ms.Workflow([ms.Task("relax", "echo '{\"energy_eV\": -3.7}' > result.json")])
    >>> _ = ms.initialize_run("metals", flow, base_path=base, run_id="Al").wait()
    >>> ms.results("metals", base_path=base)[["run_id", "task_id", "energy_eV"]]
      run_id task_id  energy_eV
    0     Al   relax       -3.7
    """
    wanted = _wanted(function, task, TaskStatus.COMPLETED, tags, where, values=True)

    def ask(reader: StoreReader) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        with _making_sense(reader):
            return [
                ((one.iteration, one.task_id, one.attempt, one.function), _gave(one)) for one in _found(reader, wanted)
            ]

    answers = ask_each(runs_in(workspaces, base_path), ask)
    frame = results_frame(
        _OF_RESULTS,
        (((*_place(directory), *who), data) for directory, found in answers.found for who, data in found),
    )
    frame.attrs["unread"] = answers.unread
    frame.attrs["nowhere"] = _nowhere(answers, _in_doubt(wanted, frame))
    return frame


def find_file(
    file: str | os.PathLike[str], workspaces: Workspaces = "*", *, base_path: str | os.PathLike[str] = "."
) -> pd.DataFrame:
    """Return which attempts of all runs of workspaces made a file, and which used it.

    Parameters
    ----------
    file : str or path-like
        Its SHA-256, or the first 12 digits of it or more; or the path of a file, whose content is looked for.
    workspaces : str, path-like, or a sequence of them
        As in `find_tasks`; by default all workspaces.
    base_path : path-like
        Where ``workspaces/`` is.

    Returns
    -------
    pandas.DataFrame
        With ``role, workspace, run_id, attempt, name, of_run, of_attempt, sha256, size``. The role is ``made``;
        ``cached``, where it was taken from a cache in place of running; or ``used``. ``name`` is where it lay for that
        attempt, and ``of_run`` and ``of_attempt`` say whence it was taken; they are empty where it came from outside.
        Runs that cannot be read are in ``frame.attrs["unread"]``.

    Raises
    ------
    FindError
        There is no such file, or it is no SHA-256.
    RunNotFoundError
        There is no such workspace.

    Examples
    --------
    >>> import tempfile, matterstack as ms
    >>> base = tempfile.mkdtemp()
    >>> flow = ms.Workflow([
    ...     ms.Task("relax", "echo 1.23 > final.xyz", outputs=["final.xyz"]),
    ...     ms.Task("band", "true", files={"start.xyz": ms.FromTask("relax", "final.xyz")}),
    ... ])
    >>> run = ms.initialize_run("metals", flow, base_path=base, run_id="Al")
    >>> _ = run.wait()
    >>> ms.find_file(run.file("relax", "final.xyz"), base_path=base)[["role", "run_id", "attempt", "name"]]
       role run_id    attempt       name
    0  made     Al  0.relax.1  final.xyz
    1  used     Al   0.band.1  start.xyz
    """
    digits = _digits(file)
    answers = ask_each(runs_in(workspaces, base_path), lambda reader: search.find_file(reader, digits))
    values: dict[str, list[Any]] = {name: [] for name in _OF_FILES}
    rows = [(*_place(directory), one) for directory, found in answers.found for one in found]
    for workspace, run_id, one in sorted(rows, key=lambda row: _ROLES.index(row[2].role)):
        of_run, _, of_attempt = (one.origin or "").rpartition(" ")
        of_run = of_run or (run_id if of_attempt else "")
        row = (one.role, workspace, run_id, one.attempt, one.name, of_run, of_attempt, one.sha256, one.size)
        for name, value in zip(_OF_FILES, row, strict=True):
            values[name].append(value)
    return _frame(values, answers)


def _frame(values: Mapping[str, list[Any]], answers: Answers[Any]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame({name: column_of(column) for name, column in values.items()})
    frame.attrs["unread"] = answers.unread
    return frame


def _place(directory: RunDirectory) -> tuple[str, str]:
    """Return the workspace and the id of a run, by where it is."""
    return directory.path.parent.parent.name, directory.path.name


# -- what is looked for --------------------------------------------------------------------------


def _wanted(
    function: Callable[..., Any] | str | None,
    task: str | None,
    status: str | Sequence[str] | None,
    tags: str | Sequence[str],
    where: Where | None,
    *,
    values: bool,
) -> Wanted:
    name = function if isinstance(function, str | None) else str(getattr(function, "__name__", function))
    for text in (name, task):
        if text is not None and not is_storable(text):
            raise FindError(f"{text!r:.100} is no name of a task or a function")
    statuses = [] if status is None else _sequence(status, "status")
    for one in statuses:
        if not isinstance(one, str) or one not in TaskStatus.__members__:
            raise FindError(
                f"{one!r} is no status of a task{did_you_mean(one, TaskStatus)}; there are {', '.join(TaskStatus)}"
            )
    words = tags_of(tags, lambda rule, value: FindError(f"tags {rule}, not {value!r}"))
    return Wanted(name, task, [str(one) for one in statuses], words, conditions.conditions_of(where), values)


def _sequence(given: Any, what: str) -> Sequence[Any]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list | tuple):
        raise FindError(f"{what} is a list, and not {given!r:.100}")
    return given


def _column_name(given: str | Sequence[str]) -> str:
    name = given if isinstance(given, str) else ".".join(map(str, given))
    return result_column(name, _OF_TASKS)


# -- what was found ------------------------------------------------------------------------------


@contextlib.contextmanager
def _making_sense(reader: StoreReader) -> Iterator[None]:
    """Raise `DamagedStoreError` where the database of a run, which may be a stranger's, says what makes no sense."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DamagedStoreError(
            f"{reader.path} holds a task that makes no sense ({error}); it was left as it is", path=reader.path
        ) from None


def _found(reader: StoreReader, wanted: Wanted) -> Iterator[FoundTask]:
    for one in search.find_tasks(reader, wanted):
        check_identifier(one.task_id, "task id")
        TaskStatus(one.status)
        yield one


def _said(one: FoundTask) -> tuple[Any, ...]:
    """Return what every task says of itself, as `_OF_TASKS` names it."""
    tags = dict.fromkeys((*tags_in(one.tags), *tags_in(one.run_tags)))
    return one.iteration, one.task_id, one.status, one.function, ", ".join(tags)


def _values_at(one: FoundTask, paths: Collection[conditions.Path]) -> list[Any]:
    """Return what is at some paths: as `matterstack.storage.search` looks for it, what a task gave first."""
    if not paths:
        return []
    known = _known(one)
    return [_first_at(known, path) for path in paths]


def _known(one: FoundTask) -> list[Any]:
    """Return where a value of a task is looked for, in this order."""
    changed = _data(one.changes, {}).get("arguments", {})
    said = {name: argument["value"] for name, argument in changed.items()}
    return [_gave(one), said, _data(one.arguments), _data(one.parameters)]


def _gave(one: FoundTask) -> dict[str, Any]:
    data = _data(one.data, {})
    return data if isinstance(data, dict) else {"data": data}


def _data(text: str | None, otherwise: Any = None) -> Any:
    return otherwise if text is None else json.loads(text)


def _first_at(known: Iterable[Any], path: conditions.Path) -> Any:
    return next((value for place in known if (value := _inside(place, path)) is not None), None)


def _inside(value: Any, path: conditions.Path) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# -- what no task has ----------------------------------------------------------------------------


def _in_doubt(wanted: Wanted, found: pd.DataFrame) -> list[conditions.Path]:
    """Return paths of conditions at which perhaps no task has anything: what was found does not tell."""
    return [one.path for one in wanted.conditions if found.empty or (one.operator, one.value) == ("exists", False)]


def _nowhere(answers: Answers[Any], paths: Sequence[conditions.Path]) -> dict[str, list[str]]:
    """Return, and log, at which of some paths no task of the runs that answered has anything; and what is near it."""
    directories = [directory for directory, _ in answers.found]
    missing = dict.fromkeys(paths)
    for some in (directories[:_FEW], directories[_FEW:]):  # what any has, mostly the first ones have
        if missing:
            for _, known in ask_each(some, partial(search.known_paths, paths=list(missing))).found:
                missing = {path: None for path in missing if path not in known}
    if not missing:
        return {}

    def ask(reader: StoreReader) -> set[str]:
        with _making_sense(reader):
            return {name for one in search.some_tasks(reader, _MOST_LOOKED_AT) for name in _names_in(one)}

    looks = [look for _, look in ask_each(directories, ask).found]
    if not any(looks):  # there are no tasks, or none that has anything
        return {}
    names = sorted({name for look in looks for name in look if len(name) <= _LONGEST})[:_MOST_NAMES]
    nowhere = {}
    for name in map(conditions.written, missing):
        nowhere[name] = get_close_matches(name[:_LONGEST], names)
        log.warning("%s", neutral(f"no task has anything at {name:.100}{did_you_mean(name[:_LONGEST], names)}"))
    return nowhere


def _names_in(one: FoundTask) -> Iterator[str]:
    """Yield what a path could say of a task."""
    for place in _known(one):
        yield from _paths_in(place, 3)


def _paths_in(place: Any, depth: int) -> Iterator[str]:
    if isinstance(place, dict) and depth:
        for key, value in place.items():
            name = conditions.written((key,))
            yield name
            yield from (f"{name}.{rest}" for rest in _paths_in(value, depth - 1))


# -- files ---------------------------------------------------------------------------------------


def _digits(file: str | os.PathLike[str]) -> str:
    """Return the SHA-256 that is looked for, or how it begins."""
    if isinstance(file, str) and _DIGITS.match(file.lower()):
        return file.lower()
    if not isinstance(file, str | PurePath) or "\0" in str(file):
        raise FindError(f"a file is named by its SHA-256, or by its path, and not by {file!r:.100}")
    path = Path(file)
    try:
        if not path.is_file():
            raise FindError(f"{file} is no file, and not the first 12 digits of a SHA-256, or more")
        digest = hashlib.sha256()
        with open(path, "rb") as content:
            for chunk in _chunks(content.read):
                digest.update(chunk)
    except OSError as error:
        raise FindError(f"{file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk
