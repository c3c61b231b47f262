"""Actions of a person on a run, besides stepping it; each takes the lock, and is one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matterstack.core.amended import in_words
from matterstack.core.changes import (
    AttemptChange,
    Change,
    RunChange,
    TaskChange,
)
from matterstack.core.states import (
    RUN_TRANSITIONS,
    TERMINAL_RUN,
    TERMINAL_TASK,
    AttemptEvent,
    AttemptStatus,
    RunEvent,
    RunStatus,
    TaskEvent,
    TaskStatus,
)
from matterstack.crash_points import reach
from matterstack.errors import CampaignError, MatterstackError, RunStatusError, UnknownTaskError
from matterstack.functions.campaign import Campaign
from matterstack.orchestration import campaign_calls as planning
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.changes import apply_with_skips
from matterstack.orchestration.mending import Mend, Word, word
from matterstack.orchestration.naming import find_named
from matterstack.orchestration.session import Session
from matterstack.orchestration.tick import make_tick
from matterstack.storage.reader import StoreReader
from matterstack.storage.state_store import SQLiteStateStore

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow


def _refuse(status: RunStatus, event: RunEvent) -> RunStatusError:
    possible = sorted(str(s) for s, moves in RUN_TRANSITIONS.items() if event in moves)
    return RunStatusError(f"the run is {status}, and only one that is {' or '.join(possible)} can {event}")


def pause(session: Session, reason: str) -> None:
    """Stop submitting; what is under way goes on and is polled by every step."""
    _move(session, RunEvent.PAUSE, reason)


def resume(session: Session) -> None:
    """Submit again, also to operators that were suspended."""
    _move(session, RunEvent.RESUME, None)


def _move(session: Session, event: RunEvent, reason: str | None) -> None:
    with session.locked() as store:
        run = store.run()
        if event not in RUN_TRANSITIONS[run.status]:
            raise _refuse(run.status, event)
        with store.act():
            store.apply([RunChange(run.status, event, time.time(), reason)], run.iteration)
            if event is RunEvent.RESUME:
                store.set_troubles([], list(store.troubles()))


def reopen(session: Session, campaign: Campaign | None) -> None:
    """Ask the campaign of a run that is COMPLETED for its next plan, on a person's word.

    Raises
    ------
    RunStatusError
        The run is not COMPLETED.
    CampaignError, WorkflowError
        There is no campaign, or what it plans cannot be run; nothing was changed.
    """
    session.require_trust()  # it runs the campaign
    with session.locked() as store:
        run = store.run()
        if RunEvent.REOPEN not in RUN_TRANSITIONS[run.status]:
            raise _refuse(run.status, RunEvent.REOPEN)
        asked = session.load_campaign() if campaign is None else campaign
        if asked is None:
            raise CampaignError("the campaign of the run was not given: run.reopen(campaign=...)")
        with capture() as caught:
            planned = planning.plan(asked, run.campaign_state, session.operators, session.directory, store, begins=True)
        if isinstance(caught.error, MatterstackError):
            raise caught.error
        if caught.error is not None:
            raise CampaignError(
                f"{type(asked).__name__} could not plan ({describe(caught.error)}); nothing was changed"
            ) from caught.error
        if campaign is not None and planned is not None:
            # Before the run goes on: killed in between, it is COMPLETED, and knows the campaign that it was given last.
            session.take_campaign(campaign)
        reach("reopen.planned")
        at = time.time()
        changes: list[Change] = [RunChange(run.status, RunEvent.REOPEN, at, "reopened by a person")]
        with store.act():
            if planned is None:
                why = f"reopened by a person: {type(asked).__name__} planned nothing more"
                changes.append(RunChange(RunStatus.RUNNING, RunEvent.COMPLETE, at, why))
            else:
                store.add_iteration(run.iteration + 1, at, planned, planning.places_of(asked))
                store.set_iteration(run.iteration + 1)
            store.apply(changes, run.iteration)


def cancel(session: Session, reason: str) -> int:
    """End the run: nothing more is submitted, and live attempts are stopped.

    Returns
    -------
    int
        Attempts that are still being stopped; further steps see to them.
    """
    session.require_trust()  # stopping asks the run's operators
    with session.locked() as store:
        run = store.run()
        if run.status is not RunStatus.CANCELLED:
            if RunEvent.CANCEL not in RUN_TRANSITIONS[run.status]:
                raise _refuse(run.status, RunEvent.CANCEL)
            at = time.time()
            with store.act():
                store.cancel_unfinished(run.iteration, at)
                store.apply([RunChange(run.status, RunEvent.CANCEL, at, reason)], run.iteration)
        return make_tick(session, store, store.snapshot(time.time())).live


def retry(
    session: Session,
    task_ids: Sequence[str] | None,
    iteration: int | None = None,
    mend: Mend | None = None,
    *,
    only: int | None = None,
    comment: str | None = None,
) -> list[str]:
    """Give tasks that are over another chance, and with them all that waits for them.

    Parameters
    ----------
    session : Session
    task_ids : sequence of str or None
        None for every failed task of the current iteration.
    iteration : int or None
        The iteration they are of, where that is said.
    mend : Mend or None
        What their next attempts shall be made with.
    only : int or None
        Only where that is the last attempt: a word on one that failed is not meant for another.
    comment : str or None
        What the person says to it, for the journal.

    Returns
    -------
    list of str
        Every task that is pending again.

    Raises
    ------
    UnknownTaskError
        No such task in the current iteration.
    RunStatusError
        The run or the task cannot be retried now.
    InvalidTaskError
        A task cannot be changed so.
    """
    # Before the lock, since files may be large; what is taken and then not used does no harm.
    words = _words(session, task_ids, iteration, mend) if mend else {}
    with session.locked() as store, store.act():
        run = store.run()
        if run.status not in (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED):
            raise _refuse(run.status, RunEvent.RETRY)
        meant = _meant(store, task_ids, iteration)
        past = [named for named in meant if named[0] != run.iteration]
        if past or iteration not in (None, run.iteration):
            over, name = past[0] if past else (iteration, "*")
            raise RunStatusError(
                f"{over}.{name} cannot be retried: iteration {over} is over, and the run is in iteration "
                f"{run.iteration}"
            )
        wanted = []
        for _, name in meant:
            row, status, _, _ = _find(store, run.iteration, name)
            if status is TaskStatus.SKIPPED and (culprits := store.culprits(row)):
                raise RunStatusError(f"{name} was skipped because of {', '.join(culprits)}: retry that instead")
            if only is not None and store.attempts_of_task(row)[-1].attempt != only:
                raise RunStatusError(f"{name}.{only} waits for no word any more: another attempt was made since")
            if status not in TERMINAL_TASK and not store.waits(row):
                raise RunStatusError(f"{name} is {status}, so there is nothing to retry yet")
            wanted.append(row)
        if not wanted:
            raise RunStatusError("no task of the current iteration has failed, so there is nothing to retry")
        at = time.time()
        retried = []
        store.amend([(row, said.on(session, which, store.amendment(row))) for row, (which, said) in words.items()])
        below = store.downstream(wanted)
        stopping = {live.task for live in store.live_attempts()}.intersection(
            row for row, _, now in below if now in TERMINAL_TASK
        )
        if stopping:
            name = store.task_name(min(stopping))
            raise RunStatusError(f"{name} is being stopped: run.step() sees to it; retry it then")
        for row, name, status in below:
            if status is TaskStatus.SUBMITTED:
                raise RunStatusError(f"{name} depends on it and is under way: wait until it is over")
            if status is not TaskStatus.PENDING or row in wanted:
                changed = in_words(store.amendment(row)) if row in words else ""
                reason = "retried by a person" + (f", with {changed}" if changed else "")
                reason += f": {comment}" if comment and row in wanted else ""
                retried.append((name, TaskChange(row, status, TaskEvent.RETRY, at, reason)))
        changes: list[Change] = [change for _, change in retried]
        if run.status is RunStatus.FAILED:
            changes.append(RunChange(run.status, RunEvent.RETRY, at))
        store.apply(changes, run.iteration)
        store.recount_unmet([row for row, _, _ in below], run.iteration)
        return [name for name, _ in retried]


def _meant(store: StoreReader, task_ids: Sequence[str] | None, iteration: int | None) -> list[tuple[int, str]]:
    """Return iteration and id of the tasks that are named; of every failed one of the current iteration for None."""
    if task_ids is not None:
        return [find_named(store, name, iteration) for name in task_ids]
    current = store.run().iteration
    return [(current, name) for name, _ in store.failed_tasks(current)]


def _words(
    session: Session, task_ids: Sequence[str] | None, iteration: int | None, mend: Mend
) -> dict[int, tuple[TaskRow, Word]]:
    """Return what a mend comes to for each task that is named, by its row."""
    rows = [session.reader.task(*named) for named in _meant(session.reader, task_ids, iteration)]
    return {row.id: (row, word(session, row, mend)) for row in rows if row is not None}


def cancel_tasks(session: Session, names: Sequence[str] | None, group: str | None, reason: str) -> list[str]:
    """Cancel tasks that are not over, and skip what waits for them; the next step stops what is under way.

    Returns
    -------
    list of str
        Which.
    """
    with session.locked() as store, store.act():
        rows = _not_over(store, names, group)
        at = time.time()
        changes = [TaskChange(row.id, TaskStatus(row.status), TaskEvent.CANCEL, at, reason) for row in rows]
        apply_with_skips(store, changes, store.run().iteration)
        return [row.task_id for row in rows]


def hold(session: Session, names: Sequence[str] | None, group: str | None, reason: str) -> list[str]:
    """Keep tasks back: not submitted until they are released; what is under way goes on, and is not retried."""
    with session.locked() as store, store.act():
        rows = _not_over(store, names, group)
        if names is not None and (asking := [row.task_id for row in rows if row.asks]):
            raise RunStatusError(f"{asking[0]} waits for a word already; run.inbox() shows what it asks")
        _move_tasks(store, [row for row in rows if not row.asks], TaskEvent.HOLD, reason)
        return [row.task_id for row in rows]


def release(session: Session, names: Sequence[str] | None, group: str | None) -> list[str]:
    """Let tasks go on that were kept back by a person; all of them where none are named."""
    with session.locked() as store, store.act():
        rows = _not_over(store, names, group, everything=True)
        held = [row for row in rows if row.held is not None and not row.asks]
        if names is not None and len(held) < len(rows):
            name = next(row.task_id for row in rows if row not in held)
            raise RunStatusError(f"{name} is not held, so there is nothing to release")
        _move_tasks(store, held, TaskEvent.RELEASE, None)
        return [row.task_id for row in held]


def _move_tasks(store: SQLiteStateStore, rows: Sequence[TaskRow], event: TaskEvent, reason: str | None) -> None:
    at = time.time()
    changes = [TaskChange(row.id, TaskStatus(row.status), event, at, reason) for row in rows]
    store.apply(changes, store.run().iteration)


def _not_over(
    store: StoreReader, names: Sequence[str] | None, group: str | None, *, everything: bool = False
) -> list[TaskRow]:
    """Return the tasks of the current iteration that are named, or of a group, which may still go on."""
    run = store.run()
    if run.status in TERMINAL_RUN:
        raise RunStatusError(f"the run is {run.status}: none of its tasks goes on")
    if (names is None) == (group is None) and not (everything and names is None):
        raise RunStatusError("name the tasks, or a group, as in group='relax'")
    if names is None:
        found = store.unfinished(run.iteration, group)
        if not found and not everything:
            raise UnknownTaskError(f"no task of the group {group!r} is still to end; run.tasks lists them")
        return found
    rows = []
    for name in names:
        row = store.task(*find_named(store, name))
        assert row is not None
        if row.iteration != run.iteration or row.status in TERMINAL_TASK:
            raise RunStatusError(f"{row.iteration}.{row.task_id} is {row.status}, so it cannot go on")
        rows.append(row)
    return rows


def declare_lost(session: Session, task_id: str) -> None:
    """Note, on a person's word, that a task's live attempt is dead: its retry policy decides what follows.

    For an attempt that nobody can be asked about any more, for example because its machine
    is gone for good.

    Raises
    ------
    RunStatusError
        The task has no attempt that could be lost.
    """
    with session.locked() as store, store.act():
        run = store.run()
        iteration, task_id = find_named(store, task_id)
        row, status, _, _ = _find(store, iteration, task_id)
        for live in store.live_attempts():
            if live.task == row and live.status in (AttemptStatus.SUBMITTED, AttemptStatus.RUNNING):
                at = time.time()
                reason = "declared lost by a person"
                change = AttemptChange(live.id, row, live.status, AttemptEvent.VANISHED, at, reason=reason, ended_at=at)
                apply_with_skips(store, [change, *scheduling.end_task(live, at, reason, "LOST")], run.iteration)
                return
        raise RunStatusError(f"{task_id} is {status} and has no attempt that is submitted or running")


def _find(store: StoreReader, iteration: int, task_id: str) -> tuple[int, TaskStatus, int, int]:
    found = store.find_task(iteration, task_id)
    assert found is not None
    return found
