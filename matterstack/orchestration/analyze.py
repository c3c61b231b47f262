"""The end of an iteration: analyze, the next plan, or the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matterstack.core.changes import RunChange
from matterstack.core.snapshot import IterationCounts, RunRecord
from matterstack.core.states import RunEvent, RunStatus
from matterstack.crash_points import reach
from matterstack.orchestration import campaign_calls as planning
from matterstack.orchestration import decisions as scheduling
from matterstack.orchestration import updates
from matterstack.orchestration.capture import capture, describe_from_users_line
from matterstack.orchestration.decisions import Conclusion
from matterstack.orchestration.outcomes import task_results
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
    places : int or None
        Of a campaign that streams: how many tasks it keeps unfinished in the next iteration.
    updated : Updated or None
        What such a one made of the results of some tasks, in the same iteration.
    """

    change: RunChange | None = None
    campaign_state: str | None = None
    planned: Sequence[planning.PlannedTask] | None = None
    wants_campaign: bool = False
    places: int | None = None
    updated: updates.Updated | None = None

    @property
    def follows(self) -> bool:
        """Whether there are more tasks by it."""
        return bool(self.planned) or (self.updated is not None and bool(self.updated.tasks))


def conclude(session: Session, reader: StoreReader, run: RunRecord, counts: IterationCounts, at: float) -> Concluded:
    """Return what follows from where the iteration stands.

    Nothing, as long as a task is unfinished, unless the campaign streams, and is to be asked.

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
    stream = session.stream(reader, run.iteration) if run.status is RunStatus.RUNNING else None
    if stream is not None and updates.is_due(session, reader, run.iteration, counts, stream):
        said = _update(session, reader, run, at, ends=not counts.unfinished)
        if isinstance(said, Concluded):
            return said
        run = said
    lost = reader.failed_for_good(run.iteration) if counts.failed and not counts.unfinished else []
    match scheduling.conclude(run.status, counts, failed_for_good=len(lost)):
        case Conclusion.FAIL:
            names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
            return Concluded(RunChange(run.status, RunEvent.FAIL, at, f"failed tasks: {names}"))
        case Conclusion.ANALYZE:
            return _analyze(session, reader, run, at)
    return Concluded()


def _update(session: Session, reader: StoreReader, run: RunRecord, at: float, *, ends: bool) -> Concluded | RunRecord:
    """Return what a campaign that streams makes of new results; where its iteration ends, the run as it is then.

    Nothing is unfinished then, and it neither took nor added nor cancelled anything: it would be asked for ever.
    """
    with capture() as caught:
        campaign = session.load_campaign()
        updated = None if campaign is None else updates.ask(session, reader, run, campaign)
    reach("update.asked")
    if caught.error is not None:
        return _paused(run, caught.error, at)
    if updated is None:
        return Concluded(wants_campaign=ends)
    if ends and not (updated.taken or updated.tasks or updated.cancelled):
        return run if updated.state is None else run._replace(campaign_state=updated.state)
    return Concluded(updated=updated)


def _paused(run: RunRecord, error: Exception | SystemExit, at: float) -> Concluded:
    """Return the pause of a run whose campaign raised, with the line of it that did."""
    why = f"{CAMPAIGN_FAILED}: {describe_from_users_line(error)}"
    return Concluded(RunChange(run.status, RunEvent.PAUSE, at, why))


def _analyze(session: Session, reader: StoreReader, run: RunRecord, at: float) -> Concluded:
    results = task_results(session, run.iteration, reader.results(run.iteration))
    with capture() as caught:
        campaign = session.load_campaign()
        if campaign is not None:
            state = planning.analyze(campaign, run.campaign_state, results)
            planned = planning.plan(campaign, state, session.operators, session.directory, reader, begins=False)
    reach("analyze.planned")
    if caught.error is not None:
        return _paused(run, caught.error, at)
    if campaign is None:
        return Concluded(wants_campaign=True)
    change = RunChange(run.status, RunEvent.COMPLETE, at) if planned is None else None
    places = None if planned is None else planning.places_of(campaign)
    return Concluded(change, state, planned, places=places)
