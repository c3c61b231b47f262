"""Names that a definition uses, told from its text alone: those of others, which have to be there for it."""

from __future__ import annotations
import __future__

import ast
import dis
import inspect
from dataclasses import dataclass
from types import CodeType

from matterstack.errors import FunctionSourceError


@dataclass(frozen=True)
class Names:
    """The names of others that a definition uses: when it is made, when it is called, and in annotations only."""

    first: tuple[str, ...]
    later: tuple[str, ...]
    annotated: tuple[str, ...]
    made: frozenset[str]  # by ``global`` statements
    chains: tuple[tuple[str, ...], ...]  # names with attributes


def names_of(text: str, whose: str) -> Names:
    """Return the names that the text of a definition needs; `whose` text it is stands in errors."""
    tree = ast.parse(text)
    try:
        code = compile(text, "task.py", "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    except SyntaxError as error:
        if "nonlocal" not in str(error.msg):
            raise
        raise FunctionSourceError(
            f"{whose} changes a variable of the function around it (nonlocal, line {error.lineno} of its source): "
            "define it at the top of a cell or module, and let it take and return what changes"
        ) from None
    first: dict[str, None] = {}
    later: dict[str, None] = {}
    made: set[str] = set()
    _collect(code, True, first, later, made)
    annotations = [
        part
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(part, ast.expr)
    ]
    annotated = dict.fromkeys(
        part.id for annotation in annotations for part in ast.walk(annotation) if isinstance(part, ast.Name)
    )
    chains = dict.fromkeys(chain for node in ast.walk(tree) if (chain := _chain(node)) is not None)
    return Names(
        tuple(first),
        tuple(name for name in later if name not in first),
        tuple(name for name in annotated if name not in first and name not in later),
        frozenset(made),
        tuple(chains),
    )


def _collect(code: CodeType, at_once: bool, first: dict[str, None], later: dict[str, None], made: set[str]) -> None:
    """Gather the global names of a code and of those inside; a class body knows its own names as well."""
    own: set[str] = set()
    for step in dis.get_instructions(code):
        name = str(step.argval)
        if step.opname in ("STORE_NAME", "STORE_GLOBAL") and step.opname.endswith("GLOBAL"):
            made.add(name)
        elif step.opname == "STORE_NAME":
            own.add(name)
        elif step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")) and name not in own:
            (first if at_once else later).setdefault(name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            body = not constant.co_flags & inspect.CO_OPTIMIZED or constant.co_name.startswith("<")
            _collect(constant, at_once and body and constant.co_name != "<lambda>", first, later, made)


def _chain(node: ast.AST) -> tuple[str, ...] | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) and attributes else None
