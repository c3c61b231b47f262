"""Parts of a program by name, each as the hash of what it says: comments and layout do not count."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping


def source_parts(files: Mapping[str, bytes], function: str) -> dict[str, str]:
    """Return what a call runs, in parts.

    Parameters
    ----------
    files : mapping of str to bytes
        Of the program, by their paths: ``task.py``, modules that ride along, and arrays.
    function : str
        Its name.

    Returns
    -------
    dict of str
        As in ``{"function relax": "sha256:...", "helper strained": ..., "module lattices: a": ...}``, in their order.
    """
    found: dict[str, str] = {}
    for path, content in sorted(files.items(), key=lambda item: (item[0] != "task.py", item[0])):
        if not path.endswith(".py"):
            found[f"data {path}"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
            continue
        module = "" if path == "task.py" else path.removeprefix("modules/").removesuffix(".py").replace("/", ".")
        said: dict[str, list[str]] = {}
        order: list[str] = []
        for node in ast.parse(content).body:
            label = _label(node, function if not module else "")
            said.setdefault(label, []).append(ast.dump(node))
            order.append(label)
        for label, texts in said.items():
            name = f"module {module}: {label}" if module else label
            found[name] = _hash("\n".join(texts))
        # Where a statement stands may matter as well.
        found[f"order of {module or 'task.py'}"] = _hash("\n".join(order))
    return found


def _label(node: ast.stmt, function: str) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return f"function {name}" if name == function else f"helper {name}"
        case ast.ClassDef(name=name):
            return f"class {name}"
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            return f"constant {', '.join(dict.fromkeys(_names(node)))}"
        case ast.Import() | ast.ImportFrom():
            return "imports"
    return "statements"


def _names(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _hash(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
