"""Workspaces as people name them: by a name, a pattern of names, or a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from matterstack.errors import FindError, RunNotFoundError
from matterstack.storage.run_directory import RunDirectory, list_runs

#: One, or several.
Workspaces = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def runs_in(workspaces: Workspaces, base_path: str | os.PathLike[str] = ".") -> list[RunDirectory]:
    """Return the runs of some workspaces, each once: in the order that these are named in, and by name.

    Parameters
    ----------
    workspaces : str, path-like, or a sequence of them
        A name; a pattern of names, with ``*``, ``?`` or ``[...]``; or the path of a workspace, which is where a text
        has a slash in it.
    base_path : path-like
        Where ``workspaces/`` is, for names.

    Raises
    ------
    RunNotFoundError
        There is no such workspace.
    FindError
        It is no name and no path.
    """
    several = [workspaces] if isinstance(workspaces, str | os.PathLike) else workspaces
    if not isinstance(several, list | tuple) or not all(isinstance(one, str | os.PathLike) for one in several):
        raise FindError(f"a workspace is named by its name or its path, and not by {workspaces!r:.100}")
    found: dict[Path, RunDirectory] = {}
    for one in several:
        for base, name in _places(one, base_path):
            found |= {directory.path: directory for directory in list_runs(base, name)}
    return list(found.values())


def _places(one: str | os.PathLike[str], base_path: str | os.PathLike[str]) -> list[tuple[Path, str]]:
    """Return where each workspace is, and what it is called."""
    base = Path(base_path).absolute()
    if isinstance(one, PurePath) or os.sep in os.fspath(one):
        path = Path(os.path.normpath(Path(one).absolute()))
        if path.parent.name != "workspaces":
            raise RunNotFoundError(f"{path} is no workspace: those are folders of a workspaces/", path=path)
        return [(path.parent.parent, path.name)]
    name = os.fspath(one)
    if not set("*?[") & set(name):
        return [(base, name)]
    root = base / "workspaces"
    there = sorted(path.name for path in root.iterdir() if (path / "runs").is_dir()) if root.is_dir() else []
    if not (named := [(base, known) for known in there if fnmatchcase(known, name)]):
        raise RunNotFoundError(f"no workspace in {root} is called {name!r}; base_path= says where it is", path=root)
    return named
