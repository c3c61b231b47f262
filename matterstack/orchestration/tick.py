"""One tick of a run: poll, plan, execute, analyze, under the run's lock.

Every tick goes the same way: a snapshot of the store, observations from the operators,
changes decided by pure functions, one transaction that writes them together with the
intents to submit, the submissions, and one transaction with what became of those. The parts return values; only
this module writes.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matterstack.core.attempt_files import KEY
from matterstack.core.attempts import LiveAttempt
from matterstack.core.changes import AttemptChange, Change, RunChange
from matterstack.core.results import TickReport, Waiting
from matterstack.core.snapshot import Snapshot
from matterstack.core.states import (
    TERMINAL_RUN,
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
)
from matterstack.crash_points import reach
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration import updates
from matterstack.orchestration.analyze import Concluded, conclude
from matterstack.orchestration.changes import apply_with_skips
from matterstack.orchestration.cleaning import remove_scratch, remove_scratch_of_iteration
from matterstack.orchestration.execute import execute, start
from matterstack.orchestration.health import Health
from matterstack.orchestration.loop_memory import LoopMemory
from matterstack.orchestration.plan import free_slots, write_intents
from matterstack.orchestration.poll import Polled, poll
from matterstack.orchestration.session import Session
from matterstack.storage.state_store import SQLiteStateStore

log = logging.getLogger("matterstack.tick")

#: A loop looks at work that cannot wake it so soon at first, and glances so often between two questions.
_FIRST_LOOK_S, _FILE_POLLS = 0.05, 8
#: To a time that is far the loop looks in between, for what other processes did; a clock may be set.
_SOON_S, _LONGEST_S = 0.01, 30.0
#: Who gives back some of a limit wakes nobody.
_LIMIT_S = 1.0


def step(session: Session, memory: LoopMemory | None = None) -> TickReport:
    """Make one tick.

    Parameters
    ----------
    session : Session
        The run.
    memory : LoopMemory, optional
        Of a loop that makes another tick within a moment.

    Raises
    ------
    UntrustedRunError
        This user has neither made the run nor trusted it.
    RunLockedError
        Somebody else is stepping the run.
    StoreError
        The database cannot be used; nothing was changed.
    """
    session.require_trust()
    with session.locked() as store:
        reach("tick.locked")
        snapshot = store.snapshot(time.time())
        report = make_tick(session, store, snapshot, memory)
        reach("tick.made")
    log.info(
        "%s",
        report,
        extra={
            "run_id": snapshot.run.run_id,
            "iteration": report.iteration,
            "ready": report.ready,
            "submitted": report.submitted,
            "completed": report.completed,
            "failed": report.failed,
            "skipped": report.skipped,
            "live": report.live,
            "run_status": str(report.status),
        },
    )
    return report


def make_tick(
    session: Session, store: SQLiteStateStore, snapshot: Snapshot, memory: LoopMemory | None = None
) -> TickReport:
    """Poll, plan, execute, analyze; the run's lock is held."""
    return _Tick(session, store, snapshot, memory).make(snapshot)


class _Outlook(NamedTuple):
    """What the run waits for, when to look again, and why in words where no status says it; see `TickReport`."""

    waits_for: Waiting
    look_again_s: float | None = None
    reason: str | None = None


class _Tick:
    """A tick under way, and the run as it stands in it.

    Attributes
    ----------
    run : RunRecord
    counts : IterationCounts
    live : list of LiveAttempt
        What is with the operators.
    health : Health
        Of the operators.
    moves : Counter
        What has happened to tasks.
    submitted : int
        How many attempts the outside has taken.
    """

    def __init__(
        self, session: Session, store: SQLiteStateStore, snapshot: Snapshot, memory: LoopMemory | None
    ) -> None:
        self._session = session
        self._store = store
        self._memory = memory
        self._at = snapshot.at
        #: Whether another tick follows within a moment.
        self._soon = memory is not None
        self.run = snapshot.run
        self.counts = snapshot.counts
        self.live: list[LiveAttempt] = list(snapshot.live)
        self.health = Health(snapshot.troubles, snapshot.at, session.settings.suspend_after)
        self.moves: Counter[TaskEvent] = Counter()
        self.submitted = 0

    def make(self, snapshot: Snapshot) -> TickReport:
        """Make it.

        Parameters
        ----------
        snapshot : Snapshot
            Of the run before.
        """
        session, store = self._session, self._store
        session.reservations.begin(store, snapshot, session.operators)
        polled = self._poll(snapshot)
        changes = self._begin(polled.changes)
        most_new, no_more = self._budget(snapshot.live)
        slots = self._first_room() if self.run.status is RunStatus.RUNNING and no_more is None else {}
        new = self._write(changes, slots, most_new)
        self._keep(snapshot.live, polled.changes)
        ready = self.counts.ready
        changed = self._hand_over(polled.absent, new, changes)
        if no_more is not None and self.run.status is RunStatus.RUNNING and self.counts.ready and not self.live:
            with store.transaction():
                self._pause(no_more)
        concluded, new = self._conclude(may_go_on=most_new == math.inf)
        if new:
            before = len(self.live)
            changed = self._hand_over((), new)
            ready += self.counts.ready + len(new)
            if len(self.live) == before + len(new):  # else some ended at once, and the next tick has something to do
                concluded = Concluded()
        may_submit = no_more is None and (slots or changed) and self.run.status is RunStatus.RUNNING
        left = self._room() if may_submit and self.counts.ready else {}
        if not changed:  # else there may be more that is ready
            left = {name: free for name, free in left.items() if name not in session.reservations.starved}
        outlook = self._settle(self._outlook(left, concluded, settling=polled.settling))
        return self._tell(self._report(ready, outlook))

    def _poll(self, snapshot: Snapshot) -> Polled:
        polled = poll(self._session, snapshot, self.health, self._memory)
        reach("tick.polled")
        self.health = self.health.after(polled.contacts)
        self.live = scheduling.still_live(snapshot.live, polled.changes)
        return polled

    def _begin(self, changes: Sequence[Change]) -> list[Change]:
        """Return the changes, with the start of the run at its first tick."""
        if self.run.status is not RunStatus.PENDING:
            return list(changes)
        begins = RunChange(self.run.status, RunEvent.START, self._at)
        self.run = self.run._replace(status=RunStatus.RUNNING)
        return [begins, *changes]

    def _budget(self, live: Sequence[LiveAttempt]) -> tuple[float, str | None]:
        """Return how many more tasks may be begun, and why nothing may start any more, where that is so."""
        budget = self._session.settings.budget
        if not budget or self.run.status is not RunStatus.RUNNING:
            return math.inf, None
        spent = self._session.ledger.spent(self._store, live)
        return math.inf if budget.tasks is None else budget.tasks - spent.tasks, budget.why_no_more(spent)

    def _first_room(self) -> dict[str, int]:
        """Return how many attempts operators take; who cannot say counts as not answering."""
        slots, contacts = free_slots(self._session, self.live, self.health, soon=self._soon)
        self.health = self.health.after(contacts)
        return slots

    def _room(self) -> dict[str, int]:
        """Return how many more attempts operators take by now."""
        return free_slots(self._session, self.live, self.health, soon=self._soon)[0]

    def _look_around(self, slots: Iterable[str]) -> None:
        operators = self._session.operators
        self._session.reservations.workspace.look_around({name: operators[name] for name in slots})

    def _write(self, changes: Sequence[Change], slots: Mapping[str, int], most_new: float) -> list[LiveAttempt]:
        """Store at once what has changed, and the intents to submit what is ready now; return those."""
        store = self._store
        if slots and (changes or self.counts.ready):
            self._look_around(slots)
        if not changes and not (slots and self.counts.ready):
            return []
        with store.transaction():
            self.moves += apply_with_skips(store, changes, self.run.iteration)
            self.counts = store.counts(self.run.iteration)
            if not (self.counts.ready and slots):
                return []
            return write_intents(self._session, store, self.run, slots, self._at, most_new)

    def _keep(self, live: Sequence[LiveAttempt], changes: Sequence[Change]) -> None:
        """Keep for other runs what ended well and says under which key, now that this is on disk."""
        session = self._session
        over = {
            change.attempt: change
            for change in changes
            if isinstance(change, AttemptChange) and change.event is AttemptEvent.COLLECTED
        }
        for one in live if over else ():
            key = f"{session.directory.operator(one.operator)}/{one.name}/{KEY}"
            if one.id in over and one.task_status is TaskStatus.SUBMITTED and os.path.lexists(key):
                from matterstack.orchestration.caching import keep  # most runs need none of it

                keep(session, session.attempt(one), over[one.id].made)

    def _hand_over(
        self, absent: Sequence[LiveAttempt], new: Sequence[LiveAttempt], stored: Sequence[Change] = ()
    ) -> bool:
        """Hand attempts to their operators, and store what became of it.

        Parameters
        ----------
        absent : sequence of LiveAttempt
            Of which the operators know nothing.
        new : sequence of LiveAttempt
        stored : sequence of Change
            What was stored before in this tick; with what follows, it says whose scratch files can go.

        Returns
        -------
        bool
            Whether anything changed by it.
        """
        session, store, memory = self._session, self._store, self._memory
        interrupted = frozenset(attempt.id for attempt in absent)
        done = execute(session, store, [*absent, *new], interrupted, self.health, self._at, soon=self._soon)
        self.health = self.health.after(done.contacts)
        if memory is not None:
            memory.replies |= done.untold
        if done.changes:
            with store.transaction():
                self.moves += apply_with_skips(store, done.changes, self.run.iteration)
            self.health = self.health.after(start(session, done.to_start))
        remove_scratch(session, store, [*stored, *done.changes], self.run.iteration, self._at)
        self.live = scheduling.still_live([*self.live, *new], done.changes)
        self.submitted += done.submitted
        self._write_health()
        self.counts = store.counts(self.run.iteration)
        return bool(done.changes)

    def _pause(self, reason: str) -> None:
        """Pause the run; in a transaction."""
        self._store.apply([RunChange(self.run.status, RunEvent.PAUSE, self._at, reason)], self.run.iteration)
        self.run = self._store.run()

    def _write_health(self) -> None:
        """Store who could not be asked, forget who answered, and pause the run when nothing else can move."""
        failing, recovered = self.health.failing, self.health.recovered
        if not failing and not recovered:
            return
        for trouble in failing:
            log.warning(
                "operator %s cannot be asked (%d in a row): %s",
                trouble.operator,
                trouble.failures,
                trouble.reason.strip().splitlines()[-1],
                extra={"run_id": self.run.run_id, "operator": trouble.operator, "failures": trouble.failures},
            )
        with self._store.transaction():
            self._store.set_troubles(failing, recovered)
            suspended = [trouble for trouble in self.health.now.values() if trouble.suspended]
            silent = {trouble.operator for trouble in suspended}
            if self.run.status is RunStatus.RUNNING and silent and self._is_stuck(silent):
                first = suspended[0]
                self._pause(
                    f"the operator {first.operator} has not answered {first.failures} times and nothing else can "
                    f"move; resume() when it can be reached. Last: {first.reason.strip().splitlines()[-1]}"
                )

    def _is_stuck(self, suspended: set[str]) -> bool:
        if any(attempt.operator not in suspended for attempt in self.live):
            return False
        ready = self._store.ready_operators(time.time())
        return suspended.issuperset(ready) and self._store.counts(self.run.iteration).unfinished > 0

    def _conclude(self, *, may_go_on: bool) -> tuple[Concluded, list[LiveAttempt]]:
        """Store at once what the iteration came to, with the intents to submit what follows, where there is room.

        A loop submits at once what is planned now; of single steps one may look at it before.
        """
        session, store, at = self._session, self._store, self._at
        concluded = conclude(session, store, self.run, self.counts, at)
        if concluded.campaign_state is not None:
            remove_scratch_of_iteration(session, store, self.run.iteration, at)
        slots = self._room() if concluded.follows and self._soon and self.health.all_well and may_go_on else {}
        if slots:
            self._look_around(slots)
        new: list[LiveAttempt] = []
        if concluded.change is not None or concluded.campaign_state is not None or concluded.updated is not None:
            with store.transaction():
                self._write_conclusion(concluded)
                if slots:
                    new = write_intents(session, store, self.run, slots, at)
        if concluded.updated is not None:
            reach("update.stored")
        return concluded, new

    def _write_conclusion(self, concluded: Concluded) -> None:
        """Store what an iteration came to; in a transaction."""
        store, iteration = self._store, self.run.iteration
        if concluded.updated is not None:
            updates.write(store, self.run, concluded.updated, self._at)
        if concluded.campaign_state is not None:
            store.end_iteration(iteration, self._at, concluded.campaign_state)
        if concluded.planned is not None:
            store.add_iteration(iteration + 1, self._at, concluded.planned, concluded.places)
            store.set_iteration(iteration + 1)
        if concluded.change is not None:
            store.apply([concluded.change], iteration)
        self.run = store.run()

    def _outlook(self, slots: Mapping[str, int], concluded: Concluded, *, settling: bool) -> _Outlook:
        if self.run.status in TERMINAL_RUN and not self.live:
            return _Outlook(Waiting.NOTHING)
        if self.run.status is RunStatus.PAUSED:
            return _Outlook(Waiting.PEOPLE)
        if concluded.planned is not None or (concluded.updated is not None and concluded.updated.state is not None):
            return _Outlook(Waiting.WORK, 0.0)
        if concluded.wants_campaign:
            why = "every task of the iteration is over, and the campaign that analyzes it was not given: "
            return _Outlook(Waiting.CAMPAIGN, None, why + "open_run(path, campaign=...)")
        session = self._session
        could = self.run.status is RunStatus.RUNNING and self.counts.ready > 0
        ready = self._store.ready_operators(time.time()) if could and (slots or session.missing) else []
        if not slots.keys().isdisjoint(ready):
            return _Outlook(Waiting.WORK, 0.0)  # room at an operator without a ready task would not do
        # All that could start there has to wait: were there others, they would be ready.
        delay_s = self._delay_s(list(slots)) if could and slots else None
        if not self.live and not self.counts.ready and self.counts.unfinished:
            return _Outlook(Waiting.PEOPLE, None, "what is left waits for a person's word: run.explain() tells which")
        reason = None
        if missing := {*(attempt.operator for attempt in self.live), *ready}.intersection(session.missing):
            reason = f"the operator {max(missing)!r} was not given to this process, so nobody asks about its attempts"
        asked = [session.operators[one.operator].traits for one in self.live if one.operator in session.operators]
        if not asked and delay_s is not None:
            return _Outlook(Waiting.WORK, delay_s, reason)
        if missing and not asked:
            return _Outlook(Waiting.OPERATOR, None, reason)
        if asked and delay_s is None and not settling and all(map(self._waits_for_a_person, self.live)):
            return _Outlook(Waiting.PEOPLE, None, reason)
        poll_s = min((traits.poll_s for traits in asked), default=0.0)
        look_again_s = min(max(_FIRST_LOOK_S, poll_s / _FILE_POLLS), delay_s or _LONGEST_S)
        return _Outlook(Waiting.WORK if asked else Waiting.OPERATOR, look_again_s, reason)

    def _delay_s(self, operators: Sequence[str]) -> float | None:
        """Return how long it is until a task may start that has to wait; None where none has."""
        first = self._store.next_start(operators)
        return None if first is None else min(max(_SOON_S, first - time.time()), _LONGEST_S)

    def _waits_for_a_person(self, attempt: LiveAttempt) -> bool:
        operator = self._session.operators.get(attempt.operator)
        return attempt.status is AttemptStatus.WAITING and operator is not None and operator.traits.by_people

    def _settle(self, outlook: _Outlook) -> _Outlook:
        """Give back what is over of the limits of the workspace; return when to look again where tasks wait for one."""
        held = self._session.reservations
        given_back = held.settle(self._store, self.run, self.live) | held.settle_others(self.run)
        waits = bool(held.short) and self.run.status is RunStatus.RUNNING
        if self._memory is not None:
            self._memory.waits_for_limit = waits
        if not waits:
            return outlook
        soon_s = 0.0 if given_back else _LIMIT_S
        soon_s = soon_s if outlook.look_again_s is None else min(soon_s, outlook.look_again_s)
        reason = outlook.reason or f"tasks wait for {', '.join(sorted(held.short))}; run.explain() tells who holds it"
        return _Outlook(Waiting.WORK, soon_s, reason)

    def _report(self, ready: int, outlook: _Outlook) -> TickReport:
        return TickReport(
            ready=ready,
            submitted=self.submitted,
            completed=self.moves[TaskEvent.COMPLETE],
            failed=self.moves[TaskEvent.FAIL],
            skipped=self.moves[TaskEvent.SKIP],
            live=len(self.live),
            iteration=self.run.iteration,
            status=self.run.status,
            reason=self.run.reason or outlook.reason,
            waits_for=outlook.waits_for,
            look_again_s=outlook.look_again_s,
        )

    def _tell(self, report: TickReport) -> TickReport:
        if self._session.settings.notify is None:
            return report
        from matterstack.orchestration.telling import tell  # most runs tell nobody

        return tell(self._session, self._store, self.run, self.live, self.health, report)
