"""The SHA-256 of what came home with a kit: made once for each state of a file, and never for long under a lock.

A few megabytes are read at once. What is larger is read by a process of its own (`sum_files`), which notes what it
found in the directory of the kit, so that a tick, or the next kernel, has only to look there.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.errors import UnsafeFileError
from matterstack.files import is_folder, open_inside
from matterstack.operators.requests import sum_files
from matterstack.operators.requests.sum_files import digest_of, stamp

#: Read at once in one look at all kits; about a tenth of a second.
_AT_ONCE_BYTES = 64_000_000 if hasattr(os, "fork") else math.inf  # on Windows no process detaches itself
#: Handed to one process; arguments have to fit.
_MOST_NAMES, _MOST_CHARACTERS = 500, 60_000


def digest(root: Path, relative: str) -> str:
    """Return the SHA-256 of a plain file below `root`."""
    return digest_of(open_inside(root, relative))[1]


class Made(NamedTuple):
    """What is known of the sums that were asked for.

    Attributes
    ----------
    sums : dict of str to str
    awaited : list of str
        Files whose sums are being made.
    unreadable : dict of str to str
        Files that cannot be read, and why.
    """

    sums: dict[str, str]
    awaited: list[str]
    unreadable: dict[str, str]


class Sums:
    """Sums of files in kits, kept as long as the files stay as they are.

    Parameters
    ----------
    at_once_bytes : float
        How much may be read in one look; the rest is read apart.
    """

    def __init__(self, at_once_bytes: float = _AT_ONCE_BYTES) -> None:
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        self._at_once_bytes = self._left_bytes = at_once_bytes

    def renew(self) -> None:
        """Allow as much to be read at once as a look may."""
        self._left_bytes = self._at_once_bytes

    def forget(self, directory: Path) -> None:
        """Forget a kit that is over."""
        self._known = {key: known for key, known in self._known.items() if key[0] != str(directory)}

    def of(self, directory: Path, files: Mapping[str, os.stat_result], names: Iterable[str]) -> Made:
        """Return the sums of files in the output of a kit, as far as they are known by now.

        Parameters
        ----------
        directory : pathlib.Path
            Of the kit.
        files : mapping of str to os.stat_result
            The files that are there.
        names : iterable of str
            Those of them that are asked for.
        """
        made = Made({}, [], {})
        notes: dict[str, list[str]] | None = None
        for name in names:
            state = stamp(files[name])
            known = self._known.get((str(directory), name))
            if known is not None and known[0] == state:
                made.sums[name] = known[1]
            elif files[name].st_size <= self._left_bytes:
                self._left_bytes -= files[name].st_size
                self._read(directory, name, made)
            else:
                if notes is None:
                    notes = sum_files.read_notes(f"{directory}/{MACHINERY}/sums.json")
                note = notes.get(name, [])
                if len(note) != 3 or note[0] != state:
                    made.awaited.append(name)
                elif note[2]:
                    made.unreadable[name] = str(note[2])
                else:
                    made.sums[name] = note[1]
                    self._known[str(directory), name] = (state, note[1])
        if made.awaited:
            _start(directory, made.awaited)
        return made

    def _read(self, directory: Path, name: str, made: Made) -> None:
        try:
            state, found = digest_of(open_inside(directory / "output", name))
        except FileNotFoundError:
            return  # gone since: the next look sees another state
        except UnsafeFileError as error:
            made.unreadable[name] = str(error)
        except OSError as error:
            made.unreadable[name] = error.strerror or str(error)
        else:
            made.sums[name] = found
            self._known[str(directory), name] = (state, found)


def _start(directory: Path, names: list[str]) -> None:
    """Have sums made apart; where somebody does so already, nothing comes of it."""
    chosen, characters = [], 0
    for name in names[:_MOST_NAMES]:
        characters += len(os.fsencode(name))
        if characters <= _MOST_CHARACTERS:
            chosen.append(name)
    machinery = directory / MACHINERY
    machinery.mkdir(exist_ok=True)
    if not is_folder(machinery):
        raise UnsafeFileError(f"{MACHINERY} is a link, and must be a directory")
    # It detaches itself at once, so that it outlives this process and leaves nothing to reap.
    subprocess.run(
        [sys.executable, "-I", "-S", sum_files.__file__, str(directory), *chosen],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # a look that finds no sums asks again
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
    )
