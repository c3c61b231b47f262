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
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matterstack.core.attempt_files import KEY
from matterstack.core.attempts import LiveAttempt
from matterstack.core.changes import AttemptChange, Change, RunChange
from matterstack.core.results import TickReport, Waiting
from matterstack.core.snapshot import IterationCounts, RunRecord, Snapshot
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
from matterstack.orchestration.execute import Executed, execute, start
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
    at, soon = snapshot.at, memory is not None
    session.reservations.begin(store, snapshot, session.operators)
    health = Health(snapshot.troubles, at, session.settings.suspend_after)
    polled = poll(session, snapshot, health, memory)
    reach("tick.polled")
    health = health.after(polled.contacts)
    live = scheduling.still_live(snapshot.live, polled.changes)

    run, changes = _begin(snapshot.run, polled.changes, at)
    most_new, no_more = _budget(session, store, run, snapshot.live)
    may_start = run.status is RunStatus.RUNNING and no_more is None
    slots, contacts = free_slots(session, live, health, soon=soon) if may_start else ({}, {})
    health = health.after(contacts)
    moves: Counter[TaskEvent] = Counter()
    new: list[LiveAttempt] = []
    counts = snapshot.counts
    if slots and (changes or counts.ready):
        session.reservations.workspace.look_around({name: session.operators[name] for name in slots})
    if changes or (slots and counts.ready):
        with store.transaction():
            moves += apply_with_skips(store, changes, run.iteration)
            counts = store.counts(run.iteration)
            if counts.ready and slots:
                new = write_intents(session, store, run, slots, at, most_new)
        _keep(session, snapshot.live, polled.changes)
    ready = counts.ready

    done, health = _hand_over(session, store, run, polled.absent, new, health, at, memory, moves)
    remove_scratch(session, store, [*changes, *done.changes], run.iteration, at)
    live = scheduling.still_live([*live, *new], done.changes)

    run = _write_health(store, run, live, health)
    counts = store.counts(run.iteration)
    if no_more is not None and run.status is RunStatus.RUNNING and counts.ready and not live:
        run = _pause(store, run, no_more, at)
    concluded = conclude(session, store, run, counts, at)
    if concluded.campaign_state is not None:
        remove_scratch_of_iteration(session, store, run.iteration, at)
    # A loop submits at once what is planned now; of single steps one may look at it before.
    at_once = concluded.follows and soon and health.all_well and most_new == math.inf
    more = free_slots(session, live, health, soon=soon)[0] if at_once else {}
    if more:
        session.reservations.workspace.look_around({name: session.operators[name] for name in more})
    run, new = _write_conclusion(session, store, run, concluded, at, more)
    if concluded.updated is not None:
        reach("update.stored")
    submitted = done.submitted
    if new:
        done, health = _hand_over(session, store, run, (), new, health, at, memory, moves)
        remove_scratch(session, store, done.changes, run.iteration, at)
        before, live = len(live), scheduling.still_live([*live, *new], done.changes)
        run = _write_health(store, run, live, health)
        counts = store.counts(run.iteration)
        if len(live) == before + len(new):  # else some ended at once, and the next tick has something to do
            concluded = Concluded()
        ready, submitted = ready + counts.ready + len(new), submitted + done.submitted
    may_submit = (
        no_more is None and bool(slots or done.changes) and run.status is RunStatus.RUNNING and counts.ready > 0
    )
    left = free_slots(session, live, health, soon=soon)[0] if may_submit else {}
    if not done.changes:  # else there may be more that is ready
        left = {name: free for name, free in left.items() if name not in session.reservations.starved}
    outlook = _outlook(session, store, run, counts, live, left, polled, concluded)
    outlook = _settle(session, store, run, live, outlook, memory)
    report = TickReport(
        ready=ready,
        submitted=submitted,
        completed=moves[TaskEvent.COMPLETE],
        failed=moves[TaskEvent.FAIL],
        skipped=moves[TaskEvent.SKIP],
        live=len(live),
        iteration=run.iteration,
        status=run.status,
        reason=run.reason or outlook.reason,
        waits_for=outlook.waits_for,
        look_again_s=outlook.look_again_s,
    )
    if session.settings.notify is None:
        return report
    from matterstack.orchestration.telling import tell  # most runs tell nobody

    return tell(session, store, run, live, health, report)


def _hand_over(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    absent: Sequence[LiveAttempt],
    new: Sequence[LiveAttempt],
    health: Health,
    at: float,
    memory: LoopMemory | None,
    moves: Counter[TaskEvent],
) -> tuple[Executed, Health]:
    """Hand attempts to their operators, and store what became of it; add to `moves` what that means for tasks."""
    interrupted = frozenset(attempt.id for attempt in absent)
    done = execute(session, store, [*absent, *new], interrupted, health, at, soon=memory is not None)
    health = health.after(done.contacts)
    if memory is not None:
        memory.replies |= done.untold
    if done.changes:
        with store.transaction():
            moves += apply_with_skips(store, done.changes, run.iteration)
        health = health.after(start(session, done.to_start))
    return done, health


def _keep(session: Session, live: Sequence[LiveAttempt], changes: Sequence[Change]) -> None:
    """Keep for other runs what ended well and says under which key, now that this is on disk."""
    over = {
        change.attempt: change
        for change in changes
        if isinstance(change, AttemptChange) and change.event is AttemptEvent.COLLECTED
    }
    for one in live if over else ():
        home = session.directory.operator(one.operator)
        if one.id in over and one.task_status is TaskStatus.SUBMITTED and os.path.lexists(f"{home}/{one.name}/{KEY}"):
            from matterstack.orchestration.caching import keep  # most runs need none of it

            keep(session, session.attempt(one), over[one.id].made)


def _begin(run: RunRecord, changes: Sequence[Change], at: float) -> tuple[RunRecord, list[Change]]:
    """Return the run and the changes, with its start at the first tick."""
    if run.status is not RunStatus.PENDING:
        return run, list(changes)
    return run._replace(status=RunStatus.RUNNING), [RunChange(run.status, RunEvent.START, at), *changes]


def _budget(
    session: Session, store: SQLiteStateStore, run: RunRecord, live: Sequence[LiveAttempt]
) -> tuple[float, str | None]:
    """Return how many more tasks may be begun, and why nothing may start any more, where that is so."""
    budget = session.settings.budget
    if not budget or run.status is not RunStatus.RUNNING:
        return math.inf, None
    spent = session.ledger.spent(store, live)
    return math.inf if budget.tasks is None else budget.tasks - spent.tasks, budget.why_no_more(spent)


def _pause(store: SQLiteStateStore, run: RunRecord, reason: str, at: float) -> RunRecord:
    with store.transaction():
        store.apply([RunChange(run.status, RunEvent.PAUSE, at, reason)], run.iteration)
        return store.run()


def _write_health(store: SQLiteStateStore, run: RunRecord, live: Sequence[LiveAttempt], health: Health) -> RunRecord:
    """Store who could not be asked, forget who answered, and pause the run when nothing else can move."""
    failing, recovered = health.failing, health.recovered
    if not failing and not recovered:
        return run
    for trouble in failing:
        log.warning(
            "operator %s cannot be asked (%d in a row): %s",
            trouble.operator,
            trouble.failures,
            trouble.reason.strip().splitlines()[-1],
            extra={"run_id": run.run_id, "operator": trouble.operator, "failures": trouble.failures},
        )
    with store.transaction():
        store.set_troubles(failing, recovered)
        suspended = [trouble for trouble in health.now.values() if trouble.suspended]
        silent = {trouble.operator for trouble in suspended}
        if run.status is RunStatus.RUNNING and silent and _is_stuck(store, run, live, silent):
            first = suspended[0]
            reason = (
                f"the operator {first.operator} has not answered {first.failures} times and nothing else can move; "
                f"resume() when it can be reached. Last: {first.reason.strip().splitlines()[-1]}"
            )
            store.apply([RunChange(run.status, RunEvent.PAUSE, health.at, reason)], run.iteration)
            return store.run()
    return run


def _is_stuck(store: SQLiteStateStore, run: RunRecord, live: Sequence[LiveAttempt], suspended: set[str]) -> bool:
    if any(attempt.operator not in suspended for attempt in live):
        return False
    return suspended.issuperset(store.ready_operators(time.time())) and store.counts(run.iteration).unfinished > 0


def _write_conclusion(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    concluded: Concluded,
    at: float,
    slots: Mapping[str, int],
) -> tuple[RunRecord, list[LiveAttempt]]:
    """Store at once all that the iteration came to, with the intents to submit what follows, where there is room.

    Returns
    -------
    run : RunRecord
        As it stands then.
    new : list of LiveAttempt
    """
    if concluded.change is None and concluded.campaign_state is None and concluded.updated is None:
        return run, []
    with store.transaction():
        if concluded.updated is not None:
            updates.write(store, run, concluded.updated, at)
        if concluded.campaign_state is not None:
            store.end_iteration(run.iteration, at, concluded.campaign_state)
        if concluded.planned is not None:
            store.add_iteration(run.iteration + 1, at, concluded.planned, concluded.places)
            store.set_iteration(run.iteration + 1)
        if concluded.change is not None:
            store.apply([concluded.change], run.iteration)
        run = store.run()
        return run, write_intents(session, store, run, slots, at) if slots else []


class _Outlook(NamedTuple):
    """What the run waits for, when to look again, and why in words where no status says it; see `TickReport`."""

    waits_for: Waiting
    look_again_s: float | None = None
    reason: str | None = None


def _outlook(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    counts: IterationCounts,
    live: Sequence[LiveAttempt],
    slots: Mapping[str, int],
    polled: Polled,
    concluded: Concluded,
) -> _Outlook:
    asked = [attempt for attempt in live if attempt.operator in session.operators]
    if run.status in TERMINAL_RUN and not live:
        return _Outlook(Waiting.NOTHING)
    if run.status is RunStatus.PAUSED:
        return _Outlook(Waiting.PEOPLE)
    if concluded.planned is not None or (concluded.updated is not None and concluded.updated.state is not None):
        return _Outlook(Waiting.WORK, 0.0)
    if concluded.wants_campaign:
        why = "every task of the iteration is over, and the campaign that analyzes it was not given: "
        return _Outlook(Waiting.CAMPAIGN, None, why + "open_run(path, campaign=...)")
    could = run.status is RunStatus.RUNNING and counts.ready > 0
    ready = store.ready_operators(time.time()) if could and (slots or session.missing) else []
    if not slots.keys().isdisjoint(ready):
        return _Outlook(Waiting.WORK, 0.0)  # room at an operator without a ready task would not do
    # All that could start there has to wait: were there others, they would be ready.
    delay_s = _delay_s(store, list(slots)) if could and slots else None
    if not live and not counts.ready and counts.unfinished:
        return _Outlook(Waiting.PEOPLE, None, "what is left waits for a person's word: run.explain() tells which")
    reason = None
    if missing := {*(attempt.operator for attempt in live), *ready}.intersection(session.missing):
        reason = f"the operator {max(missing)!r} was not given to this process, so nobody asks about its attempts"
    if not asked and delay_s is not None:
        return _Outlook(Waiting.WORK, delay_s, reason)
    if missing and not asked:
        return _Outlook(Waiting.OPERATOR, None, reason)
    if (
        asked
        and delay_s is None
        and not polled.settling
        and all(_waits_for_a_person(session, attempt) for attempt in live)
    ):
        return _Outlook(Waiting.PEOPLE, None, reason)
    poll_s = min((session.operators[attempt.operator].traits.poll_s for attempt in asked), default=0.0)
    look_again_s = min(max(_FIRST_LOOK_S, poll_s / _FILE_POLLS), delay_s or _LONGEST_S)
    return _Outlook(Waiting.WORK if asked else Waiting.OPERATOR, look_again_s, reason)


def _settle(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    live: Sequence[LiveAttempt],
    outlook: _Outlook,
    memory: LoopMemory | None,
) -> _Outlook:
    """Give back what is over of the limits of the workspace; return when to look again where tasks wait for one."""
    held = session.reservations
    given_back = held.settle(store, run, live) | held.settle_others(run)
    waits = bool(held.short) and run.status is RunStatus.RUNNING
    if memory is not None:
        memory.waits_for_limit = waits
    if not waits:
        return outlook
    soon_s = 0.0 if given_back else _LIMIT_S
    soon_s = soon_s if outlook.look_again_s is None else min(soon_s, outlook.look_again_s)
    reason = outlook.reason or f"tasks wait for {', '.join(sorted(held.short))}; run.explain() tells who holds it"
    return _Outlook(Waiting.WORK, soon_s, reason)


def _delay_s(store: SQLiteStateStore, operators: Sequence[str]) -> float | None:
    """Return how long it is until a task may start that has to wait; None where none has."""
    first = store.next_start(operators)
    return None if first is None else min(max(_SOON_S, first - time.time()), _LONGEST_S)


def _waits_for_a_person(session: Session, attempt: LiveAttempt) -> bool:
    operator = session.operators.get(attempt.operator)
    return attempt.status is AttemptStatus.WAITING and operator is not None and operator.traits.by_people
