"""From what a campaign says to what the store keeps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from matterstack.core.results import TaskResult
from matterstack.core.strict_json import dump_json, to_text
from matterstack.core.task import Task
from matterstack.errors import CampaignError, InvalidTaskError
from matterstack.functions.campaign import Campaign
from matterstack.functions.workflow import Workflow
from matterstack.operators.base import Operator
from matterstack.orchestration.capture import place_of
from matterstack.orchestration.intake import Intake
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

#: A task, the ids it waits for, and its specification as JSON text.
PlannedTask = tuple[Task, tuple[str, ...], str]


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
    workflow = campaign.plan(json.loads(state_text))
    if workflow is None:
        return None
    if not isinstance(workflow, Workflow):
        raise CampaignError(
            f"{_named(campaign.plan)}, returned a {type(workflow).__name__}, and not a Workflow or None"
        )
    workflow.check(operators)
    planned = []
    intake = Intake(directory, reader)

    def is_call(task_id: str) -> bool:
        return workflow[task_id].call is not None

    for task in workflow:
        operators[task.operator].check_task(task)
        if task.show and not operators[task.operator].traits.by_people:
            raise InvalidTaskError(
                f"task {task.task_id!r}: show= is for what a person looks at, and the operator {task.operator!r} asks "
                "nobody; files= brings files to a command",
                task_id=task.task_id,
            )
        spec = intake.specification(task, is_call)
        # The edges are rows of their own.
        del spec["task_id"]
        spec.pop("dependencies", None)
        planned.append((task, task.upstream, to_text(spec)))
    return planned


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
