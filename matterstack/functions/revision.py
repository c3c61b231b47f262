"""The revision of the user's own modules: the commit of each git repository they are in, and whether it was changed."""

from __future__ import annotations

import contextlib
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_REPOSITORIES = 10
_TIMEOUT_S = 2.0


def revision(*, of_modules: bool) -> dict[str, dict[str, Any]]:
    """Return, by the name of each repository, ``commit`` and ``dirty``; None where git cannot tell, or not in time.

    Parameters
    ----------
    of_modules : bool
        Whether code of the user's runs, so that the modules count that were imported; the notebook or script does
        always.
    """
    roots = {
        root
        for folder in {folder_of_script(), *(_folders() if of_modules else ())}
        if (root := _root(folder)) is not None
    }
    return {root.name: _state(root) for root in sorted(roots)[:_MOST_REPOSITORIES]}


def _folders() -> Iterator[Path]:
    from matterstack.functions import installed  # which reads the metadata of all that is installed

    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and installed.is_own(module):
            yield Path(file).absolute().parent


def folder_of_script() -> Path:
    """Return where the script or the notebook of this process lies."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    with contextlib.suppress(OSError):  # it was removed
        # Where a program of the environment runs, such as a kernel, it is what lies here. So it is below ~/.local.
        user = site.getuserbase()
        own = isinstance(file, str) and not file.startswith((sys.prefix, f"{user}/bin/", f"{user}/lib/"))
        return Path(str(file)).absolute().parent if own else Path.cwd()
    return Path("/")


def _root(folder: Path) -> Path | None:
    return next((above for above in (folder, *folder.parents) if os.path.lexists(above / ".git")), None)


def _state(root: Path) -> dict[str, Any]:
    import subprocess

    ask = ["status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    command = ["git", "--no-optional-locks", "-C", str(root), *ask]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": None, "dirty": None}
    lines = done.stdout.splitlines()
    commit = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), None)
    if done.returncode or commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
