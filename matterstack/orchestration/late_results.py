"""Results of a kit that come after its attempt has failed, taken in on a person's word.

The failed attempt stays what it is. Its results become those of the next attempt of the task, which is made if there is
none: a kit with the same inputs, that nobody has to carry anywhere.
"""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matterstack.core.amended import amended
from matterstack.core.states import AttemptStatus, RunStatus, TaskStatus
from matterstack.core.task import Task
from matterstack.errors import KitError, RunStatusError, UnknownTaskError
from matterstack.files import link_inside, read_inside
from matterstack.orchestration import actions, tick
from matterstack.orchestration.kits import kits_of, locked_soon, staging_for
from matterstack.orchestration.mending import Mend
from matterstack.orchestration.session import Session

if TYPE_CHECKING:
    from matterstack.operators.requests.kit_archives import Kit
    from matterstack.operators.requests.kit_results import Came

_MANIFEST_BYTES = 50_000_000


class _Failed(NamedTuple):
    """The attempt whose results are taken: its task's row, its kit, and its token."""

    task: int
    kit: Kit
    token: str


def take_late(session: Session, task_id: str, archive: Path | None, attempt: int | None, max_gib: float) -> str:
    """Take in results of an attempt that failed; see `matterstack.run.Run.take_late`.

    Returns
    -------
    str
        The attempt that has them now.
    """
    from matterstack.operators.requests.kit_archives import bring_home, tells_end, unpack
    from matterstack.operators.requests.kit_results import look
    from matterstack.operators.requests.kit_sums import Sums

    session.require_trust()  # the next attempt is made by a step
    with ExitStack() as stack:
        with session.locked():  # where somebody steps the run, that is said now and not when all is unpacked
            failed = _find_failed(session, task_id, attempt)
            staging = stack.enter_context(staging_for(session))
        source = failed.kit.directory
        if archive is not None:
            if not archive.is_file():
                raise KitError(f"there is no file {archive}")
            kits = kits_of(session)
            known = {**kits.over, **{token: kit.directory for token, kit in kits.waiting.items()}}
            found = unpack(archive, {failed.token: failed.kit}, known, staging, max_gib).results.get(failed.token)
            if found is None:
                raise KitError(f"{archive} holds no results of the kit {failed.kit.directory.name}")
            source = found
        came = look(source, failed.token, failed.kit.outputs, Sums(math.inf), time.time())
        _check_whole(came, failed.kit.directory.name, source if archive is None else archive)
        ready = staging / "ready"
        _gather(source, ready, came)
        if session.reader.find_task(session.reader.run().iteration, task_id) is None:
            raise RunStatusError(f"the iteration of {task_id} is over, so its results are not taken any more")
        token, home = _next_kit(session, failed, task_id)
        _check_inputs(failed.kit.directory, home)
        said = {"token": token, "status": "COMPLETED", "exit_code": came.ending.exit_code}
        said["of"] = failed.kit.directory.name
        (ready / "status.json").write_bytes(json.dumps(said).encode() + b"\n")
        with locked_soon(session):
            if token not in kits_of(session).waiting:
                raise RunStatusError(f"{home.name} waits no more: somebody was quicker; run.tasks tells how it stands")
            if tells_end(home, token):
                raise RunStatusError(f"{home.name} has results of its own: run.step() takes them")
            bring_home(ready, home)
    return home.name


def _find_failed(session: Session, task_id: str, attempt: int | None) -> _Failed:
    """Return the last attempt of a task that failed, or the one that is named."""
    from matterstack.operators.requests.kit_archives import Kit

    reader = session.reader
    run = reader.run()
    if run.status not in (RunStatus.RUNNING, RunStatus.FAILED):
        more = ": run.resume() first" if run.status is RunStatus.PAUSED else ""
        raise RunStatusError(f"the run is {run.status}, and late results are taken by one that goes on{more}")
    found = reader.find_task(run.iteration, task_id)
    if found is None:
        raise UnknownTaskError(
            f"there is no task {task_id!r} in iteration {run.iteration}; run.tasks lists them", task_id=task_id
        )
    kits = kits_of(session)
    rows = {
        row.attempt: row
        for row in reader.attempts_of_task(found[0])
        if row.token in kits.failed and attempt in (None, row.attempt)
    }
    if not rows:
        which = "attempt" if attempt is None else f"attempt {attempt}"
        raise RunStatusError(
            f"{task_id} has no {which} with a kit that failed, so there is nothing that came too late; "
            "what waits is taken by run.import_kits() or by the next step"
        )
    if found[1] not in (TaskStatus.FAILED, TaskStatus.SUBMITTED, TaskStatus.PENDING):
        raise RunStatusError(f"{task_id} is {found[1]}, so no other results of it are taken")
    row = rows[max(rows)]
    task = Task.from_json({"task_id": task_id, **json.loads(reader.specification(found[0]))})
    return _Failed(found[0], Kit(kits.over[row.token], tuple(task.outputs)), row.token)


def _check_whole(came: Came, name: str, where: Path) -> None:
    if came.ending.status == "FAILED":
        why = "status.json says FAILED"
    elif came.problem is not None:
        why = came.problem.text
    elif not came.anything:
        why = "there is no output/"
    else:
        return
    raise KitError(f"the results of {name} in {where} are not whole: {why}; nothing was changed")


def _gather(source: Path, ready: Path, came: Came) -> None:
    """Put results together in a new folder, under the names that they had; they are linked where that is possible."""
    from matterstack.operators.requests.kit_results import OUTPUT, scan

    names = [f"{OUTPUT}/{name}" for name in scan(source / OUTPUT).files]
    names += [name for name in ("output.sha256", "slurm.out") if os.path.isfile(source / name)]
    for name in names:
        inner = name.removeprefix(f"{OUTPUT}/")
        target = ready / (f"{OUTPUT}/{came.names[inner]}" if inner in came.names else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        link_inside(source, name, target)


def _as_it_was(session: Session, failed: _Failed, task_id: str) -> Mend | None:
    """Return the word with which the next attempt begins where the failed one did, and not where that has ended."""
    spec = session.reader.specification(failed.task)
    changes = next(row.changes for row in session.reader.attempts_of_task(failed.task) if row.token == failed.token)
    then = Task.from_json({"task_id": task_id, **json.loads(amended(spec, changes))})
    said = json.loads(session.reader.amendment(failed.task) or "{}").get("files", {})  # a word of a person counts
    files = {path: then.files[path] for path in then.restart or () if path in then.files and path not in said}
    return Mend(files) if files else None


def _next_kit(session: Session, failed: _Failed, task_id: str) -> tuple[str, Path]:
    """Return token and directory of the task's attempt that waits; it is made where there is none."""
    task = failed.task
    for last in (False, True):
        for live in session.reader.live_attempts():
            if live.task == task and live.status is AttemptStatus.WAITING:
                return live.token, session.directory.operator(live.operator) / live.name
        if last:
            break
        found = session.reader.find_task(session.reader.run().iteration, task_id)
        if found is not None and (found[1] is TaskStatus.FAILED or session.reader.waits(task)):
            actions.retry(session, [task_id], mend=_as_it_was(session, failed, task_id))
        tick.step(session)
    raise RunStatusError(
        f"the next kit of {task_id}, which shall have the results, is not made yet: run.explain() tells why; once it "
        "waits, take them again"
    )


def _check_inputs(before: Path, now: Path) -> None:
    """Refuse results that were made from other inputs than the task has now."""
    old, new = (json.loads(read_inside(kit, "MANIFEST.json", _MANIFEST_BYTES))["sha256"] for kit in (before, now))
    for name in sorted(old.keys() | new.keys()):
        if name.startswith("inputs/") and old.get(name) != new.get(name):
            raise KitError(
                f"{before.name} was made from other inputs than {now.name}: {name} differs, so its results are not "
                f"those of the task any more; {now.name} waits for its own"
            )
