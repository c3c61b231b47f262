"""Time that a run has spent: waiting and running, core hours and CPU time, by what its attempts have in common."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from matterstack.core.amended import amended
from matterstack.core.identifiers import stem_of
from matterstack.core.states import LIVE_ATTEMPT, AttemptStatus
from matterstack.errors import PlotError
from matterstack.orchestration.budget import HOUR_S, cores_of
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TimeRow

if TYPE_CHECKING:
    import pandas as pd

#: What attempts may have in common.
BY = ("function", "operator", "iteration", "group")
#: Attempts are read so many at a time.
AT_ONCE = 20_000
_LIVE = frozenset(map(str, LIVE_ATTEMPT))
_FAILED = frozenset({str(AttemptStatus.FAILED), str(AttemptStatus.LOST)})


class Spending(NamedTuple):
    """What some attempts have spent; see `matterstack.run.Run.time_spent`."""

    attempts: int
    completed: int
    failed: int
    waiting_s: float
    running_s: float
    core_hours: float
    cpu_s: float | None
    cpu_efficiency: float | None
    peak_memory_gib: float | None


class _Amounts(NamedTuple):
    """What one attempt has spent."""

    completed: bool
    failed: bool
    waiting_s: float
    running_s: float
    core_s: float
    cpu_s: float | None
    peak_gib: float | None


def _amounts(row: TimeRow, now: float) -> _Amounts:
    """Return what an attempt has spent up to a moment; one whose result was cached has spent nothing."""
    completed, failed = row.status == AttemptStatus.COMPLETED, row.status in _FAILED
    if row.cached:
        return _Amounts(completed, failed, 0.0, 0.0, 0.0, None, None)
    end = now if row.ended_at is None else row.ended_at
    began = end if row.started_at is None else row.started_at
    waited_s, ran_s = max(0.0, began - row.submitted_at), max(0.0, end - began)
    core_s = ran_s * (1 if row.spec is None else cores_of(amended(row.spec, row.changes)))
    return _Amounts(completed, failed, waited_s, ran_s, core_s, row.cpu_s, row.peak_memory_gib)


class _Sums:
    """What some attempts come to."""

    def __init__(self) -> None:
        self.attempts = self.completed = self.failed = 0
        self.waiting_s = self.running_s = self.core_s = 0.0
        #: CPU time where it was measured, and the core seconds of these attempts alone.
        self.cpu_s: float | None = None
        self.measured_core_s = 0.0
        self.peak_gib: float | None = None

    def add(self, one: _Amounts) -> None:
        self.attempts += 1
        self.completed += one.completed
        self.failed += one.failed
        self.waiting_s += one.waiting_s
        self.running_s += one.running_s
        self.core_s += one.core_s
        if one.cpu_s is not None:
            self.cpu_s = (self.cpu_s or 0.0) + one.cpu_s
            self.measured_core_s += one.core_s
        if one.peak_gib is not None:
            self.peak_gib = max(self.peak_gib or 0.0, one.peak_gib)

    def spending(self) -> Spending:
        efficiency = None if self.cpu_s is None or not self.measured_core_s else self.cpu_s / self.measured_core_s
        return Spending(
            self.attempts,
            self.completed,
            self.failed,
            self.waiting_s,
            self.running_s,
            self.core_s / HOUR_S,
            self.cpu_s,
            efficiency,
            self.peak_gib,
        )


def key_of(row: TimeRow, by: str) -> str | int:
    """Return what an attempt is counted under; empty text where it has no such thing.

    Parameters
    ----------
    row : TimeRow
    by : {'function', 'operator', 'iteration', 'group'}
        A task without a group is in that of the stem of its name, as in `Run.dag`.
    """
    match by:
        case "function":
            return row.function or ""
        case "operator":
            return row.operator
        case "iteration":
            return row.iteration
        case _:
            return row.group or stem_of(row.task_id)


class TimeSpent:
    """What attempts have spent, by all that they may have in common; one that is over is counted once."""

    def __init__(self) -> None:
        self._over: dict[str, dict[str | int, _Sums]] = {by: {} for by in BY}

    def add(self, row: TimeRow) -> None:
        """Count an attempt that is over."""
        amounts = _amounts(row, row.submitted_at)
        for by, sums in self._over.items():
            sums.setdefault(key_of(row, by), _Sums()).add(amounts)

    def by(self, by: str, live: Iterable[TimeRow], now: float) -> list[tuple[str | int, Spending]]:
        """Return what was spent up to a moment: iterations in their order, all else by core hours, the most first.

        Parameters
        ----------
        by : {'function', 'operator', 'iteration', 'group'}
        live : iterable of TimeRow
            The attempts that are not over.
        now : float
            Seconds since the Unix epoch.
        """
        sums = dict(self._over[by])
        own: set[str | int] = set()
        for row in live:
            key = key_of(row, by)
            if key not in own:
                own.add(key)
                sums[key] = copy.copy(sums[key]) if key in sums else _Sums()
            sums[key].add(_amounts(row, now))
        found = [(key, one.spending()) for key, one in sums.items()]
        if by == "iteration":
            return sorted(found, key=lambda one: one[0])
        return sorted(found, key=lambda one: (-one[1].core_hours, -one[1].waiting_s, str(one[0])))


def is_live(row: TimeRow) -> bool:
    """Return whether an attempt is not over."""
    return row.status in _LIVE


def check_by(by: str) -> None:
    """Check what is asked for.

    Raises
    ------
    PlotError
        Attempts have no such thing in common.
    """
    if by not in BY:
        raise PlotError(f"by must be one of {', '.join(map(repr, BY))}, not {by!r}")


def time_spent(store: StoreReader, by: str) -> pd.DataFrame:
    """Return what a run has spent up to now; see `matterstack.run.Run.time_spent`."""
    import pandas as pd

    check_by(by)
    spent, live, last = TimeSpent(), [], 0
    with store.reading():
        while rows := store.times(after=last, at_most=AT_ONCE):
            last = rows[-1].id
            for row in rows:
                if is_live(row):
                    live.append(row)
                else:
                    spent.add(row)
    found = spent.by(by, live, time.time())
    frame = pd.DataFrame([one for _, one in found], columns=list(Spending._fields))
    for name in ("cpu_s", "cpu_efficiency", "peak_memory_gib"):
        frame[name] = frame[name].astype("float64")
    frame.index = pd.Index([key for key, _ in found], name=by, dtype="int64" if by == "iteration" else "str")
    return frame
