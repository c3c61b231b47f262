"""Left-out files: what an export has not taken along of a run, as it says itself, for whoever verifies it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside
from matterstack.storage.run_directory import RunDirectory

#: What every export says of itself, for programs.
EVIDENCE = "evidence.json"
MOST_BYTES = 1_000_000_000


class LeftOut:
    """What is not in an export.

    Parameters
    ----------
    directory : RunDirectory
        Of a run: where that is no export, nothing was left out.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._why: dict[str, str] = {}
        self._folders: set[str] = set()
        try:
            said: Any = parse_json(read_inside(directory.path, EVIDENCE, MOST_BYTES), max_bytes=MOST_BYTES)
            self._why = {str(one["path"]): str(one["why"]) for one in said["files"]["left_out"]}
        except (OSError, UnsafeFileError, InvalidJsonError, LookupError, TypeError, AttributeError):
            return
        self._folders = {f"{folder}/" for path in self._why for folder in PurePosixPath(path).parents}

    def all(self) -> list[tuple[str, str]]:
        """Return each file or folder that was left out, and why."""
        return list(self._why.items())

    def why(self, path: str) -> str:
        """Return why a file, a folder, or the folder that it is in, was left out; empty where it was not."""
        if path in self._why:
            return self._why[path]
        if path in self._folders:  # one of which nothing was taken along is not there, either
            return "what was in it was left out"
        folder = path
        while "/" in (folder := folder.rstrip("/")):
            folder = folder.rpartition("/")[0] + "/"
            if folder in self._why:
                return self._why[folder]
        return ""
