"""Sinks: whom notices go to, as a run keeps them: commands, functions by their names, and addresses of apprise."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from matterstack.core.notices import CHOICES
from matterstack.core.numbers import is_number
from matterstack.core.text import did_you_mean, is_storable, neutral
from matterstack.errors import InvalidConfigError, MissingLibraryError

#: A command as a list of words; ``{"function": "module:name"}``; or an address, ``env:NAME`` or without any secret.
Sink = tuple[str, ...] | str | Mapping[str, str]

_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: Services of apprise that can be told without a secret, where nothing but a host is named.
_OPEN = ("json", "jsons", "xml", "xmls", "form", "forms", "dbus", "gnome", "syslog")
_MOST_SINKS = 20
_ON, _STILL_H, _REMIND_H, _BUDGET = CHOICES, 12.0, 24.0, 0.9


@dataclass(frozen=True, slots=True)
class Notify:
    """Whom a run tells, and of what.

    Attributes
    ----------
    to : tuple of Sink
    on : tuple of str
        Kinds of notices; all by default.
    still_h : float or None
        A run in which nothing has moved for so many hours is told of; None for never.
    remind_h : float or None
        So often it is said again that requests wait.
    budget : float or None
        Which part of the budget may be spent before that is told.
    """

    to: tuple[Sink, ...]
    on: tuple[str, ...] = _ON
    still_h: float | None = _STILL_H
    remind_h: float | None = _REMIND_H
    budget: float | None = _BUDGET

    @classmethod
    def from_config(cls, given: object) -> Notify | None:
        """Check and take what the user gave, or what config.json holds; None where nobody is told.

        Raises
        ------
        InvalidConfigError
            Naming what cannot be used.
        """
        if given is None:
            return None
        if not isinstance(given, Mapping) or "function" in given:
            given = {"to": given}
        known = [*cls.__dataclass_fields__]
        if unknown := [name for name in given if name not in known]:
            raise _wrong(f"has no {unknown[0]!r}{did_you_mean(unknown[0], known)}; there is: {', '.join(known)}")
        if "to" not in given:
            raise _wrong("must say to whom, as in {'to': ['/usr/bin/mail', '-s', 'my run', 'ada@example.org']}")
        sinks = _sinks(given["to"])
        if not sinks:
            return None
        amounts = {name: _amount(name, given[name]) for name in ("still_h", "remind_h") if name in given}
        if "budget" in given:
            part = given["budget"]
            if part is not None and not (is_number(part) and 0 < part <= 1):
                raise _wrong(f"budget must be a part of it, as 0.9, or None, not {part!r}")
            amounts["budget"] = part
        return cls(sinks, _kinds(given.get("on", _ON)), **amounts)

    def require_usable(self) -> None:
        """Raise unless the library is here that addresses need.

        Raises
        ------
        MissingLibraryError
            It is not installed.
        """
        if any(isinstance(sink, str) for sink in self.to) and importlib.util.find_spec("apprise") is None:
            raise MissingLibraryError(
                "addresses in config: notify are told by apprise, which is not installed: pip install "
                "'matterstack[notify]', or give a command"
            )

    @property
    def variables(self) -> list[str]:
        """Names of the variables that addresses are in."""
        return [name for sink in self.to if (name := variable_of(sink)) is not None]


def name_of(sink: Sink) -> str:
    """Return what a sink is called where it is shown: nothing of it that may be a secret."""
    if isinstance(sink, str):
        return sink if variable_of(sink) is not None else f"{sink.partition('://')[0]}://"
    text = sink["function"] if isinstance(sink, Mapping) else sink[0].rpartition("/")[2]
    return neutral(f"{'function' if isinstance(sink, Mapping) else 'command'} {text}")[:100]


def variable_of(sink: Sink) -> str | None:
    """Return the name of the variable that an address is in; None of any other sink."""
    found = _VARIABLE.match(sink) if isinstance(sink, str) else None
    return found[1] if found else None


def function_of(reference: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names; this imports its module.

    Raises
    ------
    Exception
        Whatever that raises.
    """
    module, _, name = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{reference} is no function")
    function: Callable[..., Any] = found
    return function


def _wrong(what: str) -> InvalidConfigError:
    return InvalidConfigError(f"config: notify {what}")


def _sinks(given: object) -> tuple[Sink, ...]:
    """Return one sink, or several, as a run keeps them."""
    if not isinstance(given, list | tuple):
        return (_sink(given),)
    if _is_words(given) and not _is_address(given[0]):
        return (_sink(given),)
    if len(given) > _MOST_SINKS:
        raise _wrong(f"names {len(given)} sinks; {_MOST_SINKS} at most are told")
    return tuple(_sink(one) for one in given)


def _sink(given: object) -> Sink:
    if _is_words(given):
        program = given[0]
        if _is_address(program):
            raise _wrong(f"a command begins with a program, and {program.partition(':')[0]}: is an address")
        if "/" in program and not program.startswith("/"):
            raise _wrong(f"{program!r} is relative to a folder that is another one tomorrow: give its whole path")
        return tuple(given)
    if isinstance(given, str):
        return _address(given)
    if isinstance(given, Mapping) and set(given) == {"function"} and is_storable(given["function"]):
        return {"function": given["function"]}
    if callable(given):
        return {"function": _reference(given)}
    raise _wrong(f"takes a command as a list of words, a function, or an address of apprise, not {given!r}")


def _is_words(given: object) -> TypeGuard[Sequence[str]]:
    return isinstance(given, list | tuple) and bool(given) and all(is_storable(word) for word in given)


def _is_address(word: str) -> bool:
    return word.startswith("env:") or _SCHEME.match(word) is not None


def _address(given: str) -> str:
    """Return an address that holds no secret."""
    if _VARIABLE.match(given):
        return given
    if not _SCHEME.match(given):
        raise _wrong(f"{given!r} is no address: write 'env:NAME', or a command as a list of words")
    scheme = given.partition("://")[0].lower()
    parts = urlsplit(given)
    bare = not (parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"))
    if scheme not in _OPEN or not bare or "@" in given:
        raise _wrong(
            f"an address of {scheme}:// may hold a secret, and would stand in the run for all to read: put it into a "
            "variable, and give its name, as in 'env:MATTERSTACK_NOTIFY_TO'"
        )
    return given


def _reference(function: Callable[..., Any]) -> str:
    """Return ``module:name`` of a function that another process finds under it."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and module != "__main__" and "<" not in name:
        try:
            if function_of(f"{module}:{name}") is function:
                return f"{module}:{name}"
        except Exception as error:
            raise _wrong(f"{module}:{name} cannot be imported: {error}") from error
    raise _wrong(
        f"{name or function!r} is called by a process of its own, which cannot import it: put it into a module beside "
        "the notebook and import it from there, or give a command"
    )


def _kinds(given: object) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(kind, str) for kind in given):
        raise _wrong(f"on must list kinds, as in ['failed', 'needs_you'], not {given!r}")
    for kind in given:
        if kind not in CHOICES:
            raise _wrong(f"on knows no {kind!r}{did_you_mean(kind, CHOICES)}; there is: {', '.join(CHOICES)}")
    return tuple(given)


def _amount(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not (is_number(value) and math.isfinite(value) and value > 0):
        raise _wrong(f"{name} must be a positive number, or None, not {value!r}")
    return float(value)
