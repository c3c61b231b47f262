"""Programs that run calls of functions, as a run keeps them: a list of files, each by its content."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import sys
from collections.abc import Mapping

from matterstack.errors import UnsafeFileError
from matterstack.files import link_inside, read_inside, write_new, write_whole
from matterstack.storage.run_directory import RunDirectory

_MOST_BYTES = 100_000_000
#: What every program imports. Thousands of attempts share one file of it, and one that is compiled, which saves a call
#: half of its start.
SUPPORT = ("matterstack_values.py", "matterstack_main.py")


class KeptProgram:
    """The files of a program, as a run keeps them.

    Attributes
    ----------
    packages : tuple of str
        Those that it imports.
    text : str
        Of ``task.py``.
    """

    def __init__(self, directory: RunDirectory, sha256: str) -> None:
        listing = json.loads(directory.read_stored(sha256, _MOST_BYTES))
        self.packages: tuple[str, ...] = tuple(listing["packages"])
        files: Mapping[str, str] = listing["files"]
        contents = {path: directory.read_stored(content, _MOST_BYTES) for path, content in files.items()}
        self.text = contents["task.py"].decode()
        self._directory = directory
        #: A person may edit these where they lie, so each attempt has its own.
        self._copied = {path: content for path, content in contents.items() if path not in SUPPORT}
        self._parts: Mapping[str, str] | None = None
        self._linked = {path: f"files/{files[path]}" for path in SUPPORT}
        self._support = {path: (contents[path], files[path]) for path in SUPPORT}
        places = (*self._copied, *self._linked, "__pycache__/")
        self._folders = dict.fromkeys(place.rpartition("/")[0] for place in places if "/" in place)

    def parts(self, function: str) -> Mapping[str, str]:
        """Return what it is made of, by the hashes of what that says."""
        if self._parts is None:
            from matterstack.functions.source_parts import source_parts

            self._parts = source_parts(self._copied, function)
        return self._parts

    def place(self, home: str) -> None:
        """Place the program in an attempt's directory, which nobody else sees yet.

        Raises
        ------
        FileNotFoundError, UnsafeFileError
            The run has lost a part of it.
        """
        if home.startswith(f"{self._directory.path}/"):  # elsewhere it is looked at, and nothing is made for it
            self._compile()
        for folder in self._folders:
            os.makedirs(f"{home}/{folder}", exist_ok=True)
        for path, content in self._copied.items():
            write_new(f"{home}/{path}", content)
        for path, place in self._linked.items():
            link_inside(self._directory.path, place, f"{home}/{path}")

    def _compile(self) -> None:
        """Have what every program imports compiled, once."""
        for path, (content, sha256) in self._support.items():
            name = f"__pycache__/{path.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
            self._linked[name] = _compiled(self._directory, path, content, sha256)
        self._support = {}


def _compiled(directory: RunDirectory, path: str, content: bytes, sha256: str) -> str:
    """Return where below a run's directory a module is, compiled for this Python; it is made where it is not there.

    Python checks it by the hash of the source (PEP 552), and another Python does not look at it. It is no part of what
    the program is: equal sources do not give equal bytes.
    """
    place = f"files/{sha256}.{sys.implementation.cache_tag}.pyc"
    head = importlib.util.MAGIC_NUMBER + (0b11).to_bytes(4, "little") + importlib.util.source_hash(content)
    try:
        if read_inside(directory.path, place, _MOST_BYTES).startswith(head):
            return place
    except (OSError, UnsafeFileError):
        pass  # it is made anew
    code = compile(content, path, "exec", dont_inherit=True)
    write_whole(directory.path / place, head + marshal.dumps(code))
    return place
