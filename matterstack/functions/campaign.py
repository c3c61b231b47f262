"""The strategy of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matterstack.core.results import TaskResult
from matterstack.functions.workflow import Workflow


class Campaign:
    """Plan, run, analyze, plan again: subclass it and say how.

    ``state`` is the campaign's own data: any JSON value. It is stored with the run, so
    that another kernel goes on where this one stopped; keep nothing else between calls.
    ``plan`` and ``analyze`` may be called again after a crash, before their effects were
    stored: let them compute, and leave acting to tasks.

    Examples
    --------
    >>> from matterstack import Campaign, Task, Workflow
    >>> class Twice(Campaign):
    ...     def plan(self, state):
    ...         return Workflow([Task("go", "true")]) if state["round"] < 2 else None
    ...     def analyze(self, state, results):
    ...         return {"round": state["round"] + 1}
    ...     def initial_state(self):
    ...         return {"round": 0}
    """

    def initial_state(self) -> Any:
        """Return the state before the first plan; ``{}`` unless you say otherwise."""
        return {}

    def plan(self, state: Any) -> Workflow | None:
        """Return the next workflow, or None when the campaign is done."""
        raise NotImplementedError(f"{type(self).__name__} needs a plan(state) that returns a Workflow or None")

    def analyze(self, state: Any, results: Mapping[str, TaskResult]) -> Any:
        """Return the new state, given what the tasks of the iteration gave.

        Parameters
        ----------
        state : JSON value
            The state the iteration was planned from.
        results : mapping of str to TaskResult
            Every task of the iteration by id, also those that failed or were skipped.
        """
        return state


class SingleWorkflow(Campaign):
    """The campaign of a run that was given one workflow: plan it, then stop."""

    def __init__(self, workflow: Workflow | None = None) -> None:
        self._workflow = workflow

    def initial_state(self) -> Any:
        """Return the state of a campaign whose workflow is still to be planned."""
        return {"planned": False}

    def plan(self, state: Any) -> Workflow | None:
        """Return the workflow the first time, then None."""
        return None if state["planned"] else self._workflow

    def analyze(self, state: Any, results: Mapping[str, TaskResult]) -> Any:
        """Note that the workflow has been run."""
        return {"planned": True}
