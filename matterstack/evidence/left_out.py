"""Left-out files: what an export has not taken along of a run, as it says itself, for whoever verifies it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside
from matterstack.storage.run_directory import RunDirectory

#: What every export says of itself, for programs.
EVIDENCE = "evidence.json"
MOST_BYTES = 1_000_000_000


class NotTaken(NamedTuple):
    """A file, or a folder with all in it, that an export has not taken along.

    Attributes
    ----------
    path : str
        From the run's directory on.
    why : str
    wanted : bool
        Whether it was to be taken, and could not be: who verifies the export has to hear of it.
    """

    path: str
    why: str
    wanted: bool = False


class LeftOut:
    """What is not in an export.

    Parameters
    ----------
    directory : RunDirectory
        Of a run: where that is no export, nothing was left out.

    Attributes
    ----------
    is_export : bool
        Whether the run is one of an export, beside which its sums lie.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._told: dict[str, NotTaken] = {}
        self._folders: set[str] = set()
        self.is_export = False
        try:
            said: Any = parse_json(read_inside(directory.path, EVIDENCE, MOST_BYTES), max_bytes=MOST_BYTES)
            told = [_told(one) for one in said["files"]["left_out"]]
        except (OSError, UnsafeFileError, InvalidJsonError, LookupError, TypeError, AttributeError):
            return
        self.is_export = True
        self._told = {one.path: one for one in told}
        self._folders = {f"{folder}/" for path in self._told for folder in PurePosixPath(path).parents}

    def all(self) -> list[NotTaken]:
        """Return each file or folder that was left out."""
        return list(self._told.values())

    def find(self, path: str) -> NotTaken | None:
        """Return by what a file or a folder was left out: itself, or one that it is in; None where it was not."""
        if path in self._told:
            return self._told[path]
        if path in self._folders:  # one of which nothing was taken along is not there, either
            return NotTaken(path, "what was in it was left out")
        folder = path
        while "/" in (folder := folder.rstrip("/")):
            folder = folder.rpartition("/")[0] + "/"
            if folder in self._told:
                return self._told[folder]
        return None


def _told(one: Any) -> NotTaken:
    return NotTaken(str(one["path"]), str(one["why"]), one.get("wanted") is True)
