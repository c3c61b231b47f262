"""Flows of jobflow, read as workflows: each job a task that jobflow itself runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matterstack.core.calls import Program
from matterstack.core.identifiers import MAX_LENGTH
from matterstack.core.tags import tags_of
from matterstack.errors import WorkflowError
from matterstack.exchange import jobflow_task
from matterstack.functions.calls import program_of_text, task_of_call
from matterstack.functions.function import Function
from matterstack.functions.workflow import Workflow, as_id

#: What `Job.from_dict` takes. Others of its entries name stores for large outputs, which a run has no need of.
_JOB = (
    "@module",
    "@class",
    "@version",
    "function",
    "function_args",
    "function_kwargs",
    "output_schema",
    "uuid",
    "index",
    "name",
    "metadata",
    "config",
    "hosts",
    "metadata_updates",
    "config_updates",
    "name_updates",
)
#: Where it names what is imported when it runs.
_NAMES_CODE = ("function", "function_args", "function_kwargs", "output_schema")


@dataclass
class _Job:
    """One job, and which others it waits for."""

    plain: Mapping[str, Any]
    uuid: str
    name: str
    inputs: dict[str, None] = field(default_factory=dict)
    after: dict[str, None] = field(default_factory=dict)
    can_do_without: bool = False


def read_jobflow(flow: Mapping[str, Any] | str | Path, **options: Any) -> Workflow:
    """Read a flow of jobflow as a workflow.

    Nothing that the flow names is imported: that is done by jobflow, in each task's own process, when it runs.

    Parameters
    ----------
    flow : mapping or path-like
        What ``Flow.as_dict()`` or ``Job.as_dict()`` gave, or a JSON file of it, as monty's ``dumpfn(flow, path)``
        writes one.
    **options
        Arguments of all tasks, as `matterstack.task` takes them: ``operator``, ``resources``, ``retries``, ...

    Returns
    -------
    Workflow
        A task per job, called after it. Its value is the job's output as jobflow's store keeps it.

    Raises
    ------
    WorkflowError
        It is no flow, or holds what cannot be done here; the message names the job.

    Examples
    --------
    >>> job = {
    ...     "@module": "jobflow.core.job",
    ...     "@class": "Job",
    ...     "function": {"@module": "statistics", "@callable": "mean", "@bound": None},
    ...     "function_args": [[1, 2, 6]],
    ...     "uuid": "5f0a",
    ...     "name": "mean of three",
    ... }
    >>> list(read_jobflow(job).graph)
    ['mean-of-three']
    """
    plain = _read(flow) if isinstance(flow, str | Path) else _as_json(flow)
    jobs: dict[str, _Job] = {}
    try:
        _collect(plain, jobs)
    except RecursionError:
        raise WorkflowError("the flow is nested too deeply to be read: take it apart") from None
    for job in jobs.values():
        unknown = next((uuid for uuid in job.inputs if uuid not in jobs), None)
        if unknown is not None:
            raise WorkflowError(
                f"the job {job.name!r} ({job.uuid}) takes the output of {unknown}, which is not in the flow: put that "
                "job into the flow, or its output in place of the reference"
            )
    return _workflow(jobs, options)


def _read(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WorkflowError(
            f"{path} cannot be read as the JSON of a flow ({error}): write it by monty.serialization.dumpfn(flow, path)"
        ) from None


def _as_json(flow: Any) -> Any:
    """Return a flow as JSON has it: `as_dict` leaves some objects as they are, such as members of an Enum."""

    def plain(value: Any) -> Any:
        try:
            from monty.json import MontyEncoder
        except ImportError:
            raise TypeError(f"a {type(value).__name__}, and monty is not installed, which writes jobflow's") from None
        return MontyEncoder().default(value)

    try:
        return json.loads(json.dumps(flow, default=plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise WorkflowError(
            f"the flow holds what JSON cannot say ({error}): give what flow.as_dict() returns, of jobs whose arguments "
            "can be written as JSON"
        ) from None


# -- what is in a flow -----------------------------------------------------------------------------


def _collect(plain: Any, jobs: dict[str, _Job]) -> list[str]:
    """Put the jobs of a flow, or a job, into a dict, and return their uuids."""
    kind = _kind(plain)
    if kind == "Job":
        job = _job(plain)
        if job.uuid in jobs:
            raise WorkflowError(f"two jobs of the flow have the uuid {job.uuid}: {jobs[job.uuid].name}, {job.name}")
        jobs[job.uuid] = job
        return [job.uuid]
    if kind == "DecoratedFlow":
        raise WorkflowError(
            "a flow made by @flow says only its function, and not its jobs: make it as Flow([...], output=...), "
            "and give what as_dict() of that returns"
        )
    if kind != "Flow":
        raise WorkflowError(
            f"this is neither a flow nor a job of jobflow: {str(plain)[:60]!r}; give what flow.as_dict() returns"
        )
    name, order, children = plain.get("name"), plain.get("order", "auto"), plain.get("jobs")
    if not isinstance(children, list) or order not in ("auto", "linear"):
        raise WorkflowError(
            f"the flow {name!r} has no list of jobs, or an order other than 'auto' and 'linear': {order!r}"
        )
    found: list[str] = []
    before: list[str] = []
    for child in children:
        inside = _collect(child, jobs)
        if order == "linear":
            for uuid in _first(inside, jobs):
                jobs[uuid].after |= dict.fromkeys(before)
            before = _last(inside, jobs) or before
        found += inside
    return found


def _kind(plain: Any) -> str | None:
    """Return which class of jobflow this says that it is of."""
    if isinstance(plain, Mapping) and str(plain.get("@module")).partition(".")[0] == "jobflow":
        return str(plain.get("@class"))
    return None


def _waits(job: _Job) -> dict[str, None]:
    return job.inputs | job.after


def _first(uuids: list[str], jobs: dict[str, _Job]) -> list[str]:
    inside = set(uuids)
    return [uuid for uuid in uuids if inside.isdisjoint(_waits(jobs[uuid]))]


def _last(uuids: list[str], jobs: dict[str, _Job]) -> list[str]:
    waited_for = {other for uuid in uuids for other in _waits(jobs[uuid])}
    return [uuid for uuid in uuids if uuid not in waited_for]


def _job(plain: Mapping[str, Any]) -> _Job:
    uuid, name, function = plain.get("uuid"), plain.get("name"), plain.get("function")
    if not isinstance(uuid, str) or not uuid:
        raise WorkflowError(f"the job {name!r} has no uuid: give what flow.as_dict() returns")
    if not isinstance(function, Mapping) or not _can_be_imported(function.get("@module"), function.get("@callable")):
        raise WorkflowError(
            f"the job {name!r} ({uuid}) names no function: it has to be one that can be imported, and no lambda, none "
            "that is defined inside another, and no method of a built-in object"
        )
    if (of_notebook := _of_main({key: plain.get(key) for key in _NAMES_CODE})) is not None:
        raise WorkflowError(
            f"the job {name!r} ({uuid}) needs {of_notebook} of a notebook or script, which no other process "
            "can import: put it into a module that is installed where the task runs"
        )
    config = plain.get("config") or {}
    if not isinstance(config, Mapping) or config.get("expose_store"):
        raise WorkflowError(
            f"the job {name!r} ({uuid}) wants jobflow's store (expose_store), which a run does not have, or has no "
            "config that can be read: hand it the outputs that it needs as arguments"
        )
    job = _Job({key: plain[key] for key in _JOB if key in plain}, uuid, str(name or function["@callable"]))
    job.inputs = dict.fromkeys(_referred([plain.get("function_args"), plain.get("function_kwargs")]))
    missing = config.get("on_missing_references")
    job.can_do_without = (missing.get("value") if isinstance(missing, Mapping) else missing) in ("none", "pass")
    return job


def _can_be_imported(module: Any, name: Any) -> bool:
    """Return whether there is such a name; a lambda is called ``<lambda>``, and has none."""
    return bool(module) and isinstance(module, str) and all(part.isidentifier() for part in str(name).split("."))


def _of_main(plain: Any) -> str | None:
    """Return what plain data names of `__main__`, if it does: it is another module in each process."""
    for part in _objects(plain):
        if part.get("@module") == "__main__":
            return str(part.get("@callable") or part.get("@class"))
    return None


def _referred(plain: Any) -> Iterator[str]:
    """Yield the uuids of the jobs whose outputs are named anywhere in plain data."""
    return (str(part.get("uuid")) for part in _objects(plain) if _kind(part) == "OutputReference")


def _objects(plain: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings that are anywhere in plain data, but none inside of a reference."""
    waiting = [plain]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield part
            if _kind(part) != "OutputReference":
                waiting += reversed(list(part.values()))
        elif isinstance(part, list | tuple):
            waiting += reversed(part)


# -- as tasks --------------------------------------------------------------------------------------


def _workflow(jobs: Mapping[str, _Job], options: Mapping[str, Any]) -> Workflow:
    ids = _task_ids(jobs)
    workflow = Workflow()
    # The job's function is written down already: as a function of this package it would be imported from here.
    programs: dict[Any, Program] = {(jobflow_task.run_job,): _program()}
    for uuid, job in jobs.items():
        own: dict[str, Any] = {"group": as_id(job.name)[:MAX_LENGTH], "tags": _tags(job)}
        own |= {"dependencies": [ids[other] for other in job.after], "allow_dependency_failure": job.can_do_without}
        outputs = {other: workflow.reference(ids[other]) for other in job.inputs}
        function = Function(jobflow_task.run_job, {**own, **options})
        before = {other: ids[other] for other in job.inputs} if job.can_do_without else {}
        workflow.add_task(task_of_call(ids[uuid], function, (dict(job.plain), outputs, before), {}, programs))
    workflow.check()
    return workflow


def _task_ids(jobs: Mapping[str, _Job]) -> dict[str, str]:
    """Return ids made from the names, with a number where that is taken."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for uuid, job in jobs.items():
        stem = as_id(job.name)[: MAX_LENGTH - 8]
        found, number = stem, 1
        while found.casefold() in taken:
            number += 1
            found = f"{stem}-{number}"
        taken.add(found.casefold())
        ids[uuid] = found
    return ids


def _tags(job: _Job) -> tuple[str, ...]:
    """Return the tags among the metadata, where they can be tags here."""
    metadata = job.plain.get("metadata")
    said = metadata.get("tags", ()) if isinstance(metadata, Mapping) else ()

    def invalid(rule: str, value: Any) -> WorkflowError:
        return WorkflowError(
            f"the job {job.name!r} ({job.uuid}) has metadata['tags'] that no task can have: {value!r} {rule}"
        )

    return tags_of(said, invalid)


@functools.cache
def _program() -> Program:
    """Return what runs a job: `jobflow_task` as it stands."""
    return program_of_text("run_job", Path(str(jobflow_task.__file__)).read_bytes(), ("jobflow",))
