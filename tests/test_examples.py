"""Examples of the pages that doctest does not run: what they name is there, and takes what it is given."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms

ROOT = Path(__file__).parent.parent
#: Decisions say what was so when they were made, and the copies of a built site are looked at where they are from.
PAGES = [
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/howto/*.md"),
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")),
]
#: Files, and what another tool has.
NOT_OURS = {"run.lock", "run.py", "run.steps"}
OWNERS = {"ms": ms, "run": ms.Run, "flow": ms.Workflow}


def examples(text: str) -> Iterator[ast.AST]:
    """Return the examples of a page: its blocks of Python, and what stands in backticks if it is Python."""
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if ">>>" not in block:
            yield ast.parse(textwrap.dedent(block))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose):
        try:
            yield ast.parse(span.removeprefix("@").removeprefix("await "))
        except SyntaxError:
            continue  # a command, a file, a part of a line


def named(node: ast.AST) -> tuple[str, Any] | None:
    """Return what ``ms.name``, ``run.name`` or ``flow.name`` names, which has to be there."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OWNERS:
        owner = OWNERS[node.value.id]
        name = f"{node.value.id}.{node.attr}"
        if name in NOT_OURS:
            return None
        assert hasattr(owner, node.attr), f"there is no {name}"
        return name, getattr(owner, node.attr)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_an_example_names_is_there(page: Path) -> None:
    for example in examples(page.read_text(encoding="utf-8")):
        for node in ast.walk(example):
            named(node)
            called = named(node.func) if isinstance(node, ast.Call) else None
            if called is not None and isinstance(node, ast.Call):
                known = inspect.signature(called[1]).parameters
                takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert takes_any or given <= set(known), f"{called[0]} takes no {given - set(known)}"
