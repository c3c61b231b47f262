"""The plan of a tick: which ready tasks it submits, as intents that are stored before anything is done."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping

from matterstack.core.amended import amended
from matterstack.core.attempts import LiveAttempt
from matterstack.core.changes import NewAttempt
from matterstack.core.limits import Wants
from matterstack.core.machine import CPUS, FIELDS
from matterstack.core.snapshot import ReadyTask, RunRecord
from matterstack.core.states import AttemptStatus, TaskStatus
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.health import Contacts, Health
from matterstack.orchestration.made_from import inputs_of
from matterstack.orchestration.next_attempts import made_with
from matterstack.orchestration.reservations import Grants, wants_of
from matterstack.orchestration.session import Session
from matterstack.storage.state_store import SQLiteStateStore

_MOST_PER_TICK = 1000


def free_slots(
    session: Session, live: Iterable[LiveAttempt], health: Health, *, soon: bool
) -> tuple[dict[str, int], Contacts]:
    """Return how many more attempts each operator takes, where it takes any; and who could not say.

    Parameters
    ----------
    session : Session
    live : iterable of LiveAttempt
        What is with the operators now.
    health : Health
    soon : bool
        Whether a loop makes another tick within a moment, so that portions will do.
    """
    held = Counter(attempt.operator for attempt in live)
    slots = {}
    contacts: dict[str, str | None] = {}
    for name, operator in session.operators.items():
        if not health.takes_work(name):
            continue
        with capture() as caught:
            most = operator.max_live(session.directory.operator(name))
        if caught.error is not None:
            contacts[name] = describe(caught.error)
            continue
        portion = operator.traits.most_at_once
        free = portion if soon and portion else _MOST_PER_TICK
        if most is not None:
            free = min(free, most - held[name])
        if free > 0:
            slots[name] = free
    return slots, contacts


def write_intents(
    session: Session,
    store: SQLiteStateStore,
    run: RunRecord,
    slots: Mapping[str, int],
    at: float,
    most_new: float = math.inf,
) -> list[LiveAttempt]:
    """Choose from the ready tasks, inside a transaction; store that they are being submitted, and what they take."""
    chosen = _choose(session, store, run, slots, at, most_new)
    tasks = [task for task, _ in chosen]
    new = [
        NewAttempt(task.id, task.attempts + 1, token, at, made_with(session, task, run.iteration))
        for task, token in chosen
    ]
    specs = [amended(task.spec, attempt.changes) for task, attempt in zip(tasks, new, strict=True)]
    rows = store.submit(new, run.iteration) if new else []
    if session.settings.made_from:
        taken = [(row, one) for row, spec in zip(rows, specs, strict=True) for one in inputs_of(spec, run.iteration)]
        if taken:
            store.add_inputs(taken)
    return [
        LiveAttempt(
            id=row,
            task=task.id,
            iteration=run.iteration,
            task_id=task.task_id,
            attempt=attempt.attempt,
            status=AttemptStatus.SUBMITTING,
            token=attempt.token,
            operator=task.operator,
            external_id=None,
            reason=None,
            submitted_at=at,
            started_at=None,
            task_status=TaskStatus.SUBMITTED,
            failures=task.failures,
            retries=task.retries,
            spec=spec,
        )
        for row, task, attempt, spec in zip(rows, tasks, new, specs, strict=True)
    ]


def _choose(
    session: Session, store: SQLiteStateStore, run: RunRecord, slots: Mapping[str, int], at: float, most_new: float
) -> list[tuple[ReadyTask, str]]:
    """Return the tasks to submit, with the tokens of their attempts; what they want of limits is reserved for these."""
    ready = {name: store.ready_tasks(name, free, at) for name, free in slots.items()}
    found = _with_wants(session, scheduling.choose(run.status, ready, slots, most_new), at)
    jobs = session.reservations.workspace.jobs
    wanted = [jobs.wants(task, wants) for task, _, wants in found]
    if not any(wanted):
        return [(task, token) for task, token, _ in found]
    kept: list[tuple[ReadyTask, str]] = []
    waiting: set[str] = set()
    reserved: dict[str, Wants] = {}
    with session.reservations.asking(run, at, wanted) as granting:
        short: frozenset[str] = frozenset()
        full = {name for name, page in ready.items() if len(page) == slots[name]}  # there may be more
        while True:
            for task, token, own in found:
                wants = jobs.wants(task, own)
                label = f"{run.iteration}.{task.task_id}.{task.attempts + 1}"
                if wants is None or granting.ask(token, label, wants):
                    kept.append((task, token))
                    if wants is not None:
                        reserved[token] = wants
                    jobs.note(task, token)
                else:
                    waiting.add(task.operator)
            used = Counter(task.operator for task, _ in kept)
            rooms = {name: free - used[name] for name, free in slots.items() if free > used[name]}
            # Behind those that wait there may be some that want nothing of what is short.
            behind = frozenset(waiting & rooms.keys() & full) - jobs.all_wait(granting.workspace.short)
            if granting.short <= short or not behind:
                break
            short = granting.short
            looked_at = (store.last_event(), short, behind)
            if session.reservations.nothing_behind(looked_at, at):
                break
            seen = {task.id for task, _ in kept}
            pages = {name: _behind(session, store, name, slots[name], at, granting) for name in behind}
            full = {name for name, page in pages.items() if len(page) == slots[name]}
            ready = {name: [task for task in page if task.id not in seen] for name, page in pages.items()}
            if not any(ready.values()):
                session.reservations.note_nothing_behind(looked_at, at)
                break
            begun = sum(not task.attempts for task, _ in kept)
            chosen = scheduling.choose(run.status, ready, rooms, most_new - begun)
            found = _with_wants(session, chosen, at)
    lost = {token for token, wants in reserved.items() if not granting.stands(wants)}
    stands = [(task, token) for task, token in kept if lost.isdisjoint((token, jobs.leaders.get(token)))]
    used, chosen_of = (Counter(task.operator for task, _ in some) for some in (stands, kept))
    waiting |= {name for name in chosen_of if used[name] < chosen_of[name]}
    session.reservations.starved |= {name for name in waiting if used[name] < slots[name]}
    return stands


def _with_wants(session: Session, tasks: Iterable[ReadyTask], at: float) -> list[tuple[ReadyTask, str, Wants | None]]:
    """Return tasks, each with a token for its next attempt, and with what that wants of limits."""
    counting = session.reservations.counting
    return [(task, _token(at), wants_of(task, counting.get(task.operator))) for task in tasks]


def _behind(
    session: Session, store: SQLiteStateStore, operator: str, most: int, at: float, granting: Grants
) -> list[ReadyTask]:
    """Return ready tasks of an operator that want nothing of what is short."""
    short = granting.machine.short if operator in session.reservations.counting else ()
    if CPUS in short:
        return []  # each takes one at least
    fields = [FIELDS[name] for name in FIELDS if name in short]
    return store.ready_tasks(operator, most, at, granting.workspace.short, fields)


def _token(at: float) -> str:
    """Return a name that no other attempt has: 64 random bits make it so.

    The time before them makes tokens of one tick neighbours in the store's index, so that a tick writes one page of it
    and not one for each.
    """
    return f"ms-{int(at * 1000) & 0xFFFF_FFFF_FFFF:012x}{os.urandom(8).hex()}"
