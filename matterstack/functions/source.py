"""Source of a function as a program of its own: `task.py`, complete and readable, and the modules that ride along."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from matterstack.errors import FunctionSourceError
from matterstack.functions.function import Function
from matterstack.functions.program import Program, with_riders

_HEAD = '''"""{name}, as a task: `python task.py` in this directory does it again.

MatterStack wrote it from the source of the function; the arguments are in args.json.
"""

from __future__ import annotations

import matterstack_main
'''
_TAIL = """if __name__ == "__main__":
    matterstack_main.run({call})
"""


@dataclass(frozen=True)
class Code:
    """A function as files that run without the notebook it was written in.

    Attributes
    ----------
    name : str
        Of the function in ``text``.
    text : str
        ``task.py`` whole.
    modules : mapping of str to bytes
        The user's own modules that ride along: ``"modules/mylib.py"`` and its content.
    arrays : mapping of str to bytes
        Large arrays of constants: ``"<sha256>.npy"`` and its content.
    packages : tuple of str
        Top-level names of the installed packages that the code imports.
    classes : tuple of str
        The user's own classes that ``text`` defines or imports, as ``"module:qualname"``.
    """

    name: str
    text: str
    modules: Mapping[str, bytes]
    arrays: Mapping[str, bytes]
    packages: tuple[str, ...]
    classes: tuple[str, ...]


def capture(function: Callable[..., Any], classes: Iterable[type] = ()) -> Code:
    """Return a function with all that it needs, as the text of a program.

    Its helpers, the classes it uses and the constants are found by their names and written into the text, each as its
    source says; what is of installed packages becomes imports, and modules of the user's own that are used as modules
    ride along.

    Parameters
    ----------
    function : callable
        A function that is written as ``def``, with or without `ms.task`.
    classes : iterable of type
        Further classes of the user's own, whose objects are among the arguments.

    Returns
    -------
    Code
        Equal for equal source and equal constants.

    Raises
    ------
    FunctionSourceError
        Something that the function needs cannot be written down; or a source has changed since.
    """
    plain = function.function if isinstance(function, Function) else function
    _refuse_kind(plain)
    further = tuple(sorted(set(classes), key=lambda cls: (cls.__module__, cls.__qualname__)))
    return with_riders(lambda riders: _task(Program(riders), plain, further))


def _refuse_kind(function: Any) -> None:
    """Refuse what is called like a function but is not written as one."""
    name = getattr(function, "__qualname__", repr(function))
    inner = inspect.unwrap(function) if callable(function) else function
    if isinstance(function, functools.partial | functools.partialmethod):
        what, instead = "a partial", "write a function that calls it, or hand its arguments to the task"
    elif isinstance(function, types.MethodType):
        what, instead = "a method of an object", "write a function that takes the object as an argument"
    elif isinstance(function, type):
        what, instead = "a class", "write a function that makes and returns an object of it"
    elif isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType) or not callable(function):
        what, instead = "no function of Python source", "write a function that calls it"
    elif getattr(inner, "__name__", "") == "<lambda>":
        what, instead = "a lambda", "give it a name: def name(...): return ..."
    elif inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        what, instead = "a generator", "return a list: a task gives one value"
    elif inspect.iscoroutinefunction(inner):
        what, instead = "an async function", "write a plain function, which calls asyncio.run(...)"
    elif not isinstance(inner, FunctionType):
        what, instead = f"an object of the class {type(function).__qualname__}", "write a function that calls it"
    else:
        return
    raise FunctionSourceError(f"{name} is {what}, which cannot be a task: {instead}")


def _task(program: Program, function: Any, classes: tuple[type, ...]) -> Code:
    name = program.bind_function(function)
    for cls in classes:
        program.bind_class(cls)
    program.bind_registered()
    body = program.finish()
    listed = sorted(program.state.classes.items())
    given = f", classes=[{', '.join(expression for _, expression in listed)}]" if listed else ""
    given += f", packages={sorted(program.state.packages)!r}" if program.state.packages else ""
    text = "\n".join([_HEAD.format(name=name), *body, "", _TAIL.format(call=f"{name}{given}")])
    state = program.state
    labels = tuple(label for label, _ in listed)
    return Code(name, text, program.modules, state.arrays, tuple(sorted(state.packages)), labels)
