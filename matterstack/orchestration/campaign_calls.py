"""From what a campaign says to what the store keeps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from matterstack.core.results import TaskResult
from matterstack.core.states import TaskStatus
from matterstack.core.strict_json import dump_json, to_text
from matterstack.core.task import Task
from matterstack.core.text import did_you_mean
from matterstack.errors import CampaignError, CollidingTaskError, DuplicateTaskError
from matterstack.functions.campaign import Campaign, Update
from matterstack.functions.workflow import Workflow
from matterstack.operators.base import Operator
from matterstack.orchestration.capture import place_of
from matterstack.orchestration.findings import check
from matterstack.orchestration.intake import Intake
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: A task, the ids it waits for, and its specification as JSON text.
PlannedTask = tuple[Task, tuple[str, ...], str]
#: The row of a task, and how it stands.
_Stands = tuple[int, TaskStatus]
_ROWS = frozenset({"task_id", "dependencies"})


def plan(
    campaign: Campaign,
    state_text: str,
    operators: Mapping[str, Operator],
    directory: RunDirectory,
    reader: StoreReader | None = None,
    *,
    begins: bool,
) -> list[PlannedTask] | None:
    """Ask the campaign for its next workflow, check it whole, and take its files into the run.

    Parameters
    ----------
    campaign : Campaign
    state_text : str
        The campaign's state as JSON text; it gets a copy of its own.
    operators : mapping of str to Operator
        The operators of the run.
    directory : RunDirectory
        Where what comes from outside is kept.
    reader : StoreReader, optional
        Knows the iterations before; None before the first.
    begins : bool
        Whether the run begins, or goes on by a person's word; see `next_workflow`.

    Returns
    -------
    list of (Task, upstream ids, JSON text), or None
        None when the campaign is done.

    Raises
    ------
    CampaignError
        ``plan`` returned something else than a workflow.
    WorkflowError
        The workflow cannot be run.
    """
    workflow = next_workflow(campaign, state_text, begins=begins)
    return None if workflow is None else taken_in(workflow, operators, Intake(directory, reader), directory=directory)


def places_of(campaign: Campaign) -> int | None:
    """Return how many tasks a campaign that streams keeps unfinished; None of one that does not stream.

    Raises
    ------
    CampaignError
        It does not say how many.
    """
    if type(campaign).update is Campaign.update:
        return None
    at_once = getattr(campaign, "at_once", None)
    if not isinstance(at_once, int) or isinstance(at_once, bool) or at_once < 1:
        name = type(campaign).__name__
        said = "does not say" if at_once is None else f"says by at_once = {at_once!r}, which is no number from 1 on,"
        raise CampaignError(
            f"{name} has an update, so it streams, and {said} how many tasks it keeps unfinished: write at_once = 4, "
            f"say, in {name}"
        )
    return at_once


def taken_in(
    workflow: Workflow,
    operators: Mapping[str, Operator],
    intake: Intake,
    there: Mapping[str, bool] | None = None,
    directory: RunDirectory | None = None,
) -> list[PlannedTask]:
    """Check a workflow whole, and return what the store keeps of it.

    Parameters
    ----------
    workflow : Workflow
    operators : mapping of str to Operator
    intake : Intake
    there : mapping of str to bool, optional
        Tasks of its iteration that are there already, and whether they call functions.
    directory : RunDirectory, optional
        Of the run, for the limits of its workspace.

    Raises
    ------
    WorkflowError
        The workflow cannot be run.
    """
    planned = []
    for checked in check(workflow, operators, intake, there, directory=directory):
        for finding in checked.findings:
            if finding.error is not None:
                raise finding.error
        if checked.task is not None:
            # The edges are rows of their own.
            spec = {name: said for name, said in checked.specification.items() if name not in _ROWS}
            planned.append((checked.task, checked.task.upstream, to_text(spec)))
    return planned


def next_workflow(campaign: Campaign, state_text: str, *, begins: bool) -> Workflow | None:
    """Ask the campaign for its next workflow; None when it is done.

    One that streams and has no plan begins with nothing, and has no further iteration unless a person reopens the run.

    Raises
    ------
    CampaignError
        ``plan`` returned something else than a workflow.
    """
    if places_of(campaign) is not None and type(campaign).plan is Campaign.plan:
        return Workflow() if begins else None
    workflow = campaign.plan(json.loads(state_text))
    if not isinstance(workflow, Workflow | None):
        raise CampaignError(
            f"{_named(campaign.plan)}, returned a {type(workflow).__name__}, and not a Workflow or None"
        )
    return workflow


def analyze(campaign: Campaign, state_text: str, results: Mapping[str, TaskResult]) -> str:
    """Return the campaign's new state as JSON text.

    Raises
    ------
    CampaignError
        ``analyze`` returned nothing, where there was a state.
    InvalidJsonError
        The new state is not plain JSON data.
    """
    before: Any = json.loads(state_text)
    state: Any = campaign.analyze(before, results)
    if state is None and before is not None:
        raise CampaignError(f"{_named(campaign.analyze)}, returned nothing: it must return the new state")
    return dump_json(state, f"the state that {_named(campaign.analyze)}, returned", "state")


def update(
    campaign: Campaign,
    state_text: str,
    results: Mapping[str, TaskResult],
    live: Mapping[str, Mapping[str, Any]],
) -> Update | None:
    """Ask a campaign that streams what follows from new results; None for nothing yet.

    Raises
    ------
    CampaignError
        ``update`` returned something else than an Update.
    """
    said = campaign.update(json.loads(state_text), results, live)
    if said is None:
        return None
    if not isinstance(said, Update):
        raise CampaignError(
            f"{_named(campaign.update)}, returned a {type(said).__name__}, and not a matterstack.Update or None"
        )
    if not isinstance(said.add, Workflow | None):
        raise CampaignError(f"{_named(campaign.update)}: Update.add is a {type(said.add).__name__}, and no Workflow")
    # Of what can be gone through only once, this look would leave nothing to cancel.
    names = said.cancel if isinstance(said.cancel, Collection) and not isinstance(said.cancel, str) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise CampaignError(f"{_named(campaign.update)}: Update.cancel must be a list of task ids, not {said.cancel!r}")
    return said


def state_of_update(campaign: Campaign, said: Update) -> str:
    """Return the new state as JSON text.

    Raises
    ------
    InvalidJsonError
        It is not plain JSON data.
    """
    return dump_json(said.state, f"the state that {_named(campaign.update)}, returned", "state")


def cancelled_by(campaign: Campaign, said: Update, live: Mapping[str, _Stands]) -> list[_Stands]:
    """Return row and status of the tasks that an update cancels, each once.

    Raises
    ------
    CampaignError
        One is not unfinished.
    """
    for name in said.cancel:
        if name not in live:
            hint = did_you_mean(name, live)
            raise CampaignError(f"{_named(campaign.update)}, cancels {name!r}, which is not unfinished{hint}")
    return [live[name] for name in dict.fromkeys(said.cancel)]


def added_by(
    campaign: Campaign,
    said: Update,
    operators: Mapping[str, Operator],
    directory: RunDirectory,
    reader: StoreReader,
    iteration: int,
) -> tuple[list[PlannedTask], dict[str, int]]:
    """Check what an update adds, take its files into the run, and find the tasks that it builds on.

    Returns
    -------
    tasks : list of PlannedTask
    there : dict of int
        The rows of tasks of the iteration that these name.

    Raises
    ------
    WorkflowError
        It cannot be run, or has a task that is there already.
    """
    if said.add is None or not len(said.add):
        return [], {}
    named = {name for task in said.add for name in (task.task_id, *task.upstream)}
    there = reader.streamed(iteration, sorted(named))
    for task in said.add:
        if task.task_id.lower() not in there:
            continue
        known = there[task.task_id.lower()][1]
        where = f"{_named(campaign.update)}, adds a task {task.task_id!r}"
        if known == task.task_id:
            raise DuplicateTaskError(f"{where}, which iteration {iteration} has already: count on from what is there")
        raise CollidingTaskError(f"{where}, and iteration {iteration} has {known!r}, which differs only in case")
    calls = {name: is_call for _, name, is_call in there.values()}
    planned = taken_in(said.add, operators, Intake(directory, reader), calls, directory)
    return planned, {name: row for row, name, _ in there.values()}


def _named(method: Callable[..., Any]) -> str:
    """Return the method of a campaign, and where it was written."""
    return f"{method.__qualname__}, {place_of(inspect.unwrap(method).__code__)}"
