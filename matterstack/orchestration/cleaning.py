"""Cleaning: removing what nobody needs any more from the directories of attempts, and the record of it."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.changes import Change, Cleaned, TaskChange
from matterstack.core.scratch import may_be_removed
from matterstack.core.states import TERMINAL_RUN, RunStatus, TaskEvent
from matterstack.core.strict_json import to_text
from matterstack.core.task import LAST
from matterstack.core.text import format_time, neutral, storable
from matterstack.crash_points import reach
from matterstack.errors import RunStatusError, UnsafeFileError
from matterstack.files import remove_inside, room_bytes, walk_inside
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    import pandas as pd

    from matterstack.storage.rows import OverAttempt

log = logging.getLogger("matterstack.cleaning")

SCRATCH, EARLIER = "scratch", "earlier attempt"
_MOST_NAMES = 100
_SHOWN = 20


class Removable(NamedTuple):
    """What may be removed of an attempt.

    Attributes
    ----------
    attempt : OverAttempt
    why : str
        That it is scratch, or an earlier attempt.
    paths : tuple of str
        Below the directory of the attempt; an empty one for all of it.
    files, bytes : int
        How many files go, and how much room they take; a file that has another name elsewhere takes none here.
    """

    attempt: OverAttempt
    why: str
    paths: tuple[str, ...]
    files: int
    bytes: int


class Cleaning(Sequence[Removable]):
    """What `Run.clean` would remove, or has removed; shown as a table.

    Parameters
    ----------
    found : sequence of Removable
    left : sequence of str
        What cannot be removed, and why.
    done : bool
        Whether it is removed.
    """

    def __init__(self, found: Sequence[Removable], left: Sequence[str], *, done: bool) -> None:
        self._found = tuple(found)
        self.left = tuple(left)
        self.done = done

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    @property
    def files(self) -> int:
        """How many files."""
        return sum(one.files for one in self._found)

    @property
    def bytes(self) -> int:
        """How much room, in bytes."""
        return sum(one.bytes for one in self._found)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per attempt: why, which files of it, how many, and how many bytes."""
        import pandas as pd

        rows = [
            (one.attempt.name, one.attempt.operator, one.why, _named(one.paths), one.files, one.bytes)
            for one in self._found
        ]
        columns = ["attempt", "operator", "why", "what", "files", "bytes"]
        return pd.DataFrame(rows, columns=columns).set_index("attempt")

    def __repr__(self) -> str:
        lines = [self._headline()]
        lines += [f"  {one.attempt.name}: {one.why}, {_amount(one.files, one.bytes)}" for one in self._found[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"  and {len(self) - _SHOWN} more in .frame")
        return neutral("\n".join([*lines, *(f"  left: {text}" for text in self.left)]))

    def _repr_html_(self) -> str:
        from html import escape

        left = "".join(f"<li>{escape(neutral(text))}</li>" for text in self.left)
        table = self.frame.head(200).to_html(escape=True) if self._found else ""
        return f"<div><p>{escape(self._headline())}</p>{table}<ul>{left}</ul></div>"

    def _headline(self) -> str:
        if not self._found:
            return "There is nothing to remove."
        amount = _amount(self.files, self.bytes)
        if self.done:
            return f"Removed of {len(self)} attempts: {amount}."
        return f"Of {len(self)} attempts {amount} can be removed; nothing was. The same with do=True removes them."


def _named(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:10])
    return "all" if paths == ("",) else f"{shown} and {len(paths) - 10} more" if len(paths) > 10 else shown


def _amount(files: int, size: int) -> str:
    """Return a number of files and of bytes in words.

    Examples
    --------
    >>> _amount(1, 3 * 2**30), _amount(2, 100)
    ('1 file, 3.00 GiB', '2 files, 100 bytes')
    """
    count = "1 file" if files == 1 else f"{files} files"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{count}, {size / factor:.2f} {unit}"
    return f"{count}, {size} bytes"


# -- by a tick ------------------------------------------------------------------------------


def remove_scratch(
    session: Session, store: SQLiteStateStore, changes: Sequence[Change], iteration: int, at: float
) -> None:
    """Remove the scratch of tasks that, with all that depends on them, these changes have completed.

    Parameters
    ----------
    session : Session
    store : SQLiteStateStore
        Under the run's lock, with the changes on disk.
    changes : sequence of Change
    iteration : int
        The current one.
    at : float
        Seconds since the Unix epoch.
    """
    over = [one.task for one in changes if isinstance(one, TaskChange) and one.event is TaskEvent.COMPLETE]
    if over and store.has_scratch(iteration) and (due := store.scratch_after(over)):
        _remove(session, store, *_scratch_in(session, due), at)


def remove_scratch_of_iteration(session: Session, store: SQLiteStateStore, iteration: int, at: float) -> None:
    """Remove all scratch of an iteration that is over, also what a tick that was killed has left."""
    if not store.has_scratch(iteration):
        return
    if due := [one for one in store.scratch_of(iteration) if one.status == "COMPLETED"]:
        _remove(session, store, *_scratch_in(session, due), at)


# -- by a person ----------------------------------------------------------------------------


def clean(session: Session, *, earlier_attempts: bool, scratch: bool, do: bool) -> Cleaning:
    """Find, and on somebody's word remove, what can be made again; see `Run.clean`.

    Raises
    ------
    RunStatusError
        Something of the run is under way.
    """
    if not do:
        return Cleaning(*_removable(session, session.reader, earlier_attempts, scratch), done=False)
    with session.locked() as store:
        found, left = _removable(session, store, earlier_attempts, scratch)
        return Cleaning(*_remove(session, store, found, left, time.time(), by_person=True), done=True)


def _removable(
    session: Session, reader: StoreReader, earlier_attempts: bool, scratch: bool
) -> tuple[list[Removable], list[str]]:
    if live := reader.live_attempts():
        under_way = f"{len(live)} attempts are under way, as {live[0].name}"
        raise RunStatusError(f"{under_way}: nothing was removed; wait for them, or cancel the run")
    found: list[Removable] = []
    left: list[str] = []
    if earlier_attempts:
        for one in _earlier(session, reader):
            _measure(session, one, EARLIER, None, found, left)
    if scratch:
        run = reader.run()
        kept = {one.attempt.id for one in found}
        ended = run.status in TERMINAL_RUN and run.status is not RunStatus.FAILED
        iterations = range(run.iteration + ended)
        due = [one for iteration in iterations for one in reader.scratch_of(iteration)]
        if not ended:
            tasks = [task.id for task in reader.tasks() if task.iteration == run.iteration]
            due += reader.scratch_after(tasks)
        more, others = _scratch_in(session, [one for one in due if one.id not in kept])
        found, left = [*found, *more], [*left, *others]
    return found, left


def _earlier(session: Session, reader: StoreReader) -> list[OverAttempt]:
    """Return the earlier attempts that nobody names, at what a machine did: what a person gave is not made again."""
    named = set()
    for spec in reader.specifications_to_come():
        said = json.loads(spec)
        sources = [*said.get("files", {}).values(), *said.get("call", {}).get("values", [])]
        named |= {
            (one.get("iteration"), one.get("task_id"), one.get("attempt")) for one in sources if isinstance(one, dict)
        }
    return [
        one
        for one in reader.earlier_attempts()
        if (operator := session.operators.get(one.operator)) is not None
        and not operator.traits.by_people
        and (one.iteration, one.task_id, one.attempt) not in named
        and (None, one.task_id, LAST) not in named
    ]


def _scratch_in(session: Session, attempts: Iterable[OverAttempt]) -> tuple[list[Removable], list[str]]:
    found: list[Removable] = []
    left: list[str] = []
    for one in attempts:
        _measure(session, one, SCRATCH, _patterns(one.spec), found, left)
    return found, left


def _patterns(spec: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a task names as scratch, and as outputs; a database may say anything."""
    said = json.loads(spec)
    given = [said.get(name) if isinstance(said, dict) else None for name in ("scratch", "outputs")]
    scratch, outputs = (tuple(map(str, one)) if isinstance(one, list) else () for one in given)
    return scratch, outputs


def _measure(
    session: Session,
    attempt: OverAttempt,
    why: str,
    scratch: tuple[Sequence[str], Sequence[str]] | None,
    found: list[Removable],
    left: list[str],
) -> None:
    """Note what may go of an attempt; all of it, unless it is scratch that is looked for."""
    folder = session.results_folder(attempt.operator) if scratch is not None else ""
    place = f"operators/{attempt.operator}/{attempt.name}" + (f"/{folder}" if folder else "")
    files = size = 0
    tops: dict[str, None] = {}
    try:
        device = os.lstat(session.directory.path).st_dev
        for path, status in walk_inside(session.directory.path, place):
            if status.st_dev != device:
                raise UnsafeFileError(f"{path} is another file system")
            if scratch is not None and not may_be_removed(*scratch, path):
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if scratch is not None and tops.keys().isdisjoint(map(str, PurePosixPath(path).parents)):
                tops[path] = None
            files += not is_folder
            size += room_bytes(status) if status.st_nlink == 1 or is_folder else 0
    except FileNotFoundError:
        return
    except (OSError, UnsafeFileError) as error:
        left.append(f"{attempt.name} cannot be looked at: {error}")
        return
    if scratch is None:
        found.append(Removable(attempt, why, ("",), files, size))
    elif tops:
        paths = tuple(f"{folder}/{path}" if folder else path for path in tops)
        found.append(Removable(attempt, why, paths, files, size))


# -- the removing ---------------------------------------------------------------------------


def _remove(
    session: Session,
    store: SQLiteStateStore,
    found: Sequence[Removable],
    left: Sequence[str],
    at: float,
    *,
    by_person: bool = False,
) -> tuple[list[Removable], list[str]]:
    """Write down what goes, and then remove it: what is gone was said to go, whenever this is killed."""
    if not found:
        return [], list(left)
    with store.act() if by_person else store.transaction():
        store.note_cleaned([_cleaned(one, at) for one in found])
    reach("clean.noted")
    gone, troubles = [], list(left)
    for one in found:
        place = f"operators/{one.attempt.operator}/{one.attempt.name}"
        try:
            for path in one.paths:
                remove_inside(session.directory.path, f"{place}/{path}" if path else place)
                reach("clean.removed")
            gone.append(one)
        except (OSError, UnsafeFileError) as error:
            troubles.append(f"{one.attempt.name} cannot be removed, or not all of it: {error}")
            log.warning("%s", troubles[-1])
    return gone, troubles


def _cleaned(one: Removable, at: float) -> Cleaned:
    data = {
        "what": one.why,
        "files": one.files,
        "bytes": one.bytes,
        "paths": [storable(path) for path in one.paths[:_MOST_NAMES]],
    }
    reason = f"{one.why}: {_amount(one.files, one.bytes)} removed"
    attempt = one.attempt
    return Cleaned(attempt.id, attempt.task, attempt.status, at, reason, to_text(data))


def why_gone(reader: StoreReader, iteration: int, task_id: str, attempt: int, path: str) -> str | None:
    """Return, as the end of a sentence, that and when a file of an attempt was removed; None where it was not.

    Parameters
    ----------
    reader : StoreReader
    iteration, task_id, attempt
        Which attempt.
    path : str
        Of the file that is not there, from where the results are.
    """
    for at, data in reversed(reader.cleaned(iteration, task_id, attempt)):
        what = json.loads(data).get("what")
        if what == EARLIER:
            return f"all of that attempt was removed on {format_time(at)}"
        found = reader.find_task(iteration, task_id)
        if found is not None and may_be_removed(*_patterns(reader.specification(found[0])), path):
            return f"it was scratch, and was removed on {format_time(at)}"
    return None
