"""Docstrings of everything public, as numpydoc's own tool sees them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import matterstack as ms
from matterstack import errors
from matterstack.operators import Operator

#: Checks that are off, and why.
OFF = {
    "ES01": "a summary that says all needs nothing after it",
    "EX01": "examples are on the pages of docs/, where they are run",
    "SA01": "names in backticks lead to their pages",
}
#: What a method need not say that nobody calls from a notebook: a tick calls those of operators, which
#: docs/operators.md tells once for all of them, a view those of the reader, and an optimizer those of a space.
BRIEF = {"PR01", "RT01", "YD01"}
#: Made by the package, and never by a user.
MADE_HERE = (BaseException, ms.Run, ms.RunStatus, ms.TaskStatus, ms.AttemptStatus, ms.TaskResult, ms.TickReport)
CALLED_BY_USERS = (ms.Run, ms.Workflow, ms.Campaign, ms.Cache)


def members(home: str, owner: type) -> Iterator[tuple[str, Any]]:
    for name, value in inspect.getmembers(owner):
        definer = next((one for one in owner.__mro__ if name in vars(one)), owner)
        is_member = inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, property)
        if not name.startswith("_") and is_member and definer.__module__.startswith("matterstack"):
            yield f"{home}.{name}", value


def public() -> Iterator[tuple[str, Any]]:
    """Return every public name, by where it is defined, and what it is."""
    tops: list[Any] = [getattr(ms, name) for name in ms.__all__ if name != "__version__"]
    modules = [top for top in tops if isinstance(top, ModuleType)]
    tops += [getattr(module, name) for module in modules for name in module.__all__]
    tops += [value for value in vars(errors).values() if inspect.isclass(value)]
    for top in [*tops, Operator]:
        if isinstance(top, ModuleType):
            continue
        home = f"{top.__module__}.{top.__qualname__}"
        yield home, top
        if inspect.isclass(top):
            yield from members(home, top)


def source_of(value: Any) -> str:
    return inspect.getsource(value) if inspect.isfunction(value) else ""


def off(home: str, value: Any, summary: str) -> set[str]:
    """Return the checks that are off for one name."""
    checks = set(OFF)
    called = tuple(f"{owner.__module__}.{owner.__qualname__}." for owner in CALLED_BY_USERS)
    is_method = inspect.isroutine(value) and "." in value.__qualname__
    if is_method and not home.startswith(called):
        checks |= BRIEF
    if summary.startswith(("Return", "Show", "Draw")) or ") -> Run:" in source_of(value):
        checks.add("RT01")  # the summary says what comes back; or it is the run itself, to go on with
    if summary:
        checks.add("GL08")  # a method that is told where the base class has it
    if inspect.isclass(value) and issubclass(value, MADE_HERE):
        checks.add("PR01")
    if home.endswith(".codec.register"):
        checks.add("PR02")  # numpydoc takes an argument called cls for the class of a method
    if value is ms.Task:
        checks.add("PR03")  # its many fields are told by what they are for, and are given by name
    return checks


def test_numpydoc_finds_nothing_in_any_public_docstring() -> None:
    validate = pytest.importorskip("numpydoc.validate", reason="not required: numpydoc is not installed").validate
    found = []
    for home, value in dict(public()).items():
        seen = validate(home)
        checks = off(home, value, (inspect.getdoc(value) or "").strip())
        found += [f"{home}: {check} {words}" for check, words in seen["errors"] if check not in checks]
    assert not found, "\n".join(found)
