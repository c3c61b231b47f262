"""Telling: what is new at the end of a tick becomes a notice, is written down, and is sent by processes of their own.

First the file of a notice is written, then the database says that it is due, then somebody is started who sends it. So
whatever is killed in between, the next tick goes on with it: each notice is due once, and who sends it claims it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.attempts import LiveAttempt
from matterstack.core.notices import NoticeKind
from matterstack.core.numbers import is_number
from matterstack.core.results import TickReport, Waiting
from matterstack.core.snapshot import RunRecord
from matterstack.core.states import TERMINAL_RUN, AttemptStatus, RunStatus
from matterstack.core.text import storable
from matterstack.crash_points import reach
from matterstack.errors import InvalidConfigError, NoticeError, StoreUnwritableError, UnsafeFileError
from matterstack.notices import outbox
from matterstack.notices.outbox import Errand, Standing
from matterstack.notices.sinks import Notify, name_of
from matterstack.orchestration import news as words
from matterstack.orchestration.budget import HOUR_S
from matterstack.orchestration.failures import asking
from matterstack.orchestration.health import Health
from matterstack.orchestration.news import News
from matterstack.storage.rows import NewsRow, ToldRow
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.orchestration.session import Session

log = logging.getLogger("matterstack.notices")

#: What could not be sent is tried again after so long, and then given up.
_AGAIN_S = (300.0, 3600.0, 86400.0)
#: Failures of tasks and requests that come so soon after others are told together, where another tick will come.
_QUIET_S = 600.0
#: A process that begins looks at no more events than these that were looked at before.
_MOST_UNSAID = 10_000
_START_AGAIN_S, _LOOK_AGAIN_S = 120.0, 10.0
_MOST_STARTED, _MOST_LOST = 5, 5
_MAY_WAIT = (NoticeKind.TASKS_FAILED, NoticeKind.NEEDS_YOU)
_AT_ONCE = (RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.PAUSED)


class OpenErrand(NamedTuple):
    """The sending of a notice to a sink that is not over: the attempt that is next, and when it may begin."""

    number: int
    sink: int
    attempt: int
    name: str
    not_before: float

    @property
    def errand(self) -> Errand:
        """The attempt that is next."""
        return Errand(self.number, self.sink, self.attempt)


@dataclass
class Memory:
    """What has to be known of notices for the next ones; it stands in the journal with the last word on them.

    Attributes
    ----------
    number : int
        Of the last notice.
    looked : int
        The last event that was looked at.
    open : list of OpenErrand
    lost : list of (int, str, str)
        Of notices that did not reach a sink, the last ones: number, name of the sink, and why.
    suspended : list of str
        Operators of which it was told that nothing new goes to them.
    budget : mapping or None
        The budget of which it was told that it is nearly spent.
    moved : int
        The last event that says something of the run.
    moved_at : float
    still : int
        That event when it was told last that nothing moves.
    asked_at : float
        When it was told last that requests wait.
    quiet_until : float
    """

    number: int = 0
    looked: int = 0
    open: list[OpenErrand] = field(default_factory=list)
    lost: list[tuple[int, str, str]] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    budget: dict[str, Any] | None = None
    moved: int = 0
    moved_at: float = 0.0
    still: int = -1
    asked_at: float = 0.0
    quiet_until: float = 0.0

    @classmethod
    def of(cls, told: ToldRow, run: str) -> Memory:
        """Return what the journal holds; where that makes no sense, begin anew from here on.

        Parameters
        ----------
        told : ToldRow
        run : str
            The run's directory: no number of a notice is used twice.
        """
        if not told.told:
            return cls()
        try:
            said = json.loads(told.memory or "")
            numbers = [value for name, value in said.items() if isinstance(getattr(cls, name, None), int | float)]
            if not all(map(is_number, numbers)) or said["number"] < 0:
                raise TypeError("a number is none")
            return cls(
                **{
                    **said,
                    "open": [
                        OpenErrand(int(n), int(s), int(a), str(name), float(at)) for n, s, a, name, at in said["open"]
                    ],
                    "lost": [(int(number), str(name), str(why)) for number, name, why in said["lost"]],
                    "suspended": [str(name) for name in said["suspended"]],
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(number=outbox.last_number(run), looked=told.seq)

    def text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self))


class Teller:
    """Who tells of a run, in one process: what it has looked at already, and whom it has started."""

    def __init__(self) -> None:
        self.memory = Memory()
        #: Up to which event somebody has looked, as the journal has it.
        self.kept = 0
        self._told = -1
        self._started: dict[Errand, float] = {}

    @contextmanager
    def remembering(self, session: Session, told: ToldRow) -> Iterator[Memory]:
        """Yield the memory as it is in the journal, with what this process has looked at since.

        Where the block fails, what it has changed of it is forgotten.
        """
        if told.told != self._told:
            self.memory, self._told = Memory.of(told, str(session.directory.path)), told.told
            self.kept = self.memory.looked
        if not told.is_of_notices:
            self.memory.moved, self.memory.moved_at = told.seq, told.at
        try:
            yield self.memory
        except BaseException:
            self._told = -1
            raise

    def write(self, store: SQLiteStateStore, run: RunRecord, said: Sequence[str], at: float) -> None:
        """Write the memory into the journal, with what there is to say."""
        with store.transaction():
            last = store.note_told(at, str(run.status), said, self.memory.text())
        self._told, self.kept = last, self.memory.looked

    def add(
        self, session: Session, run: RunRecord, news: Sequence[News], notify: Notify, rows: Sequence[NewsRow]
    ) -> str:
        """Write the file of a notice; return what the journal says of it."""
        memory, at = self.memory, time.time()
        secret = words.secret_variables(session.reader, rows) | {*notify.variables}
        notice = words.compose(memory.number + 1, run, str(session.directory.path), news, at, secret)
        outbox.write(session.directory.path, notice, notify.to)
        reach("notices.written")
        memory.number = notice.number
        memory.open += [OpenErrand(notice.number, n, 1, name_of(sink), 0.0) for n, sink in enumerate(notify.to)]
        return f"notice {notice.number}: {notice.title}"

    def start(self, session: Session, at: float) -> None:
        """Start who sends what nobody has claimed yet, a few at a time."""
        now, begun = time.monotonic(), 0
        for one in self.memory.open:
            lately = now - self._started.get(one.errand, -_START_AGAIN_S) < _START_AGAIN_S
            if lately or _left_s(one.not_before, at) or begun >= _MOST_STARTED:
                continue
            if outbox.standing(session.directory.path, one.errand).standing is Standing.OPEN:
                begun += 1
                self._started[one.errand] = now
                outbox.start(session.directory.path, one.errand)
                reach("notices.started")

    def settle(self, session: Session, at: float) -> list[str]:
        """Take in what has come of notices that were being sent; return what there is to say of that."""
        said: list[str] = []
        left = []
        for one in self.memory.open:
            if _left_s(one.not_before, at):
                left.append(one)
                continue
            outcome = outbox.standing(session.directory.path, one.errand)
            about, why = f"notice {one.number} to {one.name}", outcome.why
            match outcome.standing:
                case Standing.SENT:
                    said.append(f"{about}: sent")
                    self.memory.lost = [lost for lost in self.memory.lost if lost[1] != one.name]
                case Standing.FAILED if one.attempt <= len(_AGAIN_S):
                    after_s = _AGAIN_S[one.attempt - 1]
                    said.append(f"{about}: could not be sent ({why}); it is tried again in {after_s / 60:g} minutes")
                    left.append(one._replace(attempt=one.attempt + 1, not_before=at + after_s))
                case Standing.FAILED | Standing.UNKNOWN:
                    how = "given up" if outcome.standing is Standing.FAILED else "not known whether it was sent"
                    said.append(f"{about}: {how} ({why})")
                    lost = (one.number, one.name, f"{how}: {why}")
                    self.memory.lost = [*self.memory.lost, lost][-_MOST_LOST:]
                case _:
                    left.append(one)
        self.memory.open = left
        return said


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
    try:
        told = store.told()
        with session.teller.remembering(session, told) as memory:
            again_s = _tell(session, memory, store, run, live, health, report, told)
    except (OSError, UnsafeFileError, StoreUnwritableError) as error:
        again_s = _LOOK_AGAIN_S
        log.warning("notices of %s wait: %s", run.run_id, error, extra={"run_id": run.run_id})
    return report._replace(tell_again_s=again_s)


def _tell(
    session: Session,
    memory: Memory,
    store: SQLiteStateStore,
    run: RunRecord,
    live: Sequence[LiveAttempt],
    health: Health,
    report: TickReport,
    told: ToldRow,
) -> float | None:
    notify, teller, at = session.settings.notify, session.teller, time.time()
    assert notify is not None
    said = [*teller.settle(session, at), *_recovered(memory, health)]
    rows = _new_rows(session, store, run, told, memory, report, at)
    by_people = {name for name, operator in session.operators.items() if operator.traits.by_people}
    found = words.of_events(rows, by_people)
    found += _suspended(memory, health)
    found += _near(session, notify, store, run, live, memory)
    waiting = [one for one in live if one.status is AttemptStatus.WAITING and one.operator in by_people]
    if not any(one.kind is NoticeKind.NEEDS_YOU for one in found):
        found += _reminder(notify, store, run, waiting, memory, at)
    found += _still(notify, run, report, memory, at)
    found = [one for one in found if one.kind in notify.on]
    if found:
        if any(one.kind in _MAY_WAIT for one in found):
            memory.quiet_until = at + _QUIET_S
        if any(one.kind in (NoticeKind.NEEDS_YOU, NoticeKind.REMINDER) for one in found):
            memory.asked_at = at
        said.insert(0, teller.add(session, run, found, notify, rows))
    if not said and memory.looked - teller.kept > _MOST_UNSAID:
        said.append("nothing else to tell up to here")
    if said:
        teller.write(store, run, said, at)
        reach("notices.told")
    teller.start(session, at)
    return _again_s(notify, run, report, waiting, told, memory, at)


def _new_rows(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    told: ToldRow,
    memory: Memory,
    report: TickReport,
    at: float,
) -> list[NewsRow]:
    """Return what has happened since somebody looked, unless that may wait until more has."""
    quiet = _left_s(memory.quiet_until, at, _QUIET_S) and report.look_again_s is not None and run.status not in _AT_ONCE
    if told.seq <= memory.looked or quiet:
        return []
    rows = store.news_after(memory.looked, words.MOST_NAMED)
    memory.looked = told.seq
    return rows


def _recovered(memory: Memory, health: Health) -> list[str]:
    """Return which operators answer again of which the contrary was told; the next time it is told again."""
    again = [name for name in memory.suspended if not (name in health.now and health.now[name].suspended)]
    memory.suspended = [name for name in memory.suspended if name not in again]
    return [f"the operator {name} takes work again" for name in again]


def _suspended(memory: Memory, health: Health) -> list[News]:
    now = {name: trouble for name, trouble in health.now.items() if trouble.suspended}
    new = [words.of_suspended(trouble) for name, trouble in sorted(now.items()) if name not in memory.suspended]
    memory.suspended = sorted(now)
    return new


def _near(
    session: Session,
    notify: Notify,
    store: SQLiteStateStore,
    run: RunRecord,
    live: Sequence[LiveAttempt],
    memory: Memory,
) -> list[News]:
    """Return that the budget is nearly spent, once for each budget."""
    budget = session.settings.budget
    known = memory.budget == asdict(budget)
    if notify.budget is None or not budget or known or run.status is not RunStatus.RUNNING:
        return []
    spent = session.ledger.spent(store, live)
    parts = [(name, getattr(spent, name), most) for name, most in asdict(budget).items() if most is not None]
    near = [part for part in parts if part[1] >= notify.budget * part[2]]
    if not near:
        return []
    memory.budget = asdict(budget)
    return [words.of_budget(near)]


def _still(notify: Notify, run: RunRecord, report: TickReport, memory: Memory, at: float) -> list[News]:
    if _still_left_s(notify, run, report, memory, at) != 0.0:
        return []
    memory.still = memory.moved
    return [words.of_stillness((at - memory.moved_at) / HOUR_S, memory.moved_at)]


def _still_left_s(notify: Notify, run: RunRecord, report: TickReport, memory: Memory, at: float) -> float | None:
    """Return after how long without a move somebody is told; None where nobody is: of requests there are reminders."""
    told = memory.still == memory.moved or not memory.moved
    if notify.still_h is None or told or run.status is not RunStatus.RUNNING or report.waits_for is Waiting.PEOPLE:
        return None
    return max(0.0, notify.still_h * HOUR_S - (at - memory.moved_at))


def _reminder(
    notify: Notify, store: SQLiteStateStore, run: RunRecord, waiting: Sequence[LiveAttempt], memory: Memory, at: float
) -> list[News]:
    left_s = _remind_left_s(notify, run, waiting, memory, at)
    if left_s != 0.0:
        return []
    asked_at = memory.asked_at
    number = len(waiting) + len(asking(store))
    if not number:
        memory.asked_at = 0.0
        return []
    return [words.of_reminder(number, asked_at or min(one.submitted_at for one in waiting))]


def _remind_left_s(
    notify: Notify, run: RunRecord, waiting: Sequence[LiveAttempt], memory: Memory, at: float
) -> float | None:
    """Return after how long it is said again that requests wait; None where none is known to."""
    first = min((one.submitted_at for one in waiting), default=0.0)
    asked_at = max(memory.asked_at, first)
    if notify.remind_h is None or not asked_at or run.status in TERMINAL_RUN:
        return None
    return max(0.0, notify.remind_h * HOUR_S - (at - asked_at))


def _again_s(
    notify: Notify,
    run: RunRecord,
    report: TickReport,
    waiting: Sequence[LiveAttempt],
    told: ToldRow,
    memory: Memory,
    at: float,
) -> float | None:
    """Return after how long there may be something to tell; None where nothing is known to come."""
    times = [
        _still_left_s(notify, run, report, memory, at),
        _remind_left_s(notify, run, waiting, memory, at),
        _left_s(memory.quiet_until, at, _QUIET_S) if told.seq > memory.looked else None,
        *(_left_s(one.not_before, at) or _LOOK_AGAIN_S for one in memory.open),
    ]
    return min((one for one in times if one is not None), default=None)


def _left_s(until: float, at: float, longest_s: float = _AGAIN_S[-1]) -> float:
    """Return how long it is until a time; nothing where the clock was set back since."""
    left_s = until - at
    return left_s if 0.0 < left_s <= longest_s else 0.0


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
