"""Kits of a run, out to a cluster that nothing can reach, and home again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matterstack.core.states import TERMINAL_TASK, AttemptStatus
from matterstack.errors import InvalidTaskError, KitError, RunLockedError, RunStatusError
from matterstack.files import held_folder, remove_tree
from matterstack.orchestration.session import Session
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.operators.requests.kit_archives import Imported, Kit

#: A colleague's tick is waited for so long, once an archive was unpacked.
_LOCKED_TOLERANCE_S = 60.0
_LOCKED_RETRY_S = 0.2


class Kits(NamedTuple):
    """The kits of a run, by token.

    Attributes
    ----------
    waiting : dict of str to Kit
        Those that wait.
    over : dict of str to pathlib.Path
        Directories of the others.
    failed : set of str
        Those of the others that failed, or were lost.
    """

    waiting: dict[str, Kit]
    over: dict[str, Path]
    failed: set[str]


def kits_of(session: Session) -> Kits:
    """Return the kits of the run as they stand now."""
    from matterstack.operators.requests.kit_archives import Kit
    from matterstack.operators.requests.manual_hpc import ManualHPCOperator

    ours = {name for name, operator in session.operators.items() if isinstance(operator, ManualHPCOperator)}
    kits = Kits({}, {}, set())
    for live in session.reader.live_attempts():
        if live.operator in ours and live.status is AttemptStatus.WAITING and live.task_status not in TERMINAL_TASK:
            directory = session.directory.operator(live.operator) / live.name
            outputs: tuple[str, ...] = ()
            with contextlib.suppress(InvalidTaskError):  # a tick tells of it, and the others are as good
                outputs = tuple(live.task_of().outputs)
            kits.waiting[live.token] = Kit(directory, outputs)
    for token, operator, iteration, task_id, attempt, status in session.reader.attempts_of(sorted(ours)):
        if token not in kits.waiting:
            kits.over[token] = session.directory.attempt(operator, iteration, task_id, attempt)
            if status in (AttemptStatus.FAILED, AttemptStatus.LOST):
                kits.failed.add(token)
    return kits


@contextmanager
def staging_for(session: Session) -> Iterator[Path]:
    """Yield a new folder on the file system of the run, and remove it afterwards; also what killed processes left.

    It is entered under the run's lock, so that nobody takes a folder that is just being made for one that was left.
    """
    operators = session.directory.path / "operators"
    for left in operators.glob(".import.*"):
        with contextlib.suppress(OSError):
            with held_folder(left):
                pass  # whoever made it holds it for as long as it is needed
            remove_tree(left)
    staging = operators / f".import.{os.urandom(8).hex()}"
    staging.mkdir()
    try:
        with held_folder(staging):
            yield staging
    finally:
        remove_tree(staging)


@contextmanager
def locked_soon(session: Session) -> Iterator[SQLiteStateStore]:
    """Hold the run's lock; a colleague's tick that is under way is waited for."""
    until = time.monotonic() + _LOCKED_TOLERANCE_S
    with ExitStack() as stack:
        while True:
            try:
                store = stack.enter_context(session.locked())
                break
            except RunLockedError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_LOCKED_RETRY_S)
        yield store


def export_kits(session: Session, archive: Path) -> list[str]:
    """Pack every kit that waits; see `matterstack.run.Run.export_kits`."""
    from matterstack.operators.requests.kit_archives import pack

    session.require_place()
    waiting = {kit.directory.name: kit.directory for kit in kits_of(session).waiting.values()}
    if not waiting:
        raise RunStatusError("no kit waits to be carried away; run.inbox() lists what waits")
    pack(archive, waiting)
    return list(waiting)


def import_kits(session: Session, archive: Path, max_gib: float) -> Imported:
    """Take results home; see `matterstack.run.Run.import_kits`."""
    from matterstack.operators.requests.kit_archives import place, unpack

    if not archive.is_file():
        raise KitError(f"there is no file {archive}")
    with ExitStack() as stack:
        with session.locked():  # where somebody steps the run, that is said now and not when all is unpacked
            kits = kits_of(session)
            staging = stack.enter_context(staging_for(session))
        known = {**kits.over, **{token: kit.directory for token, kit in kits.waiting.items()}}
        unpacked = unpack(archive, kits.waiting, known, staging, max_gib)
        with locked_soon(session):
            now = kits_of(session)
            return place(unpacked, {t: kit.directory for t, kit in now.waiting.items()}, now.over, now.failed)
