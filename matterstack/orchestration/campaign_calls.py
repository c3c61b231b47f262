"""From what a campaign says to what the store keeps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from matterstack.core.results import TaskResult
from matterstack.core.strict_json import dump_json, to_text
from matterstack.core.task import Task
from matterstack.errors import CampaignError
from matterstack.functions.campaign import Campaign
from matterstack.functions.workflow import Workflow
from matterstack.operators.base import Operator
from matterstack.orchestration.capture import place_of
from matterstack.orchestration.findings import check
from matterstack.orchestration.intake import Intake
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: A task, the ids it waits for, and its specification as JSON text.
PlannedTask = tuple[Task, tuple[str, ...], str]
_ROWS = frozenset({"task_id", "dependencies"})


def plan(
    campaign: Campaign,
    state_text: str,
    operators: Mapping[str, Operator],
    directory: RunDirectory,
    reader: StoreReader | None = None,
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
    workflow = next_workflow(campaign, state_text)
    return None if workflow is None else taken_in(workflow, operators, Intake(directory, reader))


def taken_in(workflow: Workflow, operators: Mapping[str, Operator], intake: Intake) -> list[PlannedTask]:
    """Check a workflow whole, and return what the store keeps of it.

    Raises
    ------
    WorkflowError
        The workflow cannot be run.
    """
    planned = []
    for checked in check(workflow, operators, intake):
        for finding in checked.findings:
            if finding.error is not None:
                raise finding.error
        if checked.task is not None:
            # The edges are rows of their own.
            spec = {name: said for name, said in checked.specification.items() if name not in _ROWS}
            planned.append((checked.task, checked.task.upstream, to_text(spec)))
    return planned


def next_workflow(campaign: Campaign, state_text: str) -> Workflow | None:
    """Ask the campaign for its next workflow; None when it is done.

    Raises
    ------
    CampaignError
        ``plan`` returned something else than a workflow.
    """
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


def _named(method: Callable[..., Any]) -> str:
    """Return the method of a campaign, and where it was written."""
    return f"{method.__qualname__}, {place_of(inspect.unwrap(method).__code__)}"
