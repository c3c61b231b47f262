"""Installed packages, and modules of the user's own: which is which, and how a task gets at what is in them."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from matterstack.errors import FunctionSourceError

#: How the names of modules begin that are made from the stored source of campaigns.
REBUILT = "_matterstack_campaign_"
#: What such a module calls its classes by the names that their values have.
CLASSES = "__matterstack_classes__"
_OURS = str(Path(__file__).parent.parent) + "/"


@functools.lru_cache(maxsize=1)
def _roots() -> tuple[str, ...]:
    """Return the folders of Python, of installed packages, and of packages that are installed as they are edited."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return (*(folder + "/" for folder in folders if folder), _OURS, *_edited())


def _edited() -> Iterator[str]:
    """Yield the packages of editable installations: those that bear the name of what was installed."""
    for distribution in importlib.metadata.distributions():
        origin = distribution.read_text("direct_url.json")
        if not origin or not json.loads(origin).get("dir_info", {}).get("editable"):
            continue
        root = Path(unquote(urlsplit(json.loads(origin)["url"]).path))
        names = (distribution.read_text("top_level.txt") or re.sub(r"[-.]+", "_", distribution.name)).split()
        yield from (f"{folder / name}/" for folder in (root, root / "src") for name in names)


def is_installed_file(file: str) -> bool:
    """Return whether a source file belongs to Python or to an installed package."""
    return file.startswith(("<frozen ", *_roots())) or "/site-packages/" in file or "/dist-packages/" in file


@functools.lru_cache(maxsize=4096)
def _is_own(name: str, file: str | None, folders: tuple[str, ...]) -> bool:
    if name == "__main__":
        return True
    places = [place for place in (file, *folders) if place]
    return bool(places) and not any(is_installed_file(place + ("" if place is file else "/")) for place in places)


def is_own(module: ModuleType | None) -> bool:
    """Return whether a module is the user's own: a notebook, a script, or a file beside it."""
    if module is None:
        return False
    spec = getattr(module, "__spec__", None)
    folders = tuple(getattr(spec, "submodule_search_locations", None) or ())
    return _is_own(module.__name__, getattr(module, "__file__", None), folders)


def is_own_name(module_name: str | None) -> bool:
    """Return whether the module of this name, which has been imported, is the user's own."""
    return is_own(sys.modules.get(module_name or ""))


def rebuilt_modules() -> list[ModuleType]:
    """Return the modules that were made from the stored source of campaigns, the latest first."""
    return [module for name, module in reversed(list(sys.modules.items())) if name.startswith(REBUILT)]


def package_of(module_name: str) -> str | None:
    """Return the installed package of a module by its top name; None for Python's own."""
    top = module_name.partition(".")[0]
    return None if top in sys.stdlib_module_names or top in ("__main__", "__future__") else top


def import_of(name: str, value: object) -> tuple[str, str] | None:
    """Return the statement that gives an object of an installed package this name, and the module it is taken from.

    The statement is the shortest way that was seen to lead to the very object; None where there is none.
    """
    if isinstance(value, ModuleType):
        module = _module_name(value)
        if module is None:
            return None
        if name == module:
            return f"import {module}", module
        parent, _, last = module.rpartition(".")
        if parent and last == name and getattr(sys.modules.get(parent), last, None) is value:
            return f"from {parent} import {name}", parent
        return f"import {module} as {name}", module
    words = [word for word in (getattr(value, "__name__", None), name) if isinstance(word, str)]
    for module in _homes(value, words):
        for word in words:
            if word.isidentifier() and vars(sys.modules[module]).get(word) is value:
                return f"from {module} import {word}" + (f" as {name}" if word != name else ""), module
    return None


def import_of_instance(name: str, value: object) -> tuple[str, str] | None:
    """Return the same for an object that bears no name, found in the installed module that holds it."""
    found = [
        (module_name, word)
        for module_name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and "._" not in f".{module_name}" and _may_be_named(module_name)
        for word, held in list(vars(module).items())
        if held is value and not word.startswith("_")
    ]
    if not found:
        return None
    module_name, word = min(found, key=lambda pair: (pair[0].count("."), pair))
    return f"from {module_name} import {word}" + (f" as {name}" if word != name else ""), module_name


def _module_name(module: ModuleType) -> str | None:
    """Return a name under which a module is imported: its own, else the first that leads to it (``os.path``)."""
    if sys.modules.get(module.__name__) is module:
        return module.__name__
    return min((name for name, other in list(sys.modules.items()) if other is module), default=None)


def _homes(value: object, words: list[str]) -> Iterator[str]:
    """Yield the modules that may be where an object is imported from, public ones first."""
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and home in sys.modules:
        parts = home.split(".")
        first = [".".join(parts[: length + 1]) for length in range(len(parts))]
        yield from (module for module in first if module in sys.modules and _may_be_named(module))
    holders = [
        name
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and any(vars(module).get(word) is value for word in words)
        and _may_be_named(name)
        and not is_own(module)
    ]
    yield from sorted(holders, key=lambda name: ("._" in f".{name}", name.count("."), name))


def _may_be_named(name: str) -> bool:
    return all(part.isidentifier() for part in name.split(".")) and not is_own_name(name) and REBUILT not in name


# -- modules that ride along --------------------------------------------------------------------


def own_modules(names: Iterable[str]) -> tuple[dict[str, Path], set[str]]:
    """Return the files of the user's own modules and of those that they import in turn, and the packages they import.

    Parameters
    ----------
    names : iterable of str
        Modules that have been imported.

    Returns
    -------
    files : dict of str to pathlib.Path
        By the name of the module.
    packages : set of str
        Top names of installed packages.
    """
    files: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in files:
            continue
        file = _file_of(name)
        if file is None:
            continue
        files[name] = file
        waiting += [".".join(name.split(".")[:length]) for length in range(1, name.count(".") + 1)]
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for other in imported_names(ast.parse(file.read_bytes()), package):
            if is_own_module_to_be(other):
                waiting.append(other)
            elif (top := package_of(other)) is not None and not is_own_module_to_be(top):
                packages.add(top)
    return files, packages


def _file_of(name: str) -> Path | None:
    """Return the source file of one of the user's own modules; None for a folder without one."""
    spec = _spec(name)
    if spec is None or spec.origin is None:
        return None
    if not spec.origin.endswith(".py"):
        raise FunctionSourceError(
            f"the module {name} is no Python source ({spec.origin}), so it cannot ride along with a task: install it "
            "as a package where the task runs"
        )
    return Path(spec.origin)


def _spec(name: str) -> Any:
    module = sys.modules.get(name)
    if module is not None and getattr(module, "__spec__", None) is not None:
        return module.__spec__
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def is_own_module_to_be(name: str) -> bool:
    """Return whether a name is that of one of the user's own modules, also where it has not been imported yet."""
    if name in sys.modules:
        return name != "__main__" and is_own_name(name)
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or (top in sys.modules and not is_own_name(top)):
        return False
    spec = _spec(name)
    return spec is not None and _is_own(name, spec.origin, tuple(spec.submodule_search_locations or ()))


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the modules that a source imports anywhere, and what it imports from packages, which may be modules.

    Parameters
    ----------
    tree : ast.AST
    package : str
        What its relative imports are relative to.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            yield base
            if is_own_module_to_be(base):
                yield from (name for alias in node.names if is_own_module_to_be(name := f"{base}.{alias.name}"))


def place_of(name: str, file: Path) -> str:
    """Return where a module that rides along lies in the task's directory."""
    return f"modules/{name.replace('.', '/')}" + ("/__init__.py" if file.name == "__init__.py" else ".py")
