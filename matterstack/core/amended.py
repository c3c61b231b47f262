"""Amendments: what the next attempts of a task are made with that its specification says otherwise, by keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from matterstack.core.strict_json import to_text

#: What is changed by the names in it; ``command`` is changed as a whole.
BY_KEY = ("files", "env", "resources", "arguments")
PARTS = (*BY_KEY, "command")


def combined(before: Mapping[str, Any], word: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with those of a later word added to them, by key; one of None goes back to the specification.

    Examples
    --------
    >>> combined({"env": {"A": "1", "B": "1"}}, {"env": {"A": None}, "command": "true"})
    {'env': {'B': '1'}, 'command': 'true'}
    """
    found = {}
    for part in BY_KEY:
        merged = {**before.get(part, {}), **word.get(part, {})}
        if kept := {key: value for key, value in merged.items() if value is not None}:
            found[part] = kept
    if command := word.get("command", before.get("command")):
        found["command"] = command
    return found


def amended(spec: str, changes: str | None) -> str:
    """Return a specification with changes, both as JSON text.

    What cannot be put together is returned as a text that is no JSON: whoever reads the task says which one it is.
    """
    if changes is None:
        return spec
    try:
        return to_text(_with(json.loads(spec), json.loads(changes)))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return "what was changed of it makes no sense"


def _with(spec: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for part in ("files", "env", "resources"):
        if part in changes:
            spec[part] = {**spec.get(part, {}), **changes[part]}
    if "command" in changes:
        spec["command"] = changes["command"]
    if "arguments" in changes:
        spec["call"] = _call(spec["call"], changes["arguments"])
    return spec


def _call(call: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call with other arguments: each by its place where it has one, else by its name."""
    args, kwargs, arrays = list(call.get("args", ())), dict(call.get("kwargs", {})), list(call.get("arrays", ()))
    for name, said in arguments.items():
        if "at" in said:
            args[said["at"]] = said["value"]
        else:
            kwargs[name] = said["value"]
        arrays += [array for array in said.get("arrays", ()) if array not in arrays]
    changed = {"args": args, "kwargs": kwargs, "arrays": arrays}
    return {**call, **{name: said for name, said in changed.items() if said}}


def in_words(changes: str | None) -> str:
    """Return what is changed, in a few words; empty where nothing is, or it makes no sense.

    Examples
    --------
    >>> in_words('{"files": {"INCAR": "..."}, "resources": {"walltime_s": 60}}')
    'files INCAR; resources walltime_s 60'
    """
    try:
        said = json.loads(changes or "{}")
        words = [f"{part} {_keys(part, said[part])}" for part in BY_KEY if said.get(part)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""
    if said.get("command"):
        words.append("command")
    return "; ".join(words)


def _keys(part: str, said: Mapping[str, Any]) -> str:
    if part == "resources":
        return ", ".join(f"{name} {value}" for name, value in said.items())
    if part == "files":
        return ", ".join(f"{name}{_whence(source)}" for name, source in said.items())
    return ", ".join(said)


def _whence(source: Any) -> str:
    """Return of which attempt a file is, where it is of one."""
    if not (isinstance(source, Mapping) and "task_id" in source):
        return ""
    attempt = source.get("attempt")
    which = f".{attempt}" if isinstance(attempt, int) and attempt > 0 else ""
    return f" from {source.get('path')} of {source['task_id']}{which}"
