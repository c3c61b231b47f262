"""A preview of a run that is not made: its tasks, what is wrong with them, and what each would get."""

from __future__ import annotations

import shlex
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from matterstack.core.task import Task
from matterstack.core.text import did_you_mean, neutral
from matterstack.errors import RunStatusError, UnknownTaskError
from matterstack.functions.workflow import Workflow
from matterstack.notebook.board import Tasks
from matterstack.notebook.drawing import LONG_PAGE, Drawing, Shape
from matterstack.notebook.still import drawing_html
from matterstack.operators.base import Operator
from matterstack.orchestration.findings import Finding
from matterstack.orchestration.rehearsal import RehearsedFile, rehearse, would_be_cached

if TYPE_CHECKING:
    import networkx
    import pandas as pd

    from matterstack.cache import Cache
    from matterstack.orchestration.cache_explained import CacheExplanation

_MOST_SHOWN = 20


class PlannedTasks(Tasks):
    """The tasks of a workflow as drawings want them; edges to what is not there are left out.

    Parameters
    ----------
    workflow : Workflow
    """

    def __init__(self, workflow: Workflow) -> None:
        super().__init__()
        for place, task in enumerate(workflow):
            self.ids.append(place)
            self.iterations.append(0)
            self.names.append(task.task_id)
            self.codes += b"B" if task.upstream else b"R"
            self.operators.append(task.operator)
            self.groups.append(task.group)
        places = {name: place for place, name in enumerate(self.names)}
        self._edges = (array("q"), array("q"))
        for place, task in enumerate(workflow):
            for before in task.upstream:
                if before in places:
                    self._edges[0].append(places[before])
                    self._edges[1].append(place)

    @property
    def edges(self) -> tuple[array[int], array[int]]:
        """Which task waits for which, by their places, in the order of those that wait."""
        return self._edges


class Preview:
    """What a run would be, and how it stands with it; made by `matterstack.preview`, which makes no run.

    Parameters
    ----------
    workflow : Workflow
        The first iteration.
    operators : mapping of str to Operator
    found : sequence of Finding
    cache : Cache, optional
        Where `explain_cache` looks.
    """

    def __init__(
        self,
        workflow: Workflow,
        operators: Mapping[str, Operator],
        found: Sequence[Finding],
        cache: Cache | None = None,
    ) -> None:
        self.workflow = workflow
        self._operators = operators
        self._cache = cache
        self._found = sorted(found, key=lambda one: one.error is None)

    # -- what would be ---------------------------------------------------------------------

    @property
    def tasks(self) -> pd.DataFrame:
        """A row per task: who carries it out, what it runs, what it waits for, and as which job of Slurm."""
        import pandas as pd

        rows = [
            (task.operator, _function(task), self._command(task), len(task.upstream), shlex.join(self._options(task)))
            for task in self.workflow
        ]
        index = pd.Index([task.task_id for task in self.workflow], name="task", dtype="str")
        return pd.DataFrame(rows, index, ["operator", "function", "command", "dependencies", "sbatch"])

    @property
    def counts(self) -> pd.DataFrame:
        """How many tasks there are by operator and function; a command has none."""
        import pandas as pd

        found = Counter((task.operator, _function(task)) for task in self.workflow)
        rows = [(operator, function, count) for (operator, function), count in sorted(found.items())]
        return pd.DataFrame(rows, columns=["operator", "function", "tasks"])

    @property
    def findings(self) -> pd.DataFrame:
        """What is wrong, a row each: an ``error`` keeps the run from being made; the others may be as they shall be."""
        import pandas as pd

        rows = [(str(finding.kind), finding.task_id, finding.text) for finding in self._found]
        return pd.DataFrame(rows, columns=["kind", "task", "finding"])

    @property
    def errors(self) -> Sequence[str]:
        """What `matterstack.initialize_run` would refuse."""
        return [finding.text for finding in self._found if finding.error is not None]

    @property
    def graph(self) -> networkx.DiGraph[str]:
        """A new networkx graph of the tasks; see `Workflow.graph`."""
        return self.workflow.graph

    # -- one task --------------------------------------------------------------------------

    def files(self, task_id: str) -> pd.DataFrame:
        """Return the files of the directory that the first attempt of a task would get: a row each.

        They are made as a run makes them, in a temporary place that is gone when this returns.

        Parameters
        ----------
        task_id : str

        Returns
        -------
        pandas.DataFrame
            By name: ``bytes``, where it is from (``origin``), and its ``text``. What a task before leaves has neither
            size nor text; what is no text, or more than 100 kB, has no text.

        Raises
        ------
        UnknownTaskError
            There is no such task.
        WorkflowError
            It cannot be run as it stands.
        """
        import pandas as pd

        found = self._rehearsed(task_id)
        index = pd.Index([file.name for file in found], name="file", dtype="str")
        frame = pd.DataFrame([file[1:] for file in found], index, ["bytes", "origin", "text"])
        return frame.astype({"bytes": "Int64"})

    def script(self, task_id: str) -> str:
        """Return what would run a task: the script of its job or kit, else its command as a shell would take it.

        Parameters
        ----------
        task_id : str

        Raises
        ------
        UnknownTaskError
            There is no such task.
        WorkflowError
            It cannot be run as it stands.
        RunStatusError
            It runs nothing: it asks a person or an instrument.
        """
        task = self._task(task_id)
        operator = self._operators.get(task.operator)
        if operator is not None and (name := operator.traits.script):
            found = [file.text for file in self._rehearsed(task_id) if file.name == name]
            if found and found[0] is not None:
                return found[0]
            raise RunStatusError(f"{task_id}: the operator {task.operator!r} writes no script {name} that can be shown")
        if not (command := self._command(task)):
            raise RunStatusError(f"{task_id} runs nothing: the operator {task.operator!r} asks; see files({task_id!r})")
        return command

    def explain_cache(self, task_id: str) -> CacheExplanation:
        """Return whether the result of a task is known from before, and in what it differs from the nearest one.

        What waits for other tasks cannot be looked for before these have run.

        Parameters
        ----------
        task_id : str

        Raises
        ------
        UnknownTaskError
            There is no such task.
        WorkflowError
            It cannot be run as it stands.
        """
        return would_be_cached(self._task(task_id), self.workflow, self._operators, self._cache)

    def _rehearsed(self, task_id: str) -> list[RehearsedFile]:
        return rehearse(self._task(task_id), self.workflow, self._operators)

    def _task(self, task_id: str) -> Task:
        if task_id not in self.workflow:
            hint = did_you_mean(task_id, (task.task_id for task in self.workflow))
            raise UnknownTaskError(f"the plan has no task {task_id!r}{hint}", task_id=str(task_id))
        return self.workflow[task_id]

    def _command(self, task: Task) -> str:
        command = task.command_with(getattr(self._operators.get(task.operator), "python", None))
        return command if isinstance(command, str) else shlex.join(command)

    def _options(self, task: Task) -> Sequence[str]:
        operator = self._operators.get(task.operator)
        return () if operator is None else operator.sbatch_options(task)

    # -- shown -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        counts = [
            f"  {n} {function or ('command' if n == 1 else 'commands')}, {operator}"
            for operator, function, n in _rows(self.counts)
        ]
        tasks = "1 task" if len(self.workflow) == 1 else f"{len(self.workflow)} tasks"
        lines = [f"Preview: {tasks}; nothing was made", *counts]
        lines += [f"  {finding.kind}: {finding.text}" for finding in self._found[:_MOST_SHOWN]]
        if len(self._found) > _MOST_SHOWN:
            lines.append(f"  and {len(self._found) - _MOST_SHOWN} more in .findings")
        return neutral("\n".join(lines))

    def _repr_html_(self) -> str:
        counts = _table(("tasks", "function", "operator"), [(n, f or "", o) for o, f, n in _rows(self.counts)])
        rows = [(finding.kind, finding.task_id or "", finding.text) for finding in self._found[:_MOST_SHOWN]]
        found = _table(("kind", "task", "finding"), rows)
        more = len(self._found) - _MOST_SHOWN
        rest = f"<p>and {more} more in <code>.findings</code></p>" if more > 0 else ""
        shown = f"{found}{rest}" if self._found else "<p>Nothing is wrong, as far as can be seen from here.</p>"
        head = f"<p><b>Preview</b> of {len(self.workflow)} tasks; nothing was made</p>"
        return f"<div>{head}{counts}{shown}{self._still()}</div>"

    def _still(self) -> str:
        """Return the graph as HTML; edges to what is not there are left out."""
        return drawing_html(Drawing(Shape(PlannedTasks(self.workflow)), "auto", (), LONG_PAGE))


def _function(task: Task) -> str:
    return task.call.function if task.call else ""


def _rows(frame: pd.DataFrame) -> Any:
    return frame.itertuples(index=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(neutral(str(cell)))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
