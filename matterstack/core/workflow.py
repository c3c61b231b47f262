"""The directed acyclic graph that tasks form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from matterstack.core.task import Task
from matterstack.core.text import did_you_mean
from matterstack.errors import (
    CollidingTaskError,
    CyclicWorkflowError,
    DuplicateTaskError,
    InvalidTaskError,
    UnknownDependencyError,
    UnknownOperatorError,
)

if TYPE_CHECKING:
    import networkx


class Workflow:
    """A directed acyclic graph of tasks.

    Examples
    --------
    >>> from matterstack.core.task import Task
    >>> workflow = Workflow().add_task(Task("relax", "true")).add_task(Task("band", "true", dependencies=["relax"]))
    >>> len(workflow), list(workflow.graph.edges)
    (2, [('relax', 'band')])
    """

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        self._tasks: dict[str, Task] = {}
        self._folded: dict[str, str] = {}
        for task in tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Workflow:
        """Add a task and return the workflow, so that calls chain.

        Raises
        ------
        DuplicateTaskError
            The id is taken.
        CollidingTaskError
            The id differs from another in case only.
        """
        if not isinstance(task, Task):
            raise InvalidTaskError(f"add_task takes a Task, not {task!r}")
        folded = task.task_id.casefold()
        known = self._folded.setdefault(folded, task.task_id)
        if task.task_id in self._tasks:
            raise DuplicateTaskError(f"there is a task {task.task_id!r} already: every task_id is used once")
        if known != task.task_id:
            raise CollidingTaskError(
                f"task ids {known!r} and {task.task_id!r} differ only in case; their directories would collide on "
                "some file systems: rename one"
            )
        self._tasks[task.task_id] = task
        return self

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._tasks

    def __getitem__(self, task_id: str) -> Task:
        return self._tasks[task_id]

    def __repr__(self) -> str:
        edges = sum(len(task.upstream) for task in self)
        return f"<Workflow of {len(self)} tasks, {edges} dependencies>"

    @property
    def graph(self) -> networkx.DiGraph[str]:
        """A new networkx graph: a node a task (attribute ``task``), edges from dependency to dependant."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from((task.task_id, {"task": task}) for task in self)
        graph.add_edges_from((upstream, task.task_id) for task in self for upstream in task.upstream)
        return graph

    def check(self, operators: Mapping[str, object] | None = None) -> None:
        """Check the graph whole, before anything starts.

        Parameters
        ----------
        operators : mapping, optional
            The operators of the run, by name; without it, operators are not checked.

        Raises
        ------
        UnknownDependencyError, CyclicWorkflowError, UnknownOperatorError
            Naming the culprit.
        """
        before: set[str] = set()
        ordered = True
        for task in self:
            if operators is not None and task.operator not in operators:
                given = ", ".join(sorted(operators)) or "none"
                raise UnknownOperatorError(
                    f"task {task.task_id!r} wants the operator {task.operator!r}, which the run was not given "
                    f"(it has: {given}){did_you_mean(task.operator, operators)}; "
                    f"pass operators={{{task.operator!r}: ...}}"
                )
            upstream = task.upstream
            for other in upstream:
                if other not in self._tasks:
                    raise UnknownDependencyError(
                        f"task {task.task_id!r} depends on {other!r}, which is not in the workflow"
                        + did_you_mean(other, self._tasks)
                    )
                ordered = ordered and other in before
            before.add(task.task_id)
        # Tasks that were added after all they depend on can hold no cycle.
        if not ordered:
            self._check_cycles()

    def _check_cycles(self) -> None:
        try:
            TopologicalSorter({task.task_id: task.upstream for task in self}).prepare()
        except CycleError as error:
            path = error.args[1]
            shown = path if len(path) <= 12 else [*path[:6], "...", *path[-5:]]
            raise CyclicWorkflowError(
                f"these tasks wait for each other: {' -> '.join(shown)} (each must end before the next)"
            ) from None
