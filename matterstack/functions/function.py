"""A Python function whose calls are tasks: `ms.task`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from matterstack.core.task import Task
from matterstack.core.text import did_you_mean
from matterstack.errors import InvalidTaskError

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: What a call says of itself, or what is of requests alone; the rest of a `Task` is the caller's to choose.
_OF_THE_CALL = frozenset({"task_id", "command", "call", "instructions", "schema", "on_reject"})
#: Arguments of `Task` that the task of a call may be given.
OPTIONS = tuple(field.name for field in dataclasses.fields(Task) if field.name not in _OF_THE_CALL)


class Function(Generic[_P, _R]):
    """A function, and how its calls are run as tasks; called, it is the function itself.

    Attributes
    ----------
    function : callable
    options : mapping
        Arguments of `Task`.
    """

    def __init__(self, function: Callable[_P, _R], options: Mapping[str, Any]) -> None:
        check_options(getattr(function, "__name__", repr(function)), options)
        self.function = function
        self.options = MappingProxyType(dict(options))
        functools.update_wrapper(self, function)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function, here and now."""
        return self.function(*args, **kwargs)

    def with_options(self, **options: Any) -> Function[_P, _R]:
        """Return the function with other options of its tasks: ``relax.with_options(operator="slurm")``.

        Parameters
        ----------
        **options
            Arguments of `Task`; those that are not named stay as they are.
        """
        return Function(self.function, {**self.options, **options})

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"<task {self.function.__qualname__}({options})>"


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `InvalidTaskError` unless these are arguments of `Task` that a call may choose."""
    for option in options:
        if option not in OPTIONS:
            raise InvalidTaskError(
                f"{name}: a task of a function has no option {option!r}{did_you_mean(option, OPTIONS)}; there are: "
                f"{', '.join(OPTIONS)}"
            )


@overload
def task(function: Callable[_P, _R], /, **options: Any) -> Function[_P, _R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[_P, _R]], Function[_P, _R]]: ...


def task(function: Any = None, /, **options: Any) -> Any:
    """Say how the calls of a function are run as tasks.

    Parameters
    ----------
    function : callable
        The function, where `task` is used as ``@ms.task``, or called: ``ms.task(relax, retries=1)``.
    **options
        Arguments of `Task`: ``retries``, ``resources``, ``operator``, ``env``, ``files``, ...

    Returns
    -------
    Function
        Called, it is the function itself: nothing is planned. `Workflow.add` and `Workflow.map` plan its calls.

    Raises
    ------
    InvalidTaskError
        An option that tasks of functions do not have.

    Examples
    --------
    >>> @task(retries=1)
    ... def double(x):
    ...     return 2 * x
    >>> double(4)
    8
    """
    if function is not None:
        if not callable(function):
            raise InvalidTaskError(
                f"task decorates a function, and not {function!r}; options are named: task(retries=1)"
            )
        return Function(function, options)
    return lambda given: Function(given, options)
