"""The Python Workflow Definition: workflows of functions as JSON of nodes and edges, read and written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matterstack.core.calls import Call, Program, Reference
from matterstack.core.identifiers import MAX_LENGTH
from matterstack.core.task import Task
from matterstack.errors import ExportError, WorkflowError
from matterstack.exchange import definition_task
from matterstack.files import write_inside
from matterstack.functions.calls import program_of_text, task_of_call
from matterstack.functions.function import Function
from matterstack.functions.workflow import Workflow, as_id

VERSION = "0.1.0"
_TEXT = Path(str(definition_task.__file__)).read_bytes()
_FIELDS = {"function": "value", "input": "name", "output": "name"}


def read_workflow_definition(
    path: str | os.PathLike[str], inputs: Mapping[str, Any] | None = None, **options: Any
) -> Workflow:
    """Read a Python Workflow Definition as a workflow.

    Nothing that it names is imported. A module that lies beside the file goes with the tasks; all others have to be
    installed where these run.

    Parameters
    ----------
    path : path-like
        The JSON file.
    inputs : mapping, optional
        Values of input nodes, by name, in place of those in the file.
    **options
        Arguments of all tasks, as `matterstack.task` takes them.

    Returns
    -------
    Workflow
        A task per function node, called after the function; and one per output node, called as that is.

    Raises
    ------
    WorkflowError
        It is no such definition, or one that cannot be run; the message names the node.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "mean.json"
    >>> _ = file.write_text(
    ...     '''{"nodes": [{"id": 0, "type": "function", "value": "statistics.fmean"},
    ...                   {"id": 1, "type": "input", "name": "numbers", "value": [1, 2]}],
    ...         "edges": [{"target": 0, "targetPort": "data", "source": 1, "sourcePort": null}]}'''
    ... )
    >>> read_workflow_definition(file)["fmean"].call.arguments["kwargs"]["arguments"]
    {'data': [1, 2]}
    """
    file = Path(path)
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{file} cannot be read as a Python Workflow Definition ({error})") from None
    nodes = _nodes(plain, file)
    given = _given(nodes, dict(inputs or {}))
    ids = _task_ids(nodes)
    arguments: dict[int, dict[str, Any]] = {number: {} for number in ids}
    for edge in plain["edges"]:
        target, name, value = _edge(edge, nodes, given, ids)
        if name in arguments[target]:
            raise WorkflowError(f"{_said(nodes[target])}: two edges lead to its port {name!r}")
        arguments[target][name] = value
    workflow = Workflow()
    for number, task_id in ids.items():
        node = nodes[number]
        called = node["value"] if node["type"] == "function" else ""
        if not called and "value" not in arguments[number]:
            raise WorkflowError(f"{_said(node)}: no edge leads to it")
        function = Function(definition_task.run_function, {"group": as_id(called or "output"), **options})
        # What runs a node is written down already: as a function of this package it would be imported from here.
        programs: dict[Any, Program] = {(definition_task.run_function,): _program(called, file.parent)}
        workflow.add_task(task_of_call(task_id, function, (called, arguments[number]), {}, programs))
    workflow.check()
    return workflow


def _nodes(plain: Any, file: Path) -> dict[int, dict[str, Any]]:
    """Return the nodes by number."""
    if not isinstance(plain, dict) or not all(isinstance(plain.get(part), list) for part in ("nodes", "edges")):
        raise WorkflowError(f"{file} is not a Python Workflow Definition, which has lists of nodes and edges")
    nodes: dict[int, dict[str, Any]] = {}
    for node in plain["nodes"]:
        number = node.get("id") if isinstance(node, dict) else None
        kind = node.get("type") if isinstance(node, dict) else None
        if type(number) is not int or number in nodes:
            raise WorkflowError(f"the node {node!r:.80} has no number of its own as its id")
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise WorkflowError(f"the node {number} is of the type {kind!r:.40}, and not of {', '.join(_FIELDS)}")
        name = node.get(_FIELDS[kind])
        if not isinstance(name, str) or not name:
            raise WorkflowError(f"the {kind} node {number} has no text as its {_FIELDS[kind]}")
        if kind == "function" and not ("." in name and all(part.isidentifier() for part in name.split("."))):
            raise WorkflowError(f"the function node {number} has to name a function as module.function, not {name!r}")
        nodes[number] = node
    return nodes


def _given(nodes: Mapping[int, dict[str, Any]], inputs: dict[str, Any]) -> dict[int, Any]:
    """Return the values of the input nodes."""
    given = {}
    known = {node["name"] for node in nodes.values() if node["type"] == "input"}
    if unknown := sorted(str(name) for name in inputs if name not in known):
        raise WorkflowError(f"there is no input node {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
    for number, node in nodes.items():
        if node["type"] == "input":
            if "value" not in node and node["name"] not in inputs:
                raise WorkflowError(f"{_said(node)} has no value: pass inputs={{{node['name']!r}: ...}}")
            given[number] = inputs.get(node["name"], node.get("value"))
    return given


def _said(node: Mapping[str, Any]) -> str:
    return f"the {node['type']} node {node['id']} ({node[_FIELDS[node['type']]]})"


def _task_ids(nodes: Mapping[int, dict[str, Any]]) -> dict[int, str]:
    """Return ids of tasks by number: outputs as they are called, functions with a number where a name is taken."""
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for number, node in sorted(nodes.items(), key=lambda item: item[1]["type"], reverse=True):
        if node["type"] != "input":
            stem = as_id(node["name"] if node["type"] == "output" else node["value"].rpartition(".")[2])
            found, count = stem[: MAX_LENGTH - 8], 1
            while found.casefold() in taken:
                count += 1
                found = f"{stem[: MAX_LENGTH - 8]}-{count}"
            taken.add(found.casefold())
            ids[number] = found
    return {number: ids[number] for number in nodes if number in ids}


def _edge(
    edge: Any, nodes: Mapping[int, dict[str, Any]], given: Mapping[int, Any], ids: Mapping[int, str]
) -> tuple[int, str, Any]:
    """Return where an edge leads: to which node, to which argument, and with what."""
    if not isinstance(edge, dict):
        raise WorkflowError(f"{edge!r:.80} is not an edge")
    for end in ("source", "target"):
        if type(edge.get(end)) is not int or edge[end] not in nodes:
            raise WorkflowError(f"the edge {edge!r:.120} has no node {edge.get(end)!r:.40} as its {end}")
    source, target = edge["source"], edge["target"]
    port, name = edge.get("sourcePort"), edge.get("targetPort")
    if target not in ids or nodes[source]["type"] == "output":
        raise WorkflowError(f"{_said(nodes[source])} cannot lead to {_said(nodes[target])}")
    if nodes[target]["type"] == "output":
        name = "value"
    if not isinstance(name, str) or not isinstance(port, str | None):
        raise WorkflowError(f"the edge from node {source} to {_said(nodes[target])} has no text as a port")
    if source not in given:
        reference = Reference(ids[source])
        return target, name, reference if port is None else reference[port]
    if port is None:
        return target, name, given[source]
    if not isinstance(given[source], dict) or port not in given[source]:
        raise WorkflowError(f"{_said(nodes[source])} has no item {port!r}: for the whole value sourcePort is null")
    return target, name, given[source][port]


def _program(function: str, folder: Path) -> Program:
    """Return what calls a function, with its module where that lies beside the definition."""
    top = function.partition(".")[0]
    base = program_of_text("run_function", _TEXT, ())
    beside = folder / f"{top}.py"
    if not top or not beside.is_file():
        return Program(base.function, base.files, (top,) if top else ())
    return Program(base.function, {**base.files, f"modules/{top}.py": beside.read_bytes()}, ())


# -- writing ---------------------------------------------------------------------------------------


def write_workflow_definition(path: str | os.PathLike[str], workflow: Workflow) -> list[Path]:
    """Write a workflow of functions as a Python Workflow Definition.

    The functions become modules beside the file, as the tasks have them. What tasks say besides (operator, retries,
    resources) has no place in a definition, and is left out. A workflow that was not read from a definition gets an
    output node ``result``: the value of the last task that no other takes.

    Parameters
    ----------
    path : path-like
        A JSON file that is not there yet.
    workflow : Workflow
        Of calls of functions, whose arguments are plain JSON or what other tasks give.

    Returns
    -------
    list of pathlib.Path
        The file, and the modules.

    Raises
    ------
    ExportError
        A task cannot be said in a definition, which the message names; or a file is there. Nothing was changed.

    Examples
    --------
    >>> import tempfile
    >>> from statistics import fmean
    >>> flow = Workflow()
    >>> _ = flow.add("mean", fmean, [1.0, 2.0])
    >>> [file.name for file in write_workflow_definition(f"{tempfile.mkdtemp()}/means.json", flow)]
    ['means.json', 'means_fmean.py']
    """
    target = Path(path).absolute()
    modules: dict[str, bytes] = {}
    numbers = {task.task_id: number for number, task in enumerate(workflow)}
    nodes: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    for task in workflow:
        function, arguments = _called(task, target.stem, modules)
        number = numbers[task.task_id]
        kind = "function" if function else "output"
        nodes.append({"id": number, "type": kind, _FIELDS[kind]: function or task.task_id})
        for name, value in arguments.items():
            source, port = _source(task, name, value)
            if source is None:
                found = len(numbers) + len(values)
                values.append({"id": found, "type": "input", "name": f"{task.task_id}.{name}", "value": value})
            else:
                found = numbers[source]
            edges.append(
                {"target": number, "targetPort": name if function else None, "source": found, "sourcePort": port}
            )
    if nodes and not any(node["type"] == "output" for node in nodes):
        # The definition's own library reads no file without one, and none with several.
        last = max(set(numbers.values()) - {edge["source"] for edge in edges})
        found = len(nodes) + len(values)
        values.append({"id": found, "type": "output", "name": "result"})
        edges.append({"target": found, "targetPort": None, "source": last, "sourcePort": None})
    text = json.dumps({"version": VERSION, "nodes": nodes + values, "edges": edges}, indent=2) + "\n"
    files = {**modules, target.name: text.encode()}
    for name in files:
        if os.path.lexists(target.with_name(name)):
            raise ExportError(f"{target.with_name(name)} is there already, and is left as it is: give another name")
    try:
        for name, content in files.items():
            write_inside(target.parent, name, content, new=True)
    except OSError as error:
        raise ExportError(f"{target.parent}: the definition cannot be written ({error})") from None
    return [target, *(target.with_name(name) for name in modules)]


def _refuse(task: Task, why: str) -> ExportError:
    return ExportError(f"the task {task.task_id!r} cannot be said in a Python Workflow Definition: {why}")


def _called(task: Task, stem: str, modules: dict[str, bytes]) -> tuple[str, Mapping[str, Any]]:
    """Return the function of a task, none where it is an output, and its arguments; its module is put among others."""
    call = task.call
    if call is None or isinstance(call.program, str):
        raise _refuse(task, "it calls no function; write one that does its work")
    if any(source.iteration is not None or source.run is not None for source in call.sources):
        raise _refuse(task, "it takes the value of another iteration or run; give that value itself")
    if set(task.upstream) - set(call.upstream):
        raise _refuse(task, "it waits for a task whose value it does not take; hand that on as an argument")
    if call.arguments["args"] and call.program.files["task.py"] != _TEXT:
        raise _refuse(task, "an argument has no name; give it by name")
    riders = {name.removeprefix("modules/"): text for name, text in call.program.files.items() if "modules/" in name}
    if any("/" in name for name in riders) or call.arrays or any(".npy" in name for name in call.program.files):
        raise _refuse(task, "it needs a package of yours or a large array beside it; make that an installed package")
    if call.program.files["task.py"] == _TEXT:
        _put(task, riders, modules)
        said = call.arguments["kwargs"]
        return said["function"], said["arguments"]
    stem = as_id(stem).replace("-", "_").replace(".", "_")
    name = f"{stem}_{call.function}" if stem[0].isalpha() else f"workflow_{stem}_{call.function}"
    _put(task, {**riders, f"{name}.py": _module(task, call).encode()}, modules)
    return f"{name}.{call.function}", call.arguments["kwargs"]


def _put(task: Task, files: Mapping[str, bytes], modules: dict[str, bytes]) -> None:
    """Put modules among others, where none of the same name says something else."""
    for name, content in files.items():
        if modules.setdefault(name, content) != content:
            raise _refuse(task, f"another task has another module {name}; give one of the functions another name")


def _module(task: Task, call: Call) -> str:
    """Return the source of a function without what makes it a task."""
    assert isinstance(call.program, Program)
    body = call.program.files["task.py"].decode().partition("import matterstack_main\n")[2]
    body = body.rpartition('if __name__ == "__main__":')[0].strip("\n")
    if "matterstack_main" in body:
        raise _refuse(task, f"{call.function} uses a constant that is no plain text of Python; make it an argument")
    return f'"""{call.function}, a function of a workflow."""\n\nfrom __future__ import annotations\n\n{body}\n'


def _source(task: Task, name: str, value: Any) -> tuple[str | None, str | None]:
    """Return whose value an argument is, and which item of it; neither where it is plain data."""
    if isinstance(value, dict) and value.get("@") == "reference":
        at = value["at"]
        if len(at) > 1 or not all(isinstance(key, str) for key in at):
            raise _refuse(task, f"its argument {name} is an item that no port can name: {at}; take it in a function")
        return value["task"], at[0] if at else None
    if '"@":' in json.dumps(value):
        raise _refuse(task, f"its argument {name} is no plain JSON, or holds a value of a task; give that by itself")
    return None, None
