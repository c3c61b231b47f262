"""Remedies: calls that messages name for cells, as the commands that do the same in a shell."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from matterstack.commands.places import place_of
from matterstack.errors import MatterstackError

_NAMED = re.compile(r"\b(run|ms|matterstack)\.([a-z_]+)\b(\()?")
_LONGEST_CALL = 500


def as_typed(text: str, given: argparse.Namespace) -> str:
    """Return a text with the calls that it names as commands, about the run that a command was given.

    Parameters
    ----------
    text : str
    given : argparse.Namespace
        What the command was given.
    """
    parts, at, run = [], 0, None
    for found in _NAMED.finditer(text):
        whose, name, is_call = found.groups()
        if found.start() < at or name not in (CALLS if is_call else TABLES):
            continue
        words, end = _call_at(text, found.start()) if is_call else ([name], found.end())
        if words is None:
            continue
        if whose == "run":
            run = run or _run_of(given)
            words = [*words[:1], run[0], *words[1:], *run[1:]]
        # A command of a group is two words, and a name is never one that has to be quoted.
        parts += [text[at : found.start()], " ".join(["matterstack", words[0], *map(shlex.quote, words[1:])])]
        at = end
    text = "".join([*parts, text[at:]])
    for phrase, typed in PHRASES.items():
        text = text.replace(phrase, typed)
    return text


def _run_of(given: argparse.Namespace) -> list[str]:
    """Return the run that a command was given, as it was typed, and where its name is looked for."""
    name = getattr(given, "run", None)
    if name is None and getattr(given, "place", None) is not None:
        try:
            name = None if isinstance(place_of(given), tuple) else given.place
        except MatterstackError:  # there is none, as the message may say
            name = None
    if name is None:
        return ["RUN"]
    return [name] if given.base_path == "." else [name, "--base-path", given.base_path]


def _call_at(text: str, start: int) -> tuple[list[str] | None, int]:
    """Return the command for the call that begins in a text, and where that ends; None where there is none."""
    end = start
    while end := text.find(")", end, start + _LONGEST_CALL) + 1:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what anybody wrote
                call = _Plain().visit(ast.parse(text[start:end], mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        goes_on = text[end : end + 1] in (".", "[")  # more is done with it than a command does
        if goes_on or not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            break
        try:
            words = [ast.literal_eval(argument) for argument in call.args]
            named: dict[str, Any] = {}
            for keyword in call.keywords:
                value = ast.literal_eval(keyword.value)
                named |= value if keyword.arg is None else {keyword.arg: value}
            return [_text(word) for word in CALLS[call.func.attr](*words, **named)], end
        except (TypeError, ValueError, AttributeError, RecursionError):  # it is no data, or there is no option for it
            break
    return None, start


class _Plain(ast.NodeTransformer):
    """Calls whose arguments are plain data: a path is its text, and a name says what it stands for."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return a name as a word in capitals, as help shows what is to be filled in."""
        return ast.Constant(node.id.upper())

    def visit_Call(self, node: ast.Call) -> Any:
        """Return the text of a path."""
        if ast.unparse(node.func) == "pathlib.Path" and len(node.args) == 1:
            return self.visit(node.args[0])
        node.args = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node


# -- calls, as commands: one that is called with what has no option stays as it is ---------------------


def _said(name: str) -> Callable[..., list[Any]]:
    """Return what says a call whose arguments are words of the command."""
    return lambda *words: [name, *words]


def _text(value: object) -> str:
    return "..." if value is ... else value if isinstance(value, str) else json.dumps(value)


def _pairs(settings: Mapping[str, Any] | set[Any]) -> list[str]:
    """Return ``KEY=JSON`` of each; ``{...}`` are any."""
    if isinstance(settings, set):
        return ["..."]
    return [f"{name}={'...' if value is ... else json.dumps(value)}" for name, value in settings.items()]


def _configure(operator: str | None = None, *, budget: Any = None, **settings: Any) -> list[str]:
    of = ["--budget", *_pairs(budget)] if budget is not None else [] if operator is None else ["--operator", operator]
    return ["configure", *of, *_pairs(settings)]


def _import_kits(archive: str = "ARCHIVE") -> list[str]:
    return ["kits import", archive]


def _limits(workspace: str, *, base_path: str | None = None, **amounts: Any) -> list[str]:
    return ["limits", workspace, *_pairs(amounts), *_below(base_path)]


def _release_reservations(workspace: str, run_id: str, *, base_path: str | None = None) -> list[str]:
    return ["release-reservations", workspace, run_id, *_below(base_path)]


def _below(base_path: str | None) -> list[str]:
    return [] if base_path is None else ["--base-path", base_path]


def _retry(
    task: str | None = None, *, files: Mapping[str, str] | None = None, resources: Mapping[str, Any] | None = None
) -> list[str]:
    words = [] if task is None else [task]
    for name, path in (files or {}).items():
        words += ["--file", f"{name}={path}"]
    for name, amount in (resources or {}).items():
        words += [f"--{name.replace('_', '-')}", _text(amount)]
    return ["retry", *words]


CALLS: dict[str, Callable[..., list[Any]]] = {
    "configure": _configure,
    "explain": _said("explain"),
    "import_kits": _import_kits,
    "inbox": _said("inbox"),
    "release": _said("release"),
    "release_reservations": _release_reservations,
    "respond": _said("respond"),
    "resume": _said("resume"),
    "retry": _retry,
    "set_limits": _limits,
    "step": _said("step"),
    "tag": _said("tag"),
    "take_environment": _said("take-environment"),
    "take_late": _said("take-late"),
    "tell": _said("tell"),
    "trust": _said("trust"),
    "wait": _said("wait"),
}
#: Tables of a run, which messages name without calling them.
TABLES = frozenset({"attempts", "tasks"})
#: Words that are typed otherwise.
PHRASES = {
    "as in group='relax'": "as in --group relax",
    "files=, arguments=, resources=, command=, env=": "--file, --argument, --memory-gib and others",
    "base_path= says": "--base-path says",
}
