"""Misspelt keywords: Python names the one that is wrong, and this the one that was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from matterstack.core.text import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function name the keyword that was meant, where one is passed that it does not have."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            entered = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            known = [name for name in inspect.signature(function).parameters if name != "self"]
            wrong = [name for name in kwargs if name not in known]
            if entered or not wrong:
                raise
            called = function.__qualname__.removesuffix(".__init__")
            meant = did_you_mean(wrong[0], known)
            has = ", ".join(known) or "none"
            raise TypeError(f"{called}() has no argument {wrong[0]!r}{meant}; it has: {has}") from None

    return call


def suggesting_class(kind: C) -> C:
    """Make the constructor of a class do so."""
    type.__setattr__(kind, "__init__", suggesting(vars(kind)["__init__"]))
    return kind
