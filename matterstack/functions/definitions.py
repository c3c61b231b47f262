"""Definitions of functions and classes: their source as it stands, checked against what was made of it."""

from __future__ import annotations
import __future__

import ast
import dataclasses
import enum
import functools
import inspect
import io
import linecache
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from matterstack.errors import FunctionSourceError
from matterstack.functions import installed

_FUTURES = functools.reduce(
    lambda flags, name: flags | int(getattr(__future__, name).compiler_flag), __future__.all_feature_names, 0
)
_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Definition:
    """The source of a function or a class, as a text of its own.

    Attributes
    ----------
    name : str
        What its ``def`` or ``class`` binds.
    qualname : str
    text : str
        With its comments, at the left margin; without decorators of `ms.task` unless these were asked for.
    nested : bool
        Whether it stands inside a function.
    """

    name: str
    qualname: str
    text: str
    nested: bool


@dataclass(frozen=True)
class _Source:
    """A file or a cell: its definitions by qualified name, in order, each with what it is compiled to."""

    lines: tuple[str, ...]
    definitions: Mapping[str, tuple[tuple[_Node, CodeType], ...]]


def function_definition(function: FunctionType, drops: Callable[[ast.expr], bool]) -> Definition:
    """Return the source of a function.

    Parameters
    ----------
    function : function
    drops : callable
        Which decorators are left out.

    Raises
    ------
    FunctionSourceError
        There is none, or it has changed since the function was defined.
    """
    source, node = _found(function)
    code, name = function.__code__, function.__qualname__
    if "." in code.co_qualname.rpartition("<locals>.")[2]:
        raise FunctionSourceError(f"{name} is a method: write a function outside of its class that does the same")
    return Definition(node.name, code.co_qualname, _text_of(source, node, drops), "<locals>" in code.co_qualname)


def _found(function: FunctionType) -> tuple[_Source, _Node]:
    """Return where a function is written, having compared it with that."""
    code, name = function.__code__, function.__qualname__
    text = _read(code.co_filename, function.__globals__)
    if text is None:
        raise FunctionSourceError(
            f"the source of {name} cannot be found (it was made by exec, or in a file that is gone): define it in a "
            "cell or in a module"
        )
    try:
        source = _source(text, code.co_flags & _FUTURES)
    except (SyntaxError, ValueError) as error:
        raise FunctionSourceError(f"the source of {name} can no longer be read ({error}): {_again(function)}") from None
    same = [node for node, other in source.definitions.get(code.co_qualname, ()) if _same(code, other)]
    if not same:
        raise FunctionSourceError(
            f"the source of {name} has changed since it was defined: {_again(function)}, so that the task runs what is "
            "written there"
        )
    return source, next((node for node in same if _first_line(node) == code.co_firstlineno), same[-1])


def class_definition(cls: type, drops: Callable[[ast.expr], bool]) -> Definition:
    """Return the source of a class that stands at the top of a module or cell; arguments as of `function_definition`.

    Raises
    ------
    FunctionSourceError
        There is none, or it has changed since the class was defined.
    """
    name = f"the class {cls.__qualname__}"
    if "<locals>" in cls.__qualname__:
        raise FunctionSourceError(f"{name} is defined inside a function: define it at the top of a cell or module")
    problem = None
    for text in _texts_with_class(cls):
        for flags in (0, __future__.annotations.compiler_flag):
            try:
                source = _source(text, flags)
            except (SyntaxError, ValueError):
                continue
            for node, code in reversed(source.definitions.get(cls.__qualname__, ())):
                if not isinstance(node, ast.ClassDef):
                    continue
                found = _class_differs(cls, node, code)
                if found is None:
                    return Definition(node.name, cls.__qualname__, _text_of(source, node, drops), nested=False)
                problem = problem or found
    if problem is None:
        raise FunctionSourceError(
            f"the source of {name} cannot be found: write it as a class statement at the top of a cell or of a module"
        )
    raise FunctionSourceError(
        f"the source of {name} has changed since it was defined ({problem}): {_again(cls)}, and make its objects again"
    )


def _again(thing: Any) -> str:
    module = thing.__module__
    return (
        "run its cell again" if module == "__main__" else f"import {module} again (restart the kernel, or %autoreload)"
    )


def check_module(module: types.ModuleType | None) -> None:
    """Raise `FunctionSourceError` where a function of a module is no longer what its file says."""
    if module is None:
        return
    for thing in list(vars(module).values()):
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        inner = inspect.unwrap(thing) if callable(thing) else thing
        functions = _functions_of(thing).values() if isinstance(thing, type) else [inner]
        for function in functions:
            if isinstance(function, FunctionType) and function.__code__.co_filename == getattr(
                module, "__file__", None
            ):
                _found(function)


# -- reading ------------------------------------------------------------------------------------


def _read(filename: str, namespace: dict[str, Any]) -> str | None:
    """Return a file as it is now, or a cell as it was run."""
    linecache.checkcache(filename)
    return "".join(linecache.getlines(filename, namespace)) or None


def _texts_with_class(cls: type) -> Iterator[str]:
    """Yield what may hold the statement of a class, the likeliest first."""
    space = space_of(cls)
    files = dict.fromkeys(function.__code__.co_filename for function in _functions_of(cls).values())
    if space.get("__file__"):
        files[str(space["__file__"])] = None
    for file in files:
        text = _read(file, space)
        if text is not None and not installed.is_installed_file(file):
            yield text
    if cls.__module__ == "__main__":
        yield from reversed(_cells(space))


def _cells(main: dict[str, Any]) -> list[str]:
    """Return the cells of this kernel in the order in which they ran, as Python."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    cells = [cell for cell in main.get("In", ()) if isinstance(cell, str)]
    return [shell.transform_cell(cell) if shell else cell for cell in cells]


@functools.lru_cache(maxsize=64)
def _source(text: str, flags: int) -> _Source:
    tree = ast.parse(text)
    # A module is compiled as a whole, a cell statement by statement; np.sum() becomes another code where np is imported
    # in what is compiled with it.
    codes: dict[tuple[str, int], list[CodeType]] = {}
    for part in (tree, *(ast.Module([statement], []) for statement in tree.body)):
        compiled = compile(part, "<source>", "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        for code in _codes(compiled):
            codes.setdefault((code.co_qualname, code.co_firstlineno), []).append(code)
    found: dict[str, list[tuple[_Node, CodeType]]] = {}
    for qualname, node in _nodes(tree, ""):
        found.setdefault(qualname, []).extend((node, code) for code in codes.get((qualname, _first_line(node)), ()))
    return _Source(tuple(io.StringIO(text).readlines()), {name: tuple(pairs) for name, pairs in found.items()})


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _nodes(node: ast.AST, path: str) -> Iterator[tuple[str, _Node]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Node):
            yield path + child.name, child
            yield from _nodes(child, f"{path}{child.name}.{'' if isinstance(child, ast.ClassDef) else '<locals>.'}")
        else:
            yield from _nodes(child, path)


def _first_line(node: _Node) -> int:
    return min(part.lineno for part in (*node.decorator_list, node))


# -- comparing ----------------------------------------------------------------------------------


def _same(code: CodeType, other: CodeType) -> bool:
    """Return whether two codes are one, wherever they stand. Asserts that pytest rewrote are taken on trust."""
    return _essence(code) == _essence(other) or any("@pytest_ar" in part.co_names for part in (code, *_codes(code)))


def _essence(code: CodeType) -> tuple[Any, ...]:
    return (
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_flags,
        tuple(_constant(constant) for constant in code.co_consts),
    )


def _constant(constant: Any) -> Any:
    if isinstance(constant, CodeType):
        return _essence(constant)
    if isinstance(constant, tuple):
        return ("tuple", *map(_constant, constant))
    if isinstance(constant, frozenset):
        return ("frozenset", *sorted(map(repr, constant)))
    return (type(constant).__name__, repr(constant))


def _functions_of(cls: type) -> dict[str, FunctionType]:
    """Return the functions that a class was written with, by their qualified name."""
    found = {}
    for member in vars(cls).values():
        for part in (
            (member.fget, member.fset, member.fdel)
            if isinstance(member, property)
            else (getattr(member, "func", member),)
        ):
            function = inspect.unwrap(getattr(part, "__func__", part)) if part is not None else None
            if isinstance(function, FunctionType) and not _is_generated(function.__code__.co_filename):
                # %autoreload puts a method that was edited into the class by way of a class of its own.
                name = function.__code__.co_qualname.replace("__autoreload_class__", cls.__qualname__)
                found[name] = function
    return found


def _is_generated(file: str) -> bool:
    """Return whether the functions of a file are no work of the user: written by dataclasses, attrs, functools, ..."""
    return file.startswith(("<string>", "<attrs ")) or installed.is_installed_file(file)


def _class_differs(cls: type, node: ast.ClassDef, code: CodeType) -> str | None:
    """Return in what a class differs from its source as it stands, or None."""
    within: dict[str, list[CodeType]] = {}
    for part in _codes(code):
        within.setdefault(part.co_qualname, []).append(part)
    for name, function in _functions_of(cls).items():
        if not any(_same(function.__code__, other) for other in within.get(name, ())):
            return name
    members = vars(cls)
    annotated = {
        line.target.id for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    if annotated != set(inspect.get_annotations(cls)) and not _conditional(node):
        return "its fields"
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name not in members and not line.name.startswith("__"):
            return line.name
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            for target in targets:
                if isinstance(target, ast.Name) and _value_differs(cls, target.id, line.value):
                    return target.id
    return _bases_differ(cls, node)


def _conditional(node: ast.ClassDef) -> bool:
    return any(isinstance(part, ast.If | ast.Try | ast.With | ast.For) for part in node.body)


def _value_differs(cls: type, name: str, written: ast.expr) -> bool:
    """Return whether a value of a class body that is written as a literal is another one now."""
    try:
        value = ast.literal_eval(written)
    except (ValueError, TypeError, SyntaxError):
        return False
    if name.startswith("__") or isinstance(value, list | dict | set):
        return False
    if issubclass(cls, enum.Enum):
        present = cls.__members__[name].value if name in cls.__members__ else vars(cls).get(name, value)
    elif name in getattr(cls, "_field_defaults", ()):
        present = cls._field_defaults[name]  # type: ignore[attr-defined]  # of a typing.NamedTuple
    elif dataclasses.is_dataclass(cls) and name in cls.__dataclass_fields__:
        present = cls.__dataclass_fields__[name].default
    else:
        present = vars(cls).get(name, dataclasses.MISSING)
    return not (type(present) is type(value) and repr(present) == repr(value))


def _bases_differ(cls: type, node: ast.ClassDef) -> str | None:
    """Return the name of a base that means another class by now, or None."""
    space = space_of(cls)
    bases = (*cls.__bases__, *cls.__dict__.get("__orig_bases__", ()))
    for base in node.bases:
        known, value = resolve(base, space)
        if known and isinstance(value, type) and value not in bases:
            return f"its base {ast.unparse(base)} was defined again since"
    return None


def space_of(cls: type) -> dict[str, Any]:
    """Return the names among which a class was defined: of its module, or of a campaign's source that was rebuilt."""
    top, *inner = cls.__qualname__.split(".")
    for module in (sys.modules.get(cls.__module__), *installed.rebuilt_modules()):
        found = vars(module).get(top) if module is not None else None
        for name in inner:
            found = getattr(found, name, None)
        if module is not None and found is cls:
            return vars(module)
    module = sys.modules.get(cls.__module__)
    return vars(module) if module is not None else {}


def is_own_class(cls: type) -> bool:
    """Return whether a class is the user's own."""
    if installed.is_own_name(cls.__module__):
        return True
    return cls.__module__ not in sys.modules and any(
        space_of(cls) is vars(module) for module in installed.rebuilt_modules()
    )


def stored_classes(thing: Any) -> Mapping[str, type]:
    """Return the classes, by the names that their values have, of the stored source that this was made from.

    Parameters
    ----------
    thing : function or type
        Of anywhere else there are none: its classes bear their own names.
    """
    inner = inspect.unwrap(thing)
    space = space_of(inner) if isinstance(inner, type) else getattr(inner, "__globals__", {})
    found: Mapping[str, type] = space.get(installed.CLASSES, {})
    return found


def resolve(node: ast.expr, space: Mapping[str, Any]) -> tuple[bool, Any]:
    """Return whether a name with attributes means something in a namespace, and what."""
    if isinstance(node, ast.Name) and node.id in space:
        return True, space[node.id]
    if isinstance(node, ast.Attribute):
        known, value = resolve(node.value, space)
        if known and hasattr(value, node.attr):
            return True, getattr(value, node.attr)
    return False, None


# -- writing ------------------------------------------------------------------------------------


def _text_of(source: _Source, node: _Node, drops: Callable[[ast.expr], bool]) -> str:
    """Return a definition at the left margin; lines that begin inside a string stay as they are."""
    start, end = _first_line(node), node.end_lineno or node.lineno
    dropped = {
        line
        for decorator in node.decorator_list
        if drops(decorator)
        for line in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1)
    }
    while (
        start > 1
        and source.lines[start - 2].lstrip().startswith("#")
        and _margin(source.lines[start - 2]) == node.col_offset
    ):
        start -= 1
    inside = {
        line
        for part in ast.walk(node)
        if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes))
        for line in range(part.lineno + 1, (part.end_lineno or part.lineno) + 1)
    }
    lines = []
    for number in range(start, end + 1):
        if number in dropped:
            continue
        line = source.lines[number - 1]
        margin = 0 if number in inside else min(node.col_offset, _margin(line))
        lines.append(line[margin:])
    return "".join(lines).rstrip() + "\n"


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
