"""Examination of a run: who holds it, its database, its trust, what steps it, and the limits that it waits for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from matterstack.core.diagnosis import Diagnosis, weak, well, wrong
from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.core.text import format_time
from matterstack.errors import DamagedStoreError, MatterstackError, UnsafeFileError
from matterstack.orchestration import environment, trusting
from matterstack.orchestration.limits_explained import waits, why_waiting
from matterstack.orchestration.opening import open_session
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.run_lock import describe_holder, is_held, read_holder

_MOST_LISTED = 20
_BACKUP = "keep a copy of the directory as it is, and get state.sqlite from a backup; see docs/store.md"
_AS_IT_SAYS = "what it says; docs/troubleshooting.md#storeerror says more"


def examine_run(path: Path) -> list[Diagnosis]:
    """Look at all that a step of a run needs.

    Parameters
    ----------
    path : pathlib.Path
        The run's directory.

    Raises
    ------
    RunNotFoundError
        There is no run at the path.
    """
    directory = RunDirectory.at(path)
    found = [_lock(directory)]
    try:
        reader = StoreReader(directory.state)
        contradictions = reader.check()
    except MatterstackError as error:
        return [*found, wrong("database", str(error), _BACKUP if isinstance(error, DamagedStoreError) else _AS_IT_SAYS)]
    found += [
        wrong("database", text, "look whether somebody has written into it; matterstack check says the same")
        for text in contradictions[:_MOST_LISTED]
    ] or [well("database", "it agrees with itself")]
    if reader.run().status in TERMINAL_RUN:
        return [*found, well("run", f"it is {reader.run().status}, and needs nothing more")]
    return [*found, _trust(directory, reader), *_session(directory, reader)]


def _lock(directory: RunDirectory) -> Diagnosis:
    holder = read_holder(directory.lock)
    try:
        if is_held(directory.lock):
            return well("lock", describe_holder(holder))
    except FileNotFoundError:
        if os.access(directory.path, os.W_OK):
            return well("lock", "there is none yet, as in an export: the first step makes it")
        return weak("lock", "there is none, and you may not write here", "copy the run to where you may, to step it")
    except (PermissionError, UnsafeFileError) as error:
        return weak("lock", f"run.lock cannot be opened: {error}", "the next step makes it, where you may write there")
    except OSError as error:
        return wrong("lock", f"the file system does not lock: {error.strerror}", "see docs/filesystems.md")
    last = f"; the last step was begun by pid {holder.get('pid')} on {holder.get('host')}" if holder else ""
    return well("lock", f"nobody holds it{last}")


def _trust(directory: RunDirectory, reader: StoreReader) -> Diagnosis:
    if trusting.is_trusted(directory):
        return well("trust", "you may step it")
    why = f"you have neither made it here nor trusted it. A step would run {trusting.would_run(directory, reader)}"
    return wrong("trust", why, f"if you know where it comes from: matterstack trust {directory.path}")


def _session(directory: RunDirectory, reader: StoreReader) -> Iterator[Diagnosis]:
    yield from _environment(directory)
    try:
        session = open_session(directory.path, None, None)
    except (MatterstackError, ImportError) as error:
        why = f"it cannot be opened with what config.json says: {error}"
        yield wrong("configuration", why, "mend config.json from a backup, or install what is missing")
        return
    for name in session.missing:
        why = f"{name} is one of your own, or holds code: it is not kept with the run, and its tasks wait without it"
        yield weak("operators", why, f"step it from Python: open_run(path, operators={{{name!r}: ...}})")
    troubles = reader.troubles()
    for name, trouble in troubles.items():
        last = trouble.reason.strip().splitlines()[-1:]
        why = f"{name} could not be asked {trouble.failures} times in a row, since {format_time(trouble.since)}: "
        remedy = "make it reachable; for Slurm and ssh: matterstack doctor --slurm, --ssh HOST"
        yield wrong("operators", why + "".join(last), f"{remedy}{'; then run.resume()' if trouble.suspended else ''}")
    if not (session.missing or troubles):
        yield well("operators", f"{', '.join(sorted(session.operators)) or 'none'}")
    if session.campaign is None and session.reference is None:
        why = "it is not kept with the run, so a step stops before analyze"
        yield weak("campaign", why, "step it from Python: open_run(path, campaign=...)")
    yield from _limits(session, reader)


def _environment(directory: RunDirectory) -> Iterator[Diagnosis]:
    try:
        made_in = environment.recorded(directory)
    except MatterstackError as error:
        yield wrong("environment", str(error), "mend config.json from a backup")
        return
    if made_in is None:
        yield well("environment", "none was recorded: it is stepped with the Python that is there")
        return
    if not os.access(made_in.python, os.X_OK):
        why = f"there is no {made_in.python}, with which the run was made: a daemon cannot step it"
        yield wrong("environment", why, "make it again, or step the run by hand and say run.take_environment()")
    elif (why_not := environment.why_not_same(made_in)) is not None:
        what, _, remedy = why_not.partition(". ")
        yield weak("environment", what, remedy)
    else:
        yield well("environment", "this Python and its packages are those that it was made with")


def waiting_at(path: Path) -> dict[int, str]:
    """Return why ready tasks of a run wait for a limit, by their rows; nothing where it cannot be opened here."""
    try:
        return why_waiting(open_session(path, None, None))
    except (MatterstackError, ImportError):  # a table is shown all the same
        return {}


def _limits(session: Session, reader: StoreReader) -> Iterator[Diagnosis]:
    run, now = reader.run(), time.time()
    if run.status is not RunStatus.RUNNING:
        return
    ready = [task for name in reader.ready_operators(now) for task in reader.ready_tasks(name, _MOST_LISTED, now)]
    for one in waits(session, run, ready)[:_MOST_LISTED]:
        yield weak("limits", f"task {one.task.task_id}: {one.why}", one.remedy)
