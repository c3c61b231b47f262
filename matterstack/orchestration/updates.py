"""Updates of a campaign that streams: when it is asked, what it is shown, and what its answer comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matterstack.core.changes import TaskChange
from matterstack.core.snapshot import IterationCounts, RunRecord, Stream
from matterstack.core.states import TaskEvent, TaskStatus
from matterstack.functions.campaign import Campaign
from matterstack.orchestration import campaign_calls as planning
from matterstack.orchestration.changes import KEEPS_FROM_STARTING, apply_with_skips
from matterstack.orchestration.outcomes import task_results
from matterstack.orchestration.parameters import parameters_of
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader
from matterstack.storage.state_store import SQLiteStateStore

_CANCELLED = "the campaign wants it no more"
_WORDS = {
    TaskStatus.FAILED: KEEPS_FROM_STARTING[TaskEvent.FAIL],
    TaskStatus.SKIPPED: KEEPS_FROM_STARTING[TaskEvent.SKIP],
    TaskStatus.CANCELLED: KEEPS_FROM_STARTING[TaskEvent.CANCEL],
}


class Updated(NamedTuple):
    """What an answer of a campaign comes to.

    Attributes
    ----------
    asked : int
        The last event when it was asked.
    places : int
        How many tasks it keeps unfinished.
    state : str or None
        Its new state as JSON text; None where nothing follows yet.
    taken : sequence of int
        The rows of the tasks whose results it took.
    tasks : sequence of PlannedTask
        What it adds.
    there : mapping of str to int
        The rows of tasks that those name, and the iteration has already.
    cancelled : sequence of (int, TaskStatus)
        The rows of what it cancels, and how they stand.
    """

    asked: int
    places: int
    state: str | None = None
    taken: Sequence[int] = ()
    tasks: Sequence[planning.PlannedTask] = ()
    there: Mapping[str, int] = {}
    cancelled: Sequence[tuple[int, TaskStatus]] = ()


def is_due(session: Session, reader: StoreReader, iteration: int, counts: IterationCounts, stream: Stream) -> bool:
    """Return whether a campaign that streams is asked now: nothing is unfinished, or there is news and a place free."""
    if not counts.unfinished:
        return True
    places = stream.places
    if session.campaign is not None:  # it may say otherwise than when it was asked last
        places = planning.places_of(session.campaign) or places
    if counts.unfinished >= places:
        return False
    return stream.asked is None or reader.ended_since(iteration, stream.asked)


def ask(session: Session, reader: StoreReader, run: RunRecord, campaign: Campaign) -> Updated:
    """Ask a campaign what follows from the results that it has not taken.

    Raises
    ------
    CampaignError, WorkflowError
        What it answered cannot be used.
    """
    asked = reader.last_event()
    places = planning.places_of(campaign) or 1
    untaken = reader.untaken(run.iteration)
    live = reader.under_way(run.iteration)
    update = planning.update(
        campaign,
        run.campaign_state,
        task_results(session, run.iteration, [one.result for one in untaken]),
        {name: parameters_of(session, json.loads(spec)) for _, name, _, spec in live},
    )
    if update is None:
        return Updated(asked, places)
    state = planning.state_of_update(campaign, update)
    cancelled = planning.cancelled_by(campaign, update, {name: (row, status) for row, name, status, _ in live})
    tasks, there = planning.added_by(campaign, update, session.operators, session.directory, reader, run.iteration)
    if not (untaken or cancelled or tasks) and json.loads(state) == json.loads(run.campaign_state):
        return Updated(asked, places)  # it says that it is done, in other words
    return Updated(asked, places, state, [one.id for one in untaken], tasks, there, cancelled)


def write(store: SQLiteStateStore, run: RunRecord, updated: Updated, at: float) -> None:
    """Store all that an answer comes to, inside a transaction."""
    if updated.state is not None:
        store.take(updated.taken, updated.state)
        rows = store.add_tasks(run.iteration, updated.tasks, updated.there) if updated.tasks else []
        cancels = [TaskChange(row, status, TaskEvent.CANCEL, at, _CANCELLED) for row, status in updated.cancelled]
        apply_with_skips(store, cancels, run.iteration)
        skips = {
            task: TaskChange(
                task, TaskStatus.PENDING, TaskEvent.SKIP, at, f"{store.task_name(culprit)} {_WORDS[status]}"
            )
            for task, culprit, status in reversed(store.hopeless(rows))
        }
        apply_with_skips(store, list(skips.values()), run.iteration)
        numbers = {"taken": len(updated.taken), "added": len(updated.tasks), "cancelled": len(updated.cancelled)}
        said = ", ".join(f"{word} {number}" for word, number in numbers.items() if number) or "a new state"
        store.note_update(at, str(run.status), said, json.dumps(numbers))
    store.note_asked(run.iteration, updated.asked, updated.places)
