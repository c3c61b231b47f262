"""From a call of a function to the task that carries it out."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.calls import ARGUMENT_ARRAYS, Call, Program, Reference, Source
from matterstack.core.identifiers import check_relative_path
from matterstack.core.task import Task
from matterstack.core.text import did_you_mean
from matterstack.errors import FunctionSourceError, InvalidTaskError
from matterstack.functions import codec, main
from matterstack.functions.codec import Encoder, NotWritableError
from matterstack.functions.definitions import stored_classes
from matterstack.functions.function import OPTIONS, Function
from matterstack.functions.source import capture

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


def task_of_call(
    task_id: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    programs: dict[Any, Program],
) -> Task:
    """Return the task of one call.

    Parameters
    ----------
    task_id : str
    function : callable
    args, kwargs
        Its arguments.
    programs : dict
        The programs of the workflow so far: each function is written down once.

    Raises
    ------
    InvalidTaskError, FunctionSourceError
        See `Workflow.add`.
    """
    known = function if isinstance(function, Function) else Function(_checked(task_id, function), {})
    by_position, by_name, left_out = _bound(task_id, known.function, args, kwargs)
    sources: dict[str, Source] = {}

    def refer(reference: Reference) -> Any:
        source = Source(reference.task_id, reference.iteration, reference.run)
        check_relative_path(source.label, f"task {task_id!r}: the values of")
        sources[source.label] = source
        return {"@": "reference", "task": source.label, "at": list(reference.path)}

    named = stored_classes(known.function)
    encoder = Encoder({Reference: refer}, named)
    try:
        arguments: dict[str, Any] = {
            "args": [encoder.encode(value, f"argument {number + 1}") for number, value in enumerate(by_position)],
            "kwargs": {name: encoder.encode(value, name) for name, value in by_name.items()},
        }
    except NotWritableError as error:
        raise InvalidTaskError(
            f"task {task_id!r}: the arguments of {known.function.__name__} cannot be written down: {error}",
            task_id=task_id,
        ) from None
    for name, value in left_out.items():
        trial = Encoder(classes=named)
        try:
            said = trial.encode(value, name)
        except NotWritableError:
            continue  # a default that cannot be written down stands in the source
        if not trial.arrays and not trial.classes:
            arguments["kwargs"][name] = said
    program = _program(known.function, encoder.classes, programs)
    call = Call(
        known.function.__name__,
        program,
        arguments,
        sys.executable,
        tuple(sources.values()),
        {f"{ARGUMENT_ARRAYS}/{name}": content for name, content in encoder.arrays.items()},
    )
    return Task(task_id, call=call, **{"group": known.function.__name__, **known.options})


def _checked(task_id: Any, function: Any) -> Callable[..., Any]:
    if isinstance(function, Task):
        raise InvalidTaskError(
            f"add takes a function and its arguments, and not a Task: add_task takes {function.task_id!r}",
            task_id=function.task_id,
        )
    if callable(task_id):
        name = getattr(task_id, "__name__", "function")
        raise InvalidTaskError(f"add takes the task's id first, as in add({name!r}, {name}, ...)")
    if not callable(function):
        raise InvalidTaskError(
            f"task {task_id!r}: add takes a function and its arguments, not {function!r}", task_id=str(task_id)
        )
    checked: Callable[..., Any] = function
    return checked


def _bound(
    task_id: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Return arguments by position and by name, and the defaults of those that were left out, by name."""
    try:
        signature = _signature(function)
    except ValueError:
        name = getattr(function, "__name__", repr(function))
        raise FunctionSourceError(
            f"{name} is no function of Python source, which cannot be a task: write a function that calls it"
        ) from None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        wrong = [name for name in kwargs if name not in signature.parameters]
        hint = did_you_mean(wrong[0], signature.parameters) if wrong and wrong[0] in str(error) else ""
        if wrong and wrong[0] in OPTIONS and wrong[0] in str(error):
            hint = f"; options of the task are given by ms.task({function.__name__}, {wrong[0]}=...)"
        raise InvalidTaskError(
            f"task {task_id!r}: {function.__name__}{signature}: {error}{hint}", task_id=task_id
        ) from None
    if any(bound.arguments.get(p.name) for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL):
        return list(bound.args), dict(bound.kwargs), {}  # what stands before them is by position, too
    by_position: list[Any] = []
    by_name: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            by_position.append(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            by_name |= value
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            by_name[name] = value
    left_out = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in bound.arguments
        and parameter.default is not parameter.empty
        and parameter.kind not in _BY_POSITION
    }
    return by_position, by_name, left_out


#: Thousands of calls of one function follow each other.
_signature = functools.lru_cache(maxsize=64)(inspect.signature)


def _program(function: Callable[..., Any], classes: Mapping[str, type], programs: dict[Any, Program]) -> Program:
    """Return what runs a function, given the classes that its arguments are of."""
    key = (function, *sorted(classes.items(), key=lambda item: item[0]))
    if key not in programs:
        programs[key] = program_of(function, list(classes.values()))
    return programs[key]


def program_of(function: Callable[..., Any], classes: Sequence[type] = ()) -> Program:
    """Return what runs a function: its source, with what runs that.

    Raises
    ------
    FunctionSourceError
        The function, or something that it uses, cannot be written down.
    """
    code = capture(function, classes)
    arrays = {f"{ARGUMENT_ARRAYS}/{name}": content for name, content in code.arrays.items()}
    return Program(code.name, {"task.py": code.text.encode(), **_support(), **code.modules, **arrays}, code.packages)


def program_of_text(name: str, text: bytes, packages: Sequence[str]) -> Program:
    """Return what runs a function that stands in a ``task.py`` already, which calls it as those that are made do."""
    return Program(name, {"task.py": text, **_support()}, tuple(packages))


@functools.cache
def _support() -> Mapping[str, bytes]:
    """Return what a program imports: how values are written and read, and what calls its function."""
    modules = {"matterstack_values": codec, "matterstack_main": main}
    return {f"{name}.py": Path(str(module.__file__)).read_bytes() for name, module in modules.items()}
