"""Parameters of a function that a run keeps the source of: read, and not run."""

from __future__ import annotations

import ast
from typing import NamedTuple


class Parameters(NamedTuple):
    """What a function may be called with.

    Attributes
    ----------
    by_position : tuple of str
        In their order; those that may be given by name, too, are among them.
    by_name : frozenset of str
        Those that may be given by name.
    any_name : bool
        Whether it takes any other name besides.
    """

    by_position: tuple[str, ...]
    by_name: frozenset[str]
    any_name: bool


def parameters_of(text: str, function: str) -> Parameters | None:
    """Return the parameters of a function as the text of its program has them; None where it is not written there.

    Examples
    --------
    >>> sorted(parameters_of("def relax(atoms, /, fmax=0.1, *, steps=10): ...", "relax").by_name)
    ['fmax', 'steps']
    """
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            both = [*node.args.posonlyargs, *node.args.args]
            named = [*node.args.args, *node.args.kwonlyargs]
            return Parameters(
                tuple(one.arg for one in both), frozenset(one.arg for one in named), node.args.kwarg is not None
            )
    return None
