"""A stamp: what tells, without opening it, that a file was written to, or that a name came to a folder."""

from __future__ import annotations

import os
from pathlib import Path

#: Inode, size, and when it was changed, in nanoseconds.
Stamp = list[int]


def stamp_of(path: str | Path) -> Stamp | None:
    """Return the stamp of what is at a path; None where nothing is that can be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
