"""The runs that this user may step: made by this user, or trusted by a word of theirs.

A run directory can hold commands of anybody. So whether it may be stepped is recorded outside of it, in the user's own
folder (``$XDG_STATE_HOME/matterstack/trust``, by default below ``~/.local/state``), a file each: its name is made from
the run's random key and from device, inode and birth of its directory. A rename keeps those; a copy, an unzipped or a
returned directory has others. The birth is needed, since a file system gives the inode of what was removed to the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from matterstack.errors import UntrustedRunError
from matterstack.files import birth_ns

#: Names folders whose runs are trusted, where homes do not last: in containers, CI, on a JupyterHub.
VARIABLE = "MATTERSTACK_TRUST"


def _book() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "matterstack" / "trust"


def _entry(kind: str, path: Path, key: str = "") -> Path:
    """Return where it is recorded that a directory is trusted."""
    status = os.stat(path)
    name = json.dumps([kind, key, status.st_dev, status.st_ino, birth_ns(path)])
    return _book() / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _record(entry: Path, path: Path) -> None:
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = json.dumps({"path": str(path), "at": time.time()})  # for people; the name is what counts
    entry.write_text(said + "\n", encoding="utf-8", errors="backslashreplace")


def record_run(path: Path, key: str) -> None:
    """Record that a run may be stepped by this user.

    Parameters
    ----------
    path : pathlib.Path
        Its directory.
    key : str
        The random key in its config.json.

    Raises
    ------
    OSError
        The user's folder cannot be written.
    """
    _record(_entry("run", path, key), path)


def record_folder(path: Path) -> None:
    """Record that every run below a folder may be stepped by this user, whoever puts it there."""
    _record(_entry("folder", path), path)


def is_trusted(path: Path, key: str) -> bool:
    """Return whether this user has made a run, or said that it may be stepped.

    Parameters
    ----------
    path : pathlib.Path
        The run's directory.
    key : str
        The random key in its config.json.
    """
    with contextlib.suppress(OSError):
        if _entry("run", path, key).is_file():
            return True
        real = path.resolve()
        if any(_entry("folder", folder).is_file() for folder in (real, *real.parents)):
            return True
        named = [Path(name).resolve() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
        return any(real.is_relative_to(folder) for folder in named)
    return False


def refusal(path: Path, would_run: str) -> UntrustedRunError:
    """Return the error of a run that was not trusted.

    Parameters
    ----------
    path : pathlib.Path
    would_run : str
        What stepping it would run, in plain words.
    """
    return UntrustedRunError(
        f"{path} was not made by you in this place, and you have not said that you trust it. Stepping it would run, as "
        f"you: {would_run}. Looking at it runs nothing. If you know where it comes from: "
        f"matterstack.trust({str(path)!r})",
        path=path,
        would_run=would_run,
    )
