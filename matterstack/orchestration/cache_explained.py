"""Explanations of the cache: whether a result was known from before, and in what it differs from the nearest one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matterstack.cache import Entry
from matterstack.core.amended import amended
from matterstack.core.attempt_files import KEY
from matterstack.core.attempts import Attempt, LiveAttempt
from matterstack.core.cache_keys import Key, differences
from matterstack.core.snapshot import ReadyTask
from matterstack.core.states import TERMINAL_TASK, AttemptStatus, TaskStatus
from matterstack.core.strict_json import parse_json
from matterstack.core.text import neutral
from matterstack.errors import AttemptFailedError, InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside
from matterstack.orchestration import caching
from matterstack.orchestration.inputs import place_inputs
from matterstack.orchestration.naming import find_latest
from matterstack.orchestration.next_attempts import made_with
from matterstack.orchestration.session import Session
from matterstack.storage.rows import TaskRow

_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class CacheExplanation:
    """Whether a result is known from before, and why not.

    Attributes
    ----------
    hit : bool
        Whether it was taken from the cache, or would be now.
    why : str
        In plain words.
    differs : sequence of str
        In what it differs from the nearest result that is known: ``"helper strained changed"``.
    run, attempt : str or None
        Whose that nearest result is, or the one that was taken.
    key : str or None
        Its own key.
    """

    hit: bool
    why: str
    differs: Sequence[str] = ()
    run: str | None = None
    attempt: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        lines = [self.why, *(f"- {one}" for one in self.differs)]
        return neutral("\n".join(lines))


def explain_cache(session: Session, name: str, iteration: int | None = None) -> CacheExplanation:
    """Return whether the result of a task is known from before; see `Run.explain_cache`."""
    wanted, task_id = find_latest(session.reader, name, iteration)
    row = session.reader.task(wanted, task_id)
    assert row is not None
    attempt = _attempt(session, row)
    if session.caches(attempt.task) is False:
        what = "nothing but commands and functions is" if attempt.task.command is None else "nobody asked for that"
        return CacheExplanation(False, f"{wanted}.{task_id} is not cached: {what}; cache=True of the task does")
    to_come = row.status == TaskStatus.PENDING and row.attempt > 0  # what is said is of the attempt that comes
    if row.cached is not None and not to_come:
        run, _, which = row.cached.partition(" ")
        return CacheExplanation(True, f"it was taken from {which} of {run}", (), run, which)
    if not to_come and (key := _noted(session, attempt)) is not None:
        me = f"{session.reader.run().run_id} {attempt.name}"
        lacking = caching.taken_of(session, attempt, attempt.task.outputs)
        why = f"it was not taken: {lacking}" if lacking else "it was not known when it was submitted"
        why += _not_kept(session, row, attempt)
        return _compared(key, session.cache.nearest(key, me), why)
    if not session.is_trusted():
        return CacheExplanation(
            False, "to know would ask the Python that the run names, and the run is not trusted here"
        )
    if row.attempt and row.status in TERMINAL_TASK:
        computed = _computed(session, row, attempt)
        why = computed if isinstance(computed, str) else "its key was not noted: nothing of it is kept"
        return CacheExplanation(False, f"it was not looked for: {why}")
    return _now(session, row, attempt)


def _not_kept(session: Session, row: TaskRow, attempt: Attempt) -> str:
    """Return in words that a result is too large to be kept."""
    try:
        place = attempt.directory / session.results_folder(row.operator)
        size = sum(caching.sizes_of(place, attempt.task).values()) if row.status == TaskStatus.COMPLETED else 0
    except (OSError, UnsafeFileError):
        return ""
    most = caching.MOST_KEPT_BYTES
    return f", and is not kept, since it left {size} bytes, more than {most >> 30} GiB" if size > most else ""


def _now(session: Session, row: TaskRow, attempt: Attempt) -> CacheExplanation:
    key = _computed(session, row, attempt)
    if isinstance(key, str):
        return CacheExplanation(False, f"it cannot be looked for: {key}")
    entry = session.cache.find(key)
    if entry is not None:
        run, which = str(entry.told["run"]), str(entry.told["attempt"])
        refused = caching.why_not_taken(session, attempt, entry)
        said = f"{which} of {run} is not taken: {refused}" if refused else f"it would be taken from {which} of {run}"
        return CacheExplanation(refused is None, said, (), run, which, key.digest)
    return _compared(key, session.cache.nearest(key), "it is not known")


def _compared(key: Key, nearest: Entry | None, why: str) -> CacheExplanation:
    if nearest is None:
        return CacheExplanation(False, f"{why}: nothing of {key.name} is", (), None, None, key.digest)
    differs = differences(key.parts, nearest.parts)
    run, which = str(nearest.told["run"]), str(nearest.told["attempt"])
    if not differs:
        why = f"{why}; {which} of {run} has given the same since"
    else:
        why = f"{why}; from the nearest, {which} of {run}, it differs:"
    return CacheExplanation(False, why, differs, run, which, key.digest)


def _noted(session: Session, attempt: Attempt) -> Key | None:
    """Return the key that the attempt was submitted with."""
    record = attempt.record
    try:
        home = session.home(record.operator, record.iteration, record.task_id, record.attempt)
        said = parse_json(read_inside(home, KEY, _MOST_BYTES))
        return Key(str(said["name"]), {kind: dict(part) for kind, part in said["parts"].items()})
    except (OSError, UnsafeFileError, InvalidJsonError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _attempt(session: Session, row: TaskRow) -> Attempt:
    """Return the last attempt at a task, or the one to come."""
    spec, number = session.reader.specification(row.id), max(row.attempt, 1)
    if row.status == TaskStatus.PENDING and row.attempt:
        number, spec = row.attempt + 1, amended(spec, _changes(session, row, spec))
    record = LiveAttempt(
        0, row.id, row.iteration, row.task_id, number, AttemptStatus.SUBMITTING, "", row.operator, None, None,
        time.time(), None, TaskStatus.SUBMITTED, 0, 0, spec,
    )  # fmt: skip
    return session.attempt(record)


def _changes(session: Session, row: TaskRow, spec: str) -> str | None:
    """Return what the next attempt will be made with that the plan says otherwise."""
    found = session.reader.find_task(row.iteration, row.task_id)
    assert found is not None
    _, _, failures, retries = found
    changes = session.reader.amendment(row.id)
    task = ReadyTask(row.id, row.task_id, row.operator, row.attempt, failures, retries, spec, changes)
    return made_with(session, task, row.iteration)


def _computed(session: Session, row: TaskRow, attempt: Attempt) -> Key | str:
    """Return the key that an attempt would have now, in a folder that is not the run's."""
    operator = session.operators.get(row.operator)
    if operator is None:
        return f"the operator {row.operator!r} was not given"
    if row.unmet:
        return "its inputs are not there yet"
    (upstream,) = session.reader.upstream_of([row.id])
    with tempfile.TemporaryDirectory(prefix="matterstack-") as folder:
        staged = Attempt(attempt.record, folder, attempt.name)
        Path(folder, attempt.name).mkdir()
        try:
            place_inputs(session, staged, upstream)
            return caching.key_of(session, operator, staged, upstream)
        except (AttemptFailedError, UnsafeFileError, OSError) as error:
            return str(error)
