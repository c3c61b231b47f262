"""The directed acyclic graph that tasks form: of commands, requests, and calls of functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from matterstack.core.calls import Program, Reference
from matterstack.core.identifiers import MAX_LENGTH
from matterstack.core.task import Task, path_of_run
from matterstack.core.text import did_you_mean
from matterstack.errors import (
    CollidingTaskError,
    CyclicWorkflowError,
    DuplicateTaskError,
    InvalidTaskError,
    UnknownDependencyError,
    UnknownOperatorError,
    WorkflowError,
)

if TYPE_CHECKING:
    import networkx

_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")
_NEGATIVE = re.compile(r"-[0-9.]")


class Workflow:
    """A directed acyclic graph of tasks.

    Parameters
    ----------
    tasks : sequence of Task
        Tasks to begin with, as by `add_task`.

    Examples
    --------
    >>> from matterstack.core.task import Task
    >>> workflow = Workflow().add_task(Task("relax", "true")).add_task(Task("band", "true", dependencies=["relax"]))
    >>> len(workflow), list(workflow.graph.edges)
    (2, [('relax', 'band')])

    A call of a Python function is a task, too; what it will return is put where it shall go:

    >>> from statistics import geometric_mean  # any function that Python can find the source of
    >>> workflow = Workflow()
    >>> means = workflow.map(geometric_mean, {"small": [1, 2], "large": [4, 8]})
    >>> workflow.add("all", geometric_mean, list(means.values()))
    Reference(task_id='all', path=(), iteration=None, run=None)
    """

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        self._tasks: dict[str, Task] = {}
        self._folded: dict[str, str] = {}
        self._programs: dict[Any, Program] = {}
        self._maps: set[str] = set()
        for task in tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> Workflow:
        """Add a task and return the workflow, so that calls chain.

        Parameters
        ----------
        task : Task
            Its id has to be new in the workflow.

        Returns
        -------
        Workflow
            The workflow itself.

        Raises
        ------
        InvalidTaskError
            It is no `Task`.
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

    def add(self, task_id: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Reference:
        """Add the call of a function as a task.

        Parameters
        ----------
        task_id : str
            Its id.
        function : callable
            A plain function, or one with options of its tasks (`matterstack.task`).
        *args, **kwargs
            Its arguments. A `Reference`, also in a list, tuple, set or dict, stands for what that task will return.

        Returns
        -------
        Reference
            To what it will return.

        Raises
        ------
        InvalidTaskError
            The arguments do not fit the function, or one cannot be written down.
        FunctionSourceError
            The function, or something that it uses, cannot be written down.
        """
        from matterstack.functions.calls import task_of_call

        self.add_task(task_of_call(task_id, function, args, kwargs, self._programs))
        return Reference(task_id)

    def map(
        self,
        function: Callable[..., Any],
        items: Mapping[Any, Any] | Iterable[Any],
        /,
        *args: Any,
        name: str | None = None,
        **kwargs: Any,
    ) -> dict[Any, Reference]:
        """Add a call of a function for each item: tasks ``<name>-<key>``.

        Parameters
        ----------
        function : callable
            As in `add`; options are given by `Function.with_options`.
        items : mapping, or iterable
            The first argument of each call, by key; the keys of an iterable are 0, 1, 2, ... A key that is no id,
            such as ``Li(CoO2)``, is made one.
        *args
            Further arguments, the same for all.
        name : str, optional
            How the ids begin; by default as the function is called, with a number where the workflow has a map of
            that name already.
        **kwargs
            Further arguments by name, the same for all.

        Returns
        -------
        dict of Reference
            By the keys as they were given.

        Raises
        ------
        DuplicateTaskError, CollidingTaskError
            Two keys make one id.
        InvalidTaskError, FunctionSourceError
            As of `add`.
        """
        from matterstack.functions.function import Function

        if isinstance(items, str | bytes):
            raise InvalidTaskError(f"map takes a dict or a list of items, and not the text {items!r}")
        if hasattr(items, "columns"):  # to go over a DataFrame gives the names of its columns
            raise InvalidTaskError(
                'map takes a dict or a list of items, and not a table; for its rows: table.to_dict("index")'
            )
        given = items if isinstance(items, Mapping) else dict(enumerate(items))
        known = function if isinstance(function, Function) else Function(function, {})
        stem = self._new_stem(as_id(getattr(function, "__name__", "call"))) if name is None else name
        self._maps.add(stem)
        if "group" not in known.options:
            known = known.with_options(group=stem)
        ids: dict[str, Any] = {}
        for key in given:
            task_id = f"{stem}-{as_id(_text_of(key))}"[:MAX_LENGTH]
            if task_id in ids:
                raise DuplicateTaskError(
                    f"the keys {ids[task_id]!r} and {key!r} both make the task id {task_id!r}: rename one of them"
                )
            ids[task_id] = key
        return {key: self.add(task_id, known, given[key], *args, **kwargs) for task_id, key in ids.items()}

    def _new_stem(self, stem: str) -> str:
        number, found = 1, stem
        while found in self._maps:
            number += 1
            found = f"{stem}-{number}"
        return found

    def reference(self, task_id: str, *, iteration: int | None = None, run: Any = None) -> Reference:
        """Return a reference to what any task gives: a call its value, all others their data.

        Parameters
        ----------
        task_id : str
            A person's answer, an instrument's result, the ``result.json`` of a command, the value of a call.
        iteration : int, optional
            Of an earlier iteration of the run; by default of the one that is planned.
        run : Run or path-like, optional
            Of another run: taken in when the workflow is planned. Without ``iteration``, of the last one that has
            the task.

        Examples
        --------
        >>> Workflow().reference("pick")["metals"]
        Reference(task_id='pick', path=('metals',), iteration=None, run=None)
        """
        return Reference(task_id, (), iteration, path_of_run(run))

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
        """A new networkx graph: a node per task (attribute ``task``), edges from dependency to dependant."""
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
        for _, problem in self.problems(operators):
            raise problem

    def problems(
        self, operators: Mapping[str, object] | None = None, there: Container[str] = ()
    ) -> Iterator[tuple[str | None, WorkflowError]]:
        """Yield all that `check` would raise, with the task whose fault it is; None where it is that of several.

        Parameters
        ----------
        operators : mapping, optional
            As in `check`.
        there : container of str
            Tasks that the workflow is added to, and may depend on.

        Yields
        ------
        tuple of (str or None, WorkflowError)
            The task, and what is wrong with it.
        """
        before: set[str] = set()
        ordered = True
        for task in self:
            if operators is not None and task.operator not in operators:
                given = ", ".join(sorted(operators)) or "none"
                problem = UnknownOperatorError(
                    f"task {task.task_id!r} wants the operator {task.operator!r}, which the run was not given "
                    f"(it has: {given}){did_you_mean(task.operator, operators)}; "
                    f"pass operators={{{task.operator!r}: ...}}"
                )
                yield task.task_id, problem
            for other in task.upstream:
                if other in there and other not in self._tasks:
                    continue
                if other not in self._tasks:
                    hint = did_you_mean(other, self._tasks)
                    text = f"task {task.task_id!r} depends on {other!r}, which is not in the workflow{hint}"
                    yield task.task_id, UnknownDependencyError(text)
                ordered = ordered and other in before
            before.add(task.task_id)
        # Tasks that were added after all they depend on can hold no cycle.
        if not ordered and (cycle := self._cycle()) is not None:
            yield None, cycle

    def _cycle(self) -> CyclicWorkflowError | None:
        try:
            TopologicalSorter({task.task_id: task.upstream for task in self}).prepare()
        except CycleError as error:
            path = error.args[1]
            shown = path if len(path) <= 12 else [*path[:6], "...", *path[-5:]]
            return CyclicWorkflowError(
                f"these tasks wait for each other: {' -> '.join(shown)} (each must end before the next)"
            )
        return None


def as_id(text: str) -> str:
    """Return a text as a part of a task's id: what an id may not hold becomes a dash.

    Examples
    --------
    >>> as_id("Li(CoO2)"), as_id("Fe₂O₃"), as_id("-0.5")
    ('Li-CoO2', 'Fe2O3', '-0.5')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    found = _NOT_OF_AN_ID.sub("-", plain).rstrip("-._")
    return (found if _NEGATIVE.match(found) else found.lstrip("-._")) or "x"


def _text_of(key: Any) -> str:
    return "-".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
