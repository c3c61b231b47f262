"""A rehearsal of one attempt: its directory as a run would make it, in a temporary place that is gone at once."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matterstack.core.attempt_files import SHOWN, TABLE
from matterstack.core.attempts import Attempt, LiveAttempt, Refused
from matterstack.core.calls import VALUE, VALUES
from matterstack.core.snapshot import RunRecord, Upstream
from matterstack.core.states import AttemptStatus, RunStatus, TaskStatus
from matterstack.core.strict_json import to_text
from matterstack.core.task import FromTask, Task, file_to_json
from matterstack.errors import InvalidTaskError
from matterstack.files import needing_disk
from matterstack.functions.workflow import Workflow
from matterstack.operators.base import Operator
from matterstack.orchestration.execute import build
from matterstack.orchestration.findings import check_task
from matterstack.orchestration.intake import Intake
from matterstack.orchestration.session import Session, Settings
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.cache import Cache
    from matterstack.orchestration.cache_explained import CacheExplanation

#: Whose attempt it is said to be; that of a real one is drawn at random.
TOKEN = f"ms-{'0' * 28}"
_SHOWN_BYTES = 100_000


class RehearsedFile(NamedTuple):
    """A file of an attempt's directory.

    Attributes
    ----------
    name : str
        Where in the directory.
    size : int or None
        In bytes; None where what a task before leaves is meant.
    origin : str
        Who writes it, or where it is taken from.
    text : str or None
        What is in it, where that is known, is text, and is no more than 100 kB.
    """

    name: str
    size: int | None
    origin: str
    text: str | None


def rehearse(task: Task, workflow: Workflow, operators: Mapping[str, Operator]) -> list[RehearsedFile]:
    """Make the directory of a task's first attempt, and return what is in it.

    What tasks before will leave is not known: an empty file stands for each, and ``inputs.json`` tells of no data.

    Parameters
    ----------
    task : Task
    workflow : Workflow
        That it is of.
    operators : mapping of str to Operator

    Raises
    ------
    WorkflowError
        The task cannot be run as it stands.
    InvalidTaskError
        Its directory cannot be made.
    DiskError
        There is no room for it.
    """
    for name, problem in workflow.problems(operators):
        if name == task.task_id:
            raise problem
    with (
        needing_disk(f"no directory of {task.task_id} can be made in {tempfile.gettempdir()}", "or set TMPDIR"),
        tempfile.TemporaryDirectory(prefix="matterstack-preview-") as base,
    ):
        attempt = _made(task, workflow, operators, RunDirectory(Path(base)))
        paths = sorted(path for path in attempt.directory.rglob("*") if not path.is_dir())
        return [_described(path, attempt) for path in paths]


def would_be_cached(
    task: Task, workflow: Workflow, operators: Mapping[str, Operator], cache: Cache | None
) -> CacheExplanation:
    """Return whether a cache knows the result of a task; of one that waits for others nobody can tell yet.

    Parameters
    ----------
    task : Task
    workflow : Workflow
    operators : mapping of str to Operator
    cache : Cache or None
        That of the run; None where none is given, and a run would use that of its workspace.
    """
    from matterstack.orchestration.cache_explained import CacheExplanation, explain_cache

    if task.upstream:
        return CacheExplanation(False, f"{task.task_id} cannot be looked for: its inputs are not there yet")
    if cache is None and task.cache:
        return CacheExplanation(False, f"where {task.task_id} would be looked for is told by preview(..., cache=)")
    with tempfile.TemporaryDirectory(prefix="matterstack-preview-") as base:
        directory = RunDirectory(Path(base))
        specification = _checked(task, workflow, operators, directory)
        store = SQLiteStateStore(directory.state)
        try:
            at = time.time()
            with store.transaction():
                store.create_run(RunRecord("preview", "preview", RunStatus.PENDING, None, at, 0, "{}"))
                store.add_iteration(0, at, [(task, (), specification), *_takers(task, workflow)])
            session = Session(directory, store, operators, Settings(), given_cache=cache)
            session.trust_made_here()
            return explain_cache(session, task.task_id)
        finally:
            store.close()


def _takers(task: Task, workflow: Workflow) -> list[tuple[Task, Sequence[str], str]]:
    """Return the tasks that wait for a task, with what they take or show of others."""
    found: list[tuple[Task, Sequence[str], str]] = []
    for other in workflow:
        if task.task_id in other.upstream:
            files = {path: file_to_json(one) for path, one in other.files.items() if isinstance(one, FromTask)}
            shown = [{"task_id": task_id, "path": path} for task_id, path in other.shown]
            found.append((other, (task.task_id,), to_text({"files": files, "show": shown})))
    return found


def _checked(task: Task, workflow: Workflow, operators: Mapping[str, Operator], directory: RunDirectory) -> str:
    """Return what a run keeps of a task, with its files taken into a directory."""
    checked = check_task(task, workflow, operators, Intake(directory, None))
    for finding in checked.findings:
        if finding.error is not None:
            raise finding.error
    return to_text(checked.specification)


def _made(task: Task, workflow: Workflow, operators: Mapping[str, Operator], directory: RunDirectory) -> Attempt:
    specification = _checked(task, workflow, operators, directory)
    live = LiveAttempt(
        1, 1, 0, task.task_id, 1, AttemptStatus.SUBMITTING, TOKEN, task.operator, None, None, time.time(), None,
        TaskStatus.SUBMITTED, 0, task.retries, specification,
    )  # fmt: skip
    store = SQLiteStateStore(directory.state)
    try:
        session = Session(directory, store, operators, Settings())
        attempt = session.attempt(live)
        upstream = [_stand_in(session, workflow[name], task) for name in task.upstream]
        built = build(session, operators[task.operator], attempt, upstream, may_exist=False)
    finally:
        store.close()
    if isinstance(built, Refused | str):
        said = built.reason if isinstance(built, Refused) else built
        raise InvalidTaskError(f"task {task.task_id!r}: {said}", task_id=task.task_id)
    return attempt


def _stand_in(session: Session, before: Task, task: Task) -> Upstream:
    """Leave an empty file for each that a task takes of one before, and return what is said of that."""
    home = session.directory.attempt(before.operator, 0, before.task_id, 1) / session.results_folder(before.operator)
    taken = [*task.files.values(), *(FromTask(name, path) for name, path in task.shown)]
    paths = [one.path for one in taken if isinstance(one, FromTask) and one.is_here and one.task_id == before.task_id]
    for path in [*paths, *([VALUE] if before.call else [])]:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).touch()
    return Upstream(before.task_id, TaskStatus.COMPLETED, 1, None, before.operator)


def _described(path: Path, attempt: Attempt) -> RehearsedFile:
    name = path.relative_to(attempt.directory).as_posix()
    task, inner = attempt.task, name.removeprefix("inputs/")
    size = path.lstat().st_size
    later = _from_before(task, inner)
    if later is not None:
        return RehearsedFile(name, None, later, None)
    text = None
    if size <= _SHOWN_BYTES and not path.is_symlink():
        with contextlib.suppress(UnicodeDecodeError):
            text = path.read_bytes().decode()
    return RehearsedFile(name, size, "the task" if inner in task.files else _writer(name), text)


def _from_before(task: Task, name: str) -> str | None:
    """Return which task before a file is taken from; None where it is not."""
    source = task.files.get(name)
    if isinstance(source, FromTask) and source.is_here:
        return f"{source.path} of {source.task_id}"
    folder, _, rest = name.partition("/")
    maker, _, path = rest.partition("/")
    if folder in (SHOWN, VALUES) and maker in task.upstream and (folder == SHOWN or task.call):
        return f"{path} of {maker}"
    return None


def _writer(name: str) -> str:
    known = [entry for entry in TABLE if name == entry.name or (entry.name[-1] == "/" and name.startswith(entry.name))]
    last = max(known, key=lambda entry: len(entry.name), default=None)
    return "the run" if last is None else f"{last.writer}: {last.meaning}"
