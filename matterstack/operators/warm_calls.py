"""Calls that may begin warm: what is imported for each beforehand, or why it has to begin cold."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from matterstack.core.attempts import Attempt
from matterstack.core.calls import COMMAND
from matterstack.errors import UnsafeFileError
from matterstack.files import list_inside, read_inside

_OWN = frozenset({"matterstack_main", "matterstack_values"})
#: What each server has: for none of these it takes another one.
_THERE = frozenset({"__future__", "builtins", "contextlib", "io", "json", "os", "sys", "time"})
_SCRIPT = COMMAND[1]
_MODULES = "modules"
_MOST_BYTES = 10_000_000
_MOST_PROGRAMS = 256
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?")
_OPTION = re.compile(r"-([bBdEIOPqRsSuvx]+|[XW].+)")  # all but -c, -m, -i, and those that only tell something
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_READS = frozenset({"copy", "get", "items", "keys", "values", "__getitem__", "__contains__"})


def start_of(attempt: Attempt, command: str | Sequence[str], *, is_wanted: bool) -> dict[str, Any] | None:
    """Return what a warm server would import for an attempt, as plain data.

    Parameters
    ----------
    attempt : Attempt
        Its directory is in place.
    command : str or sequence of str
        As its operator runs it.
    is_wanted : bool
        What the operator's setting says.

    Returns
    -------
    dict or None
        ``{"imports": [[module, [names]], ...]}``, or ``{"cold": why}``; None for what is no call of a function.
    """
    if attempt.task.call is None or isinstance(command, str):
        return None
    if not is_wanted:
        return {"cold": "its operator has warm=False"}
    if not _starts_python(command[:-1]):
        return {"cold": f"{' '.join(command[:-1])} may do more than start Python"}
    program = attempt.task.call.program
    if not isinstance(program, str):
        return {"cold": "its program is not kept"}
    known = _known()
    if program not in known:
        if len(known) >= _MOST_PROGRAMS:
            known.clear()
        known[program] = _start_of_program(attempt)
    return known[program]


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    """Return what was found out about programs, by their SHA-256: thousands of calls have one."""
    return {}


def _starts_python(words: Sequence[str]) -> bool:
    """Return whether a command starts Python and does nothing else: no debugger, no limits, no further processes."""
    names = [os.path.basename(word) for word in words]
    first = 0
    if len(names) > 2 and names[0] in _CONDA and words[1] == "run":
        first = next((at for at, name in enumerate(names) if at > 1 and _PYTHON.fullmatch(name)), 0)
    if not _PYTHON.fullmatch(names[first]):
        return False
    options = iter(words[first + 1 :])
    for option in options:
        if option in ("-X", "-W"):
            next(options, None)
        elif not _OPTION.fullmatch(option):
            return False
    return True


def _start_of_program(attempt: Attempt) -> dict[str, Any]:
    try:
        trees = {path: ast.parse(read_inside(attempt.directory, path, _MOST_BYTES)) for path in _sources(attempt)}
    except (OSError, UnsafeFileError, SyntaxError, ValueError, RecursionError) as error:
        return {"cold": f"its program cannot be read: {error}"}
    if any(_sets_environment(tree) for tree in trees.values()):
        return {"cold": "it sets environment variables, which packages read when they are imported"}
    own = _OWN | {path.split("/")[1].partition(".")[0] for path in trees if path.startswith(f"{_MODULES}/")}
    wanted: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for module, names in _imports(tree, deep=path == _SCRIPT):
            if module.partition(".")[0] not in own and module not in _THERE:
                wanted.setdefault(module, set()).update(names)
    return {"imports": [[module, sorted(names)] for module, names in sorted(wanted.items())]}


def _sources(attempt: Attempt) -> Iterator[str]:
    """Yield the Python files of the program that are the user's: what it runs first, and what rides along."""
    yield _SCRIPT
    waiting = [_MODULES]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list_inside(attempt.directory, folder)
        except FileNotFoundError:
            continue
        for name, size in entries:
            if size is None:
                waiting.append(f"{folder}/{name}")
            elif name.endswith(".py"):
                yield f"{folder}/{name}"


def _imports(tree: ast.Module, *, deep: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield what a source imports: a module, and names in it.

    Parameters
    ----------
    tree : ast.Module
    deep : bool
        Also inside of functions, which call them when they run.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _sets_environment(tree: ast.Module) -> bool:
    """Return whether a source may set a variable of its own process: whatever does more than read ``environ``."""
    reads: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=inner, ctx=ast.Load()):
                reads.add(id(inner))
            case ast.Attribute(value=inner, attr=name) if name in _READS:
                reads.add(id(inner))
            case ast.Compare(comparators=others):
                reads.update(map(id, others))
            case ast.keyword(value=inner) | ast.FormattedValue(value=inner) | ast.For(iter=inner):
                reads.add(id(inner))
            case ast.Dict(keys=keys, values=values):
                reads.update(id(value) for key, value in zip(keys, values, strict=True) if key is None)
            case ast.Call(func=ast.Name(id="dict" | "len" | "sorted" | "list"), args=args):
                reads.update(map(id, args))
    return any(
        (
            isinstance(node, ast.Attribute | ast.Name)
            and _name(node) in ("environ", "environb")
            and id(node) not in reads
        )
        or (isinstance(node, ast.Attribute | ast.Name) and _name(node) in ("putenv", "unsetenv"))
        for node in ast.walk(tree)
    )


def _name(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id
