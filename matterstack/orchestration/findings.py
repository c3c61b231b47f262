"""Findings of a plan that is looked at whole before anything starts: what is wrong with it, and what may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from matterstack.core.attempt_files import Family, taken_names
from matterstack.core.task import FromTask, Task
from matterstack.errors import InvalidTaskError, MatterstackError
from matterstack.functions.workflow import Workflow
from matterstack.operators.base import Operator
from matterstack.orchestration.capture import capture
from matterstack.orchestration.intake import Intake
from matterstack.orchestration.limits_explained import WorkspaceLimits
from matterstack.storage.run_directory import RunDirectory

#: Names that a directory has without anybody's declaring them: a FromTask may take these.
_GIVEN = taken_names(*Family)


class Kind(StrEnum):
    """What a finding is about."""

    ERROR = "error"
    PROGRAM = "program"
    OUTPUT = "output"


class Finding(NamedTuple):
    """Something about a plan.

    Attributes
    ----------
    kind : Kind
        An ``error`` keeps the plan from being run; a ``program`` that is not there, and an ``output`` that no task
        declares, may be there when they are needed.
    task_id : str or None
        Of which task; None of several.
    text : str
    error : MatterstackError or None
        What `initialize_run` raises.
    """

    kind: Kind
    task_id: str | None
    text: str
    error: MatterstackError | None = None


class Checked(NamedTuple):
    """A task that was checked, or, with none, the graph.

    Attributes
    ----------
    task : Task or None
    specification : mapping
        What the store keeps of the task; empty where there is an error.
    findings : sequence of Finding
    """

    task: Task | None
    specification: Mapping[str, Any]
    findings: tuple[Finding, ...]


def check(
    workflow: Workflow,
    operators: Mapping[str, Operator],
    intake: Intake,
    there: Mapping[str, bool] | None = None,
    *,
    directory: RunDirectory | None = None,
    doubts: bool = False,
) -> Iterator[Checked]:
    """Check a workflow: first its graph, then one task after the other.

    Parameters
    ----------
    workflow : Workflow
    operators : mapping of str to Operator
        The operators of the run.
    intake : Intake
        Takes in, or only looks at, what comes from outside.
    there : mapping of str to bool, optional
        Tasks that the workflow is added to, and whether they call functions.
    directory : RunDirectory, optional
        Of the run, whose workspace has limits; without one these are not looked at.
    doubts : bool
        Whether to look for what may be wrong, too. It takes as long as all the rest.
    """
    wrong = tuple(
        Finding(Kind.ERROR, task, str(error), error) for task, error in workflow.problems(operators, there or ())
    )
    if wrong:
        yield Checked(None, {}, wrong)

    named = directory is not None and any(task.resources.named for task in workflow)
    limits = WorkspaceLimits(directory) if directory is not None and named else None
    for task in workflow:
        yield check_task(task, workflow, operators, intake, there, limits, doubts=doubts)


def check_task(
    task: Task,
    workflow: Workflow,
    operators: Mapping[str, Operator],
    intake: Intake,
    there: Mapping[str, bool] | None = None,
    limits: WorkspaceLimits | None = None,
    *,
    doubts: bool = False,
) -> Checked:
    """Check one task of a workflow, whose graph is checked before; see `check`."""

    def is_call(task_id: str) -> bool:
        return workflow[task_id].call is not None if task_id in workflow else bool(there and there.get(task_id))

    operator = operators.get(task.operator)
    if operator is None:
        return Checked(task, {}, ())
    doubtful = (*_lacking(task, operator), *_undeclared(task, workflow)) if doubts else ()
    try:
        check_by_operator(task, operator)
        if limits is not None:
            limits.check(task)
        return Checked(task, intake.specification(task, is_call), doubtful)
    except MatterstackError as error:
        return Checked(task, {}, (Finding(Kind.ERROR, task.task_id, str(error), error), *doubtful))


def check_by_operator(task: Task, operator: Operator) -> None:
    """Raise `InvalidTaskError` for a task that its operator could never carry out."""
    operator.check_task(task)
    if task.show and not operator.traits.by_people:
        raise InvalidTaskError(
            f"task {task.task_id!r}: show= is for what a person looks at, and the operator {task.operator!r} asks "
            "nobody; files= brings files to a command",
            task_id=task.task_id,
        )


def _lacking(task: Task, operator: Operator) -> Sequence[Finding]:
    with capture():  # somebody's own operator
        lacking = operator.lacks(task)
        return [Finding(Kind.PROGRAM, task.task_id, f"task {task.task_id!r}: {lacking}")] if lacking else []
    return []


def _undeclared(task: Task, workflow: Workflow) -> Iterator[Finding]:
    """Yield files of other tasks that these do not say they leave."""
    of_files = [(one.task_id, one.path) for one in task.files.values() if isinstance(one, FromTask) and one.is_here]
    for maker_id, path in (*of_files, *task.shown):
        if maker_id not in workflow:
            continue
        maker = workflow[maker_id]
        if path in maker.outputs or path in maker.files or path.split("/")[0].casefold() in _GIVEN:
            continue
        yield Finding(
            Kind.OUTPUT,
            task.task_id,
            f"task {task.task_id!r} takes {path} of {maker.task_id!r}, which does not say that it leaves it; "
            f"outputs=[{path!r}] there makes sure of it",
        )
