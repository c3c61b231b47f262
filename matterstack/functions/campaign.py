"""The strategy of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from matterstack.core.results import TaskResult
from matterstack.functions.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Update:
    """What a campaign makes of results while other tasks still run; see `Campaign.update`.

    Parameters
    ----------
    state : JSON value
        The new state.
    add : Workflow, optional
        More tasks of the same iteration. They may depend on those that are there already, and may take what these give.
    cancel : sequence of str
        Tasks that are under way, or wait, and are not wanted any more.
    """

    state: Any
    add: Workflow | None = None
    cancel: Sequence[str] = ()


class Campaign:
    """Plan, run, analyze, plan again: subclass it and say how.

    ``state`` is the campaign's own data: any JSON value. It is stored with the run, so
    that another kernel goes on where this one stopped; keep nothing else between calls.
    ``plan``, ``update`` and ``analyze`` may be called again after a crash, before their effects were
    stored: let them compute, and leave acting to tasks.

    A campaign that defines ``update`` **streams**: it is asked as soon as a task ends, and need not wait for the
    slowest one. It says in ``at_once`` how many tasks it keeps unfinished; without a ``plan``, its one iteration
    begins empty.

    Attributes
    ----------
    at_once : int
        Of a campaign that streams: it is asked for more while fewer tasks than that are unfinished.
    target : mapping of str to {'max', 'min'}
        Columns of ``run.results`` that shall be large or small, as in ``{"strength": "max"}``; with several, what no
        other result beats is the best. It is kept with the run when that is made, and ``run.watch()`` shows the best
        so far to whoever opens it; nothing is decided by it.

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

    at_once: int
    target: Mapping[str, str] = MappingProxyType({})

    def initial_state(self) -> Any:
        """Return the state before the first plan; ``{}`` unless you say otherwise."""
        return {}

    def plan(self, state: Any) -> Workflow | None:
        """Return the next workflow, or None when the campaign is done.

        Parameters
        ----------
        state : Any
            The campaign's own data, after the last ``analyze``.
        """
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

    def update(
        self, state: Any, results: Mapping[str, TaskResult], live: Mapping[str, Mapping[str, Any]]
    ) -> Update | None:
        """Return what follows from results that came in while other tasks still run; None for nothing yet.

        It is called when an iteration begins, and whenever a task of it has ended and fewer than ``at_once`` are
        unfinished. The new state, which results were taken, and the tasks that it adds are stored together: killed
        before, it is called again; killed after, these results are taken, and do not come again. After None they do,
        with the next that ends. When nothing is unfinished and it returns None, the iteration ends: ``analyze``, then
        ``plan``.

        Parameters
        ----------
        state : JSON value
            As ``plan`` or the last update left it.
        results : mapping of str to TaskResult
            Tasks that are over and were not taken yet, by id, in the order of the plan; failed ones among them, which
            do not fail the run.
        live : mapping of str to mapping
            The parameters of each task that is unfinished: of a call its arguments by name, of an experiment its
            ``parameters``.

        Examples
        --------
        >>> import matterstack as ms
        >>> class Optimise(ms.Campaign):
        ...     at_once = 4
        ...     def initial_state(self):
        ...         return {"seen": []}
        ...     def update(self, state, results, live):
        ...         seen = state["seen"] + [{**one.parameters, "y": one.data.get("y")} for one in results.values()]
        ...         number = len(seen) + len(live)
        ...         if number >= 60:
        ...             return ms.Update({"seen": seen})
        ...         more = ms.Workflow()
        ...         for n in range(number, number + self.at_once - len(live)):
        ...             more.add_task(ms.Task(f"print-{n}", operator="experiment", parameters={"x": n / 60}))
        ...         return ms.Update({"seen": seen}, add=more)
        """
        return None


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
