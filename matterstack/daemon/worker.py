"""A worker: a process that steps one run until nothing moves, or until it is told to stop, and says what it waits for.

``python -m matterstack.daemon.worker RUN_DIRECTORY DESCRIPTOR``. It is told to stop by the end of its standard input,
so one whose daemon was killed stops as well. What it says goes to the descriptor, as a line of JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from matterstack.core.attempt_files import TABLE, Family
from matterstack.core.attempts import LiveAttempt
from matterstack.core.limits import Holder
from matterstack.core.results import TickReport, Waiting
from matterstack.core.states import AttemptStatus, RunStatus
from matterstack.core.text import neutral
from matterstack.daemon.stamps import Stamp, stamp_of
from matterstack.errors import MatterstackError, RunLockedError
from matterstack.orchestration.environment import recorded, why_not_same
from matterstack.orchestration.reservations import counting
from matterstack.run import Run
from matterstack.run_lifecycle import open_run
from matterstack.storage.limits import Ledger
from matterstack.storage.machine import MachineLedger
from matterstack.storage.run_directory import RunDirectory

#: A worker stays so long with a run in which nothing moves, if nobody else waits: to begin anew costs more.
_PATIENCE_S = 3.0
#: So long a run that waits for a limit keeps its place: the daemon has it stepped again before.
_IN_LINE_S = 45.0
_MOST_WATCHED = 200
#: Of a runner of local commands, which writes there when one ends; where it was killed, nobody does.
_JOURNAL = "journal.jsonl"
_LOCAL_S = 600.0
_OF_COMMANDS = (Family.EVERY, Family.CALL, Family.JOB)
#: What people and instruments write; the run looks at nothing else of theirs.
_OF_OTHERS = sorted(
    {entry.name.rstrip("/") for entry in TABLE if entry.family not in _OF_COMMANDS and entry.writer != "the run"}
)


def main() -> int:
    """Step a run; see the module."""
    path, descriptor = sys.argv[1], int(sys.argv[2])
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)  # nothing that is started here keeps it open
    try:
        said = _step(RunDirectory.at(path))
    except RunLockedError as error:
        said = {"locked": str(error)}
    except MatterstackError as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    os.write(descriptor, json.dumps(said).encode() + b"\n")
    return 0


def _step(directory: RunDirectory) -> dict[str, Any]:
    made_in = recorded(directory)
    if made_in is not None and (why := why_not_same(made_in)) is not None:
        return {"refused": why}
    return _Steps(open_run(directory.path), directory).make()


class _Steps:
    """Ticks of a run, and what there was to see of it before the last one: what comes later differs from that."""

    def __init__(self, run: Run, directory: RunDirectory) -> None:
        self._run = run
        self._directory = directory
        self._moved = False
        self._moved_at = time.monotonic()
        self._before: _Seen | None = None
        self._now: _Seen | None = None

    def make(self) -> dict[str, Any]:
        """Make ticks until nothing has moved for a while, and return what the daemon is told."""
        report = self._loop()
        while self._before is None and not is_told_to_stop():
            before = self._now or self._look()
            report = self._run.step()
            self._take(report)
            if report.progressed or report.look_again_s == 0:
                report = self._loop()
            else:
                self._before = before
        seen = self._before or _Seen([], {}, {})
        self._stay_in_line()
        return {
            "status": str(report.status),
            "reason": neutral(report.reason or ""),
            "waits_for": str(report.waits_for),
            "look_again_s": _sooner(_look_again_s(self._run, report, seen.live), report.tell_again_s),
            "tells": report.tell_again_s is not None,
            "told": is_told_to_stop(),
            "moved": self._moved,
            "database": seen.database,
            "watched": seen.watched,
        }

    def _stay_in_line(self) -> None:
        """Keep the place of the run among those that wait for limits of its workspace, or of this machine."""
        workspace, record = self._directory.workspace, self._run.store.run()
        if record.status is not RunStatus.RUNNING:
            return
        ledgers = [] if workspace is None else [Ledger(workspace)]
        ledgers += [MachineLedger()] if counting(self._run.operators) else []
        for ledger in ledgers:
            holder = Holder(record.run_id, ledger.place_of(self._directory.path), record.created_at)
            with contextlib.suppress(MatterstackError):  # its ticks have said so
                ledger.stay_in_line(holder, time.time() + _IN_LINE_S)

    def _loop(self) -> TickReport:
        report = None
        for report in self._run.ticks(self._is_over):
            self._take(report)
        assert report is not None
        return report

    def _is_over(self) -> bool:
        is_idle = self._before is not None and time.monotonic() - self._moved_at > _PATIENCE_S
        return is_idle or is_told_to_stop()

    def _take(self, report: TickReport) -> None:
        if report.progressed:
            self._moved, self._moved_at = True, time.monotonic()
            self._before = self._now = None
        else:
            self._before, self._now = self._now, self._look()

    def _look(self) -> _Seen:
        live = self._run.store.live_attempts()
        database = dict(chain(_stamped(self._directory.state), _stamped(self._directory.config)))
        return _Seen(live, database, dict(_watched(self._run, live)))


class _Seen(NamedTuple):
    """What there was to see of a run at one moment."""

    live: list[LiveAttempt]
    database: dict[str, Stamp]
    watched: dict[str, Stamp]


def is_told_to_stop() -> bool:
    """Return whether the daemon has closed the standard input, or is gone."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))


def _look_again_s(run: Run, report: TickReport, live: list[LiveAttempt]) -> float | None:
    """Return after how long the run has to be looked at, whatever is seen of it from outside."""
    operators = {one.operator for one in live}
    if report.look_again_s and live and all(_tells_by_journal(run, operator) for operator in operators):
        begins = run.store.next_start(sorted(operators))
        return _LOCAL_S if begins is None else min(_LOCAL_S, max(0.0, begins - time.time()))
    if report.look_again_s is not None:
        return report.look_again_s
    waiting = [one for one in live if one.status is AttemptStatus.WAITING] if report.waits_for is Waiting.PEOPLE else []
    ends = [one.submitted_at + limit_s for one in waiting if (limit_s := one.task_of().timeout_s) is not None]
    return max(0.0, min(ends) - time.time()) + 1.0 if ends else None


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((time_s for time_s in (one, other) if time_s is not None), default=None)


def _tells_by_journal(run: Run, operator: str) -> bool:
    """Return whether the end of a command is seen in a journal, and nobody asks about it before."""
    known = run.operators.get(operator)
    journal = run.path / "operators" / operator / _JOURNAL
    return known is not None and not known.monitors() and os.path.exists(journal)


def _watched(run: Run, live: list[LiveAttempt]) -> Iterator[tuple[str, Stamp]]:
    """Yield what tells that the run may go on: the end of local commands, and what others put into directories."""
    home = run.path / "operators"
    for operator in sorted({one.operator for one in live}):
        yield from _stamped(home / operator / _JOURNAL)
    for one in live[:_MOST_WATCHED]:
        if not os.path.exists(home / one.operator / _JOURNAL):
            place = home / one.operator / one.name
            yield from _stamped(place)
            for name in _OF_OTHERS:
                yield from _stamped(place / name)


def _stamped(path: Path) -> Iterator[tuple[str, Stamp]]:
    if (stamp := stamp_of(path)) is not None:
        yield str(path), stamp


if __name__ == "__main__":
    sys.exit(main())
