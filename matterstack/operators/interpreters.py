"""Interpreters of this machine: which Python one is, and which packages it has; asked once, until that changes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matterstack import interrupts

_TIMEOUT_S = 30.0
_MOST_FILES = 20_000
_MARK = "matterstack-interpreter:"
#: Runs in the interpreter that is asked, which may be of Python 3.9.
_PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import importlib.metadata as metadata, importlib.util as util, json, platform
try:
    owners = metadata.packages_distributions()
except AttributeError:
    owners = {}
said = {}
for name in sys.argv[1:]:
    try:
        spec = util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        continue
    roots = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    versions, content = [], False
    for owner in sorted(set(owners.get(name, [name]))):
        try:
            found = metadata.distribution(owner)
        except metadata.PackageNotFoundError:
            continue
        versions.append(found.version)
        content = content or "dir_info" in json.loads(found.read_text("direct_url.json") or "{}")
    said[name] = ["+".join(versions), roots if content or not versions else []]
python = platform.python_implementation() + " " + ".".join(map(str, sys.version_info[:2]))
print("\\nmatterstack-interpreter:" + json.dumps([python, sys.executable, sys.path, said]))
"""


class Answer(NamedTuple):
    """What an interpreter has.

    Attributes
    ----------
    executable : str
        Its path, as it says itself.
    parts : mapping of str to str
        ``python`` and each package: its version; of one that is installed from a folder, or from none, its content.
    """

    executable: str
    parts: Mapping[str, str]


class _Known(NamedTuple):
    executable: str
    python: str
    path: Sequence[str]
    packages: Mapping[str, tuple[str, Sequence[str]]]
    stamp: tuple[Any, ...]


_known: dict[tuple[Any, ...], _Known] = {}
_contents: dict[str, tuple[tuple[Any, ...], str]] = {}


def ask(command: Sequence[str], packages: Sequence[str], env: Mapping[str, str]) -> Answer | str:
    """Ask an interpreter of this machine, or remember what it said; return why that is impossible.

    Parameters
    ----------
    command : sequence of str
        How it is called.
    packages : sequence of str
        Top-level names.
    env : mapping of str to str
        Variables that it gets besides those of this process.
    """
    there = {**os.environ, **env}
    there["PATH"] = f"{Path(sys.executable).parent}:{there.get('PATH', os.defpath)}"
    key = (*command, "", *packages, "", *(there.get(name) for name in ("PATH", "PYTHONPATH", "PYTHONHOME", "HOME")))
    known = _known.get(key)
    if known is None or _stamp(known.executable, known.path) != known.stamp:
        found = _ask(command, packages, there)
        if isinstance(found, str):
            return found
        known = _known[key] = found
    parts = {"python": known.python}
    for name in packages:
        version, roots = known.packages.get(name, ("is not there", ()))
        try:
            parts[name] = f"{version} {_content(roots)}".strip() if roots else version
        except OSError as error:
            return f"the package {name} cannot be read: {error}"
    return Answer(known.executable, parts)


def _ask(command: Sequence[str], packages: Sequence[str], env: Mapping[str, str]) -> _Known | str:
    try:
        with interrupts.heard():
            done = subprocess.run(
                [*command, "-c", _PROGRAM, *packages],
                capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, cwd="/", env=dict(env),
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        python, executable, path, said = json.loads(done.stdout.rpartition(_MARK)[2])
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return f"{' '.join(command)} cannot be asked for its packages: {type(error).__name__}"
    packages_there = {name: (str(version), tuple(roots)) for name, (version, roots) in said.items()}
    return _Known(executable, python, tuple(path), packages_there, _stamp(executable, path))


def _stamp(executable: str, path: Sequence[str]) -> tuple[Any, ...]:
    """Return what changes when something is installed: the folders that packages lie in are written to."""
    return tuple(_of(place) for place in (executable, *path))


def _of(place: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(place)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _content(roots: Sequence[str]) -> str:
    """Return the hash of the Python files of a package; they are read again only where one has changed."""
    files = sorted(path for root in roots for path in _python_files(root))
    stamp = tuple((path, _of(path)) for path in files)
    known = _contents.get("\0".join(roots))
    if known is None or known[0] != stamp:
        digest = hashlib.sha256()
        for path in files:
            relative = next((os.path.relpath(path, root) for root in roots if path.startswith(root + "/")), "")
            digest.update(f"{relative}\0{hashlib.sha256(Path(path).read_bytes()).hexdigest()}\n".encode())
        known = _contents["\0".join(roots)] = (stamp, f"sha256:{digest.hexdigest()}")
    return known[1]


def _python_files(root: str) -> list[str]:
    if not os.path.isdir(root):
        return [root]
    found = [f"{folder}/{name}" for folder, _, names in os.walk(root) for name in names if name.endswith(".py")]
    if len(found) > _MOST_FILES:
        raise OSError(f"it has more than {_MOST_FILES} files")
    return found
