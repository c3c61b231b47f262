"""The end of an iteration: analyze, the next plan, or the end of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matterstack.core.changes import RunChange
from matterstack.core.results import TaskResult
from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.core.states import RunEvent
from matterstack.crash_points import reach
from matterstack.orchestration import campaign_calls as planning
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration.capture import capture, describe_from_users_line
from matterstack.orchestration.decisions import Conclusion
from matterstack.orchestration.outcomes import LeftBehind
from matterstack.orchestration.session import Session
from matterstack.storage.reader import StoreReader

#: How the reason of a run begins whose campaign raised.
CAMPAIGN_FAILED = "the campaign could not go on"


class Concluded(NamedTuple):
    """What an iteration came to.

    Attributes
    ----------
    change : RunChange or None
        A move of the run.
    campaign_state : str or None
        The campaign's new state as JSON text, where the iteration was analyzed.
    planned : sequence of PlannedTask or None
        The next iteration, where there is one.
    wants_campaign : bool
        The campaign that has to analyze was not given.
    """

    change: RunChange | None = None
    campaign_state: str | None = None
    planned: Sequence[planning.PlannedTask] | None = None
    wants_campaign: bool = False


def conclude(session: Session, reader: StoreReader, run: RunRecord, counts: IterationCounts, at: float) -> Concluded:
    """Return what follows from where the iteration stands; nothing, as long as a task is unfinished.

    Parameters
    ----------
    session : Session
    reader : StoreReader
    run : RunRecord
        As it stands now.
    counts : IterationCounts
        Of its current iteration, now.
    at : float
        Seconds since the Unix epoch.
    """
    lost = reader.failed_for_good(run.iteration) if counts.failed and not counts.unfinished else []
    match scheduling.conclude(run.status, counts, failed_for_good=len(lost)):
        case Conclusion.FAIL:
            names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
            return Concluded(RunChange(run.status, RunEvent.FAIL, at, f"failed tasks: {names}"))
        case Conclusion.ANALYZE:
            return _analyze(session, reader, run, at)
    return Concluded()


def _analyze(session: Session, reader: StoreReader, run: RunRecord, at: float) -> Concluded:
    results = _results(session, reader, run.iteration)
    with capture() as caught:
        campaign = session.load_campaign()
        if campaign is not None:
            state = planning.analyze(campaign, run.campaign_state, results)
            planned = planning.plan(campaign, state, session.operators, session.directory, reader)
    reach("analyze.planned")
    if caught.error is not None:
        why = f"{CAMPAIGN_FAILED}: {describe_from_users_line(caught.error)}"
        return Concluded(RunChange(run.status, RunEvent.PAUSE, at, why))
    if campaign is None:
        return Concluded(wants_campaign=True)
    change = RunChange(run.status, RunEvent.COMPLETE, at) if planned is None else None
    return Concluded(change, state, planned)


def _results(session: Session, reader: StoreReader, iteration: int) -> dict[str, TaskResult]:
    rows = reader.results(iteration)
    folders = {operator: session.results_folder(operator) for operator in {row.operator for row in rows}}

    left = LeftBehind(session, iteration)

    def directory(operator: str, name: str) -> Path:
        # One text, since there is one for each task.
        return Path(f"{session.directory.path}/operators/{operator}/{name}/{folders[operator]}")

    return {
        task_id: TaskResult(
            task_id,
            status,
            json.loads(data) if data and data != "{}" else {},
            directory(operator, f"{iteration}.{task_id}.{attempts}") if attempts else None,
            reason,
            left,
        )
        for task_id, status, operator, attempts, reason, data in rows
    }
