"""Kits of a run, out to a cluster that nothing can reach, and home again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matterstack import interrupts
from matterstack.core.states import TERMINAL_TASK, AttemptStatus
from matterstack.errors import KitError, RunStatusError
from matterstack.orchestration.session import Session

if TYPE_CHECKING:
    from matterstack.operators.requests.kit_archives import Imported


def _kits(session: Session) -> tuple[dict[str, tuple[str, Path]], dict[str, Path]]:
    """Return, by token, name and directory of each kit that waits, and the directories of those that wait no more."""
    from matterstack.operators.requests.manual_hpc import ManualHPCOperator

    ours = {name for name, operator in session.operators.items() if isinstance(operator, ManualHPCOperator)}
    waiting = {
        live.token: (live.name, session.directory.operator(live.operator) / live.name)
        for live in session.reader.live_attempts()
        if live.operator in ours and live.status is AttemptStatus.WAITING and live.task_status not in TERMINAL_TASK
    }
    over = {
        token: session.directory.attempt(operator, iteration, task_id, attempt)
        for token, operator, iteration, task_id, attempt in session.reader.attempts_of(sorted(ours))
        if token not in waiting
    }
    return waiting, over


def export_kits(session: Session, archive: Path) -> list[str]:
    """Pack every kit that waits; see `matterstack.run.Run.export_kits`."""
    from matterstack.operators.requests.kit_archives import pack

    session.require_place()
    waiting, _ = _kits(session)
    if not waiting:
        raise RunStatusError("no kit waits to be carried away; run.inbox() lists what waits")
    pack(archive, dict(waiting.values()))
    return [name for name, _ in waiting.values()]


def import_kits(session: Session, archive: Path, max_gib: float) -> Imported:
    """Take results home; see `matterstack.run.Run.import_kits`."""
    from matterstack.operators.requests.kit_archives import unpack

    if not archive.is_file():
        raise KitError(f"there is no file {archive}")
    with session.locked():
        waiting, over = _kits(session)
        with interrupts.heard():  # what was taken home stays, and the rest is taken the next time
            return unpack(archive, {token: directory for token, (_, directory) in waiting.items()}, over, max_gib)
