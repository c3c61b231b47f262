"""Telling: what is new of a run at the end of a tick becomes a notice, and is sent by processes of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from matterstack.core.attempts import LiveAttempt
from matterstack.core.notices import NoticeKind
from matterstack.core.results import TickReport, Waiting
from matterstack.core.snapshot import RunRecord
from matterstack.core.states import TERMINAL_RUN, AttemptStatus, RunStatus
from matterstack.core.text import storable
from matterstack.crash_points import reach
from matterstack.errors import InvalidConfigError, NoticeError, StoreUnwritableError, UnsafeFileError
from matterstack.notices import outbox
from matterstack.notices.outbox import Standing
from matterstack.notices.sinks import Notify
from matterstack.orchestration import news as words
from matterstack.orchestration.budget import HOUR_S
from matterstack.orchestration.failures import asking
from matterstack.orchestration.health import Health
from matterstack.orchestration.news import News
from matterstack.orchestration.notice_memory import Memory
from matterstack.orchestration.teller import left_s
from matterstack.storage.rows import NewsRow, ToldRow
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.orchestration.session import Session

log = logging.getLogger("matterstack.notices")

#: Failures of tasks and requests that come so soon after others are told together, where another tick will come.
_QUIET_S = 600.0
#: A process that begins looks at no more events than these that were looked at before.
_MOST_UNSAID = 10_000
_LOOK_AGAIN_S = 10.0
_MAY_WAIT = (NoticeKind.TASKS_FAILED, NoticeKind.NEEDS_YOU)
_AT_ONCE = (RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.PAUSED)


@dataclass
class _TickEnd:
    """The end of a tick: the run as it stands then, and what is remembered of notices."""

    session: Session
    store: SQLiteStateStore
    notify: Notify
    memory: Memory
    told: ToldRow
    run: RunRecord
    live: Sequence[LiveAttempt]
    health: Health
    report: TickReport
    at: float

    @cached_property
    def by_people(self) -> set[str]:
        """Operators whose requests wait for a person."""
        return {name for name, operator in self.session.operators.items() if operator.traits.by_people}

    @cached_property
    def waiting(self) -> list[LiveAttempt]:
        """Requests that wait for a person."""
        return [one for one in self.live if one.status is AttemptStatus.WAITING and one.operator in self.by_people]

    def news(self, rows: Sequence[NewsRow]) -> list[News]:
        """Return what somebody wants to be told of; all of it then counts as told."""
        found = [*words.of_events(rows, self.by_people), *self._suspended(), *self._near()]
        if not any(one.kind is NoticeKind.NEEDS_YOU for one in found):
            found += self._reminder()
        found += self._still()
        return [one for one in found if one.kind in self.notify.on]

    def new_rows(self) -> list[NewsRow]:
        """Return what has happened since somebody looked, unless that may wait until more has."""
        waits = left_s(self.memory.quiet_until, self.at, _QUIET_S) and self.report.look_again_s is not None
        if self.told.seq <= self.memory.looked or (waits and self.run.status not in _AT_ONCE):
            return []
        rows = self.store.news_after(self.memory.looked, words.MOST_NAMED)
        self.memory.looked = self.told.seq
        return rows

    def recovered(self) -> list[str]:
        """Return which operators answer again of which the contrary was told; the next time it is told again."""
        now, told = self.health.now, self.memory.suspended
        again = [name for name in told if not (name in now and now[name].suspended)]
        self.memory.suspended = [name for name in told if name not in again]
        return [f"the operator {name} takes work again" for name in again]

    def again_s(self) -> float | None:
        """Return after how long there may be something to tell; None where nothing is known to come."""
        memory, at = self.memory, self.at
        times = [
            self._still_left_s(),
            self._remind_left_s(),
            left_s(memory.quiet_until, at, _QUIET_S) if self.told.seq > memory.looked else None,
            *(left_s(one.not_before, at) or _LOOK_AGAIN_S for one in memory.open),
        ]
        return min((one for one in times if one is not None), default=None)

    def _suspended(self) -> list[News]:
        now = {name: trouble for name, trouble in self.health.now.items() if trouble.suspended}
        told, self.memory.suspended = self.memory.suspended, sorted(now)
        return [words.of_suspended(trouble) for name, trouble in sorted(now.items()) if name not in told]

    def _near(self) -> list[News]:
        """Return that the budget is nearly spent, once for each budget."""
        share, budget = self.notify.budget, self.session.settings.budget
        known = self.memory.budget == asdict(budget)
        if share is None or not budget or known or self.run.status is not RunStatus.RUNNING:
            return []
        spent = self.session.ledger.spent(self.store, self.live)
        parts = [(name, getattr(spent, name), most) for name, most in asdict(budget).items() if most is not None]
        near = [part for part in parts if part[1] >= share * part[2]]
        if not near:
            return []
        self.memory.budget = asdict(budget)
        return [words.of_budget(near)]

    def _still(self) -> list[News]:
        if self._still_left_s() != 0.0:
            return []
        self.memory.still = self.memory.moved
        return [words.of_stillness((self.at - self.memory.moved_at) / HOUR_S, self.memory.moved_at)]

    def _still_left_s(self) -> float | None:
        """Return after how long without a move somebody is told; None where nobody is: of requests are reminders."""
        memory, still_h = self.memory, self.notify.still_h
        told = memory.still == memory.moved or not memory.moved
        of_people = self.report.waits_for is Waiting.PEOPLE
        if still_h is None or told or of_people or self.run.status is not RunStatus.RUNNING:
            return None
        return max(0.0, still_h * HOUR_S - (self.at - memory.moved_at))

    def _reminder(self) -> list[News]:
        if self._remind_left_s() != 0.0:
            return []
        asked_at = self.memory.asked_at
        number = len(self.waiting) + len(asking(self.store))
        if not number:
            self.memory.asked_at = 0.0
            return []
        return [words.of_reminder(number, asked_at or min(one.submitted_at for one in self.waiting))]

    def _remind_left_s(self) -> float | None:
        """Return after how long it is said again that requests wait; None where none is known to."""
        remind_h = self.notify.remind_h
        times = [self.memory.asked_at, min((one.submitted_at for one in self.waiting), default=0.0)]
        if remind_h is None or not any(times) or self.run.status in TERMINAL_RUN:
            return None
        # A clock that was set back by more than that makes a reminder due, and not silent until it has caught up.
        asked_at = max((one for one in times if 0.0 < one <= self.at), default=max(times))
        return left_s(asked_at + remind_h * HOUR_S, self.at, 2 * remind_h * HOUR_S)


def tell(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    live: Sequence[LiveAttempt],
    health: Health,
    report: TickReport,
) -> TickReport:
    """Tell what is new of a run, at the end of a tick; the run's lock is held.

    Whatever stands in the way of that is logged, and no harm to the run: the next tick tries again.

    Returns
    -------
    TickReport
        With the time after which there may be something to tell.
    """
    notify, at = session.settings.notify, time.time()
    assert notify is not None
    again_s: float | None
    try:
        told = store.told()
        with session.teller.remembering(session, told) as memory:
            again_s = _tell(_TickEnd(session, store, notify, memory, told, run, live, health, report, at))
    except (OSError, UnsafeFileError, StoreUnwritableError) as error:
        again_s = _LOOK_AGAIN_S
        log.warning("notices of %s wait: %s", run.run_id, error, extra={"run_id": run.run_id})
    return report._replace(tell_again_s=again_s)


def _tell(end: _TickEnd) -> float | None:
    session, memory, teller = end.session, end.memory, end.session.teller
    said = [*teller.settle(session, end.at), *end.recovered()]
    rows = end.new_rows()
    found = end.news(rows)
    if found:
        kinds = {one.kind for one in found}
        if not kinds.isdisjoint(_MAY_WAIT):
            memory.quiet_until = end.at + _QUIET_S
        if not kinds.isdisjoint((NoticeKind.NEEDS_YOU, NoticeKind.REMINDER)):
            memory.asked_at = end.at
        said.insert(0, teller.add(session, end.run, found, end.notify, rows))
    if not said and memory.looked - teller.kept > _MOST_UNSAID:
        said.append("nothing else to tell up to here")
    if said:
        teller.write(end.store, end.run, said, end.at)
        reach("notices.told")
    teller.start(session, end.at)
    return end.again_s()


def begin(session: Session, store: SQLiteStateStore) -> None:
    """Note that somebody is told of what comes from now on, and of nothing before; the run's lock is held."""
    told = store.told()
    with session.teller.remembering(session, told) as memory:
        memory.looked, memory.open, memory.lost = told.seq, [], []
        session.teller.write(store, store.run(), ["from here on somebody is told"], time.time())


def trial(session: Session, text: str) -> None:
    """Send a notice with a text of a person's own, and wait for what comes of it.

    Raises
    ------
    InvalidConfigError
        The run tells nobody.
    UntrustedRunError
        This user has neither made the run nor trusted it: sending runs what it names.
    NoticeError
        It did not reach everybody.
    """
    session.require_trust()
    teller, path = session.teller, session.directory.path
    with session.locked() as store:
        notify = session.settings.notify
        if notify is None:
            raise InvalidConfigError("the run tells nobody: say whom, as in run.configure(notify='env:MY_ADDRESS')")
        run = store.run()
        with teller.remembering(session, store.told()) as memory:
            before = len(memory.open)
            said = teller.add(session, run, [News(NoticeKind.TRIAL, storable(text))], notify, ())
            mine = memory.open[before:]
            teller.write(store, run, [said], time.time())
        reach("notices.told")
    wrong = []
    for one in mine:
        outbox.start(path, one.errand, wait=True)
        outcome = outbox.standing(path, one.errand)
        if outcome.standing is not Standing.SENT:
            wrong.append(f"{one.name} ({outcome.why or 'it is not known yet what came of it'})")
    if wrong:
        raise NoticeError(f"notice {mine[0].number} did not reach {', '.join(wrong)}")


def not_told(session: Session) -> list[tuple[str, str]]:
    """Return which notices did not reach whom, and why, for who asks what holds a run up."""
    told = session.reader.told()
    memory = Memory.of(told, str(session.directory.path))
    found = [(f"notice {number}", f"to {name}: {why}") for number, name, why in memory.lost]
    for one in memory.open:
        attempts = [one.attempt, *([one.attempt - 1] if one.attempt > 1 else [])]
        for attempt in attempts:
            outcome = outbox.standing(session.directory.path, one.errand._replace(attempt=attempt))
            if outcome.standing in (Standing.FAILED, Standing.UNKNOWN):
                found.append((f"notice {one.number}", f"it did not reach {one.name} ({outcome.why})"))
                break
    return found
