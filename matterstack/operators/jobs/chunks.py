"""Chunks: many attempts that one job runs one after the other.

A chunk is a directory ``.chunks/<name>`` beside those of its attempts: the list of its members, the program that runs
them, and the ids of its jobs, each written before that job is released. A chunk whose job was killed gets another one,
which goes on where the last one stood, since a member that was claimed is never run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.attempts import Attempt
from matterstack.errors import UnsafeFileError
from matterstack.files import read_inside, write_inside
from matterstack.operators.warm_calls import start_of

#: What runs a chunk, by its name there.
_PROGRAMS = {
    "chunk.py": Path(__file__).parent / "chunk_runner.py",
    "chunk_warm.py": Path(__file__).parent / "chunk_warm.py",
    "warm_script.py": Path(__file__).parent.parent / "warm_script.py",
    "warm_server.py": Path(__file__).parent.parent / "warm_server.py",
}
_NAME = f"{MACHINERY}/chunk"
_PREFIX, _OF_TOKENS = "ms-chunk-", "ms-"
_RANDOM_BYTES = 4
_CHUNK = re.compile(rf"{_PREFIX}[0-9a-f]+")
_MOST_BYTES = 100_000
_MOST_LIST_BYTES = 1_000_000_000


class Chunk:
    """One chunk, by its name.

    Parameters
    ----------
    parent : str
        The operator's directory.
    name : str
        Also that of its jobs in the queue.
    """

    def __init__(self, parent: str, name: str) -> None:
        self.name = name
        self.place = f".chunks/{name}"
        self.directory = Path(parent, self.place)

    @classmethod
    def make(
        cls,
        attempts: Sequence[Attempt],
        preamble: str,
        interpreter: str,
        python: str | None,
        path: str | None,
        *,
        warm: bool,
    ) -> Chunk:
        """Write a chunk of these attempts; each then knows which one it belongs to.

        Parameters
        ----------
        attempts : sequence of Attempt
        preamble : str
            Lines of shell before all of them.
        interpreter : str
            What runs the chunk, where its job is.
        python : str or None
            What runs calls of functions.
        path : str or None
            What comes first in the ``PATH`` of the commands.
        warm : bool
            Whether calls of functions begin warm where they can.
        """
        # Named after its first attempt, which stands for it in limits; one that was killed halfway leaves its name.
        first = attempts[0].token.removeprefix(_OF_TOKENS)
        chunk = cls(attempts[0].parent, f"{_PREFIX}{first}{os.urandom(_RANDOM_BYTES).hex()}")
        place = "" if path is None else f'export PATH={shlex.quote(path)}:"$PATH"\n'
        script = f"""#!/bin/sh
# {len(attempts)} attempts, one after the other.
matterstack_home=$PWD
{place}eval {shlex.quote(preamble)}
command cd "$matterstack_home" && exec {shlex.join(shlex.split(interpreter))} -I chunk.py
"""  # -I: a preamble may set PYTHONHOME and PYTHONPATH for the commands
        chunk.directory.mkdir(parents=True)
        members = [_member(attempt, python, warm) for attempt in attempts]
        write_inside(chunk.directory, "chunk.json", json.dumps({"members": members}).encode())
        for name, source in _PROGRAMS.items():
            write_inside(chunk.directory, name, source.read_bytes())
        write_inside(chunk.directory, "job.sh", script.encode())
        for attempt in attempts:
            (attempt.directory / _NAME).write_text(chunk.name)
        return chunk

    @property
    def ids(self) -> list[str]:
        """The ids of its jobs, oldest first; each was stored before its job was released."""
        return _lines(self.directory, "jobs")

    def others_may_run(self, attempts: Sequence[Attempt]) -> bool:
        """Return whether a member that is none of these attempts may still run, or nobody can tell."""
        names = {attempt.name for attempt in attempts}
        try:
            members = json.loads(read_inside(self.directory, "chunk.json", _MOST_LIST_BYTES))["members"]
        except (OSError, UnsafeFileError, ValueError, KeyError, TypeError):
            return True
        others = [Path(self.directory.parent.parent, m["directory"]) for m in members if m["directory"] not in names]
        return any(
            not (other / MACHINERY / "exit.json").exists() and not (other / MACHINERY / "cancel").exists()
            for other in others
        )

    def add_job(self, number: str) -> None:
        """Store the id of another job, durably."""
        if number not in (known := self.ids):
            write_inside(self.directory, "jobs", "\n".join([*known, number]).encode())

    def submitted_at(self) -> float:
        """Return when the id of its last job was stored, in seconds since the Unix epoch; 0 where none is."""
        try:
            return os.lstat(self.directory / "jobs").st_mtime
        except OSError:
            return 0.0


def leader_of(name: str) -> str:
    """Return the token of the first attempt of a chunk, by its name; any other name as it is.

    Examples
    --------
    >>> leader_of("ms-chunk-0123abcd89ef4567"), leader_of("ms-0123abcd")
    ('ms-0123abcd', 'ms-0123abcd')
    """
    return _OF_TOKENS + name.removeprefix(_PREFIX)[: -2 * _RANDOM_BYTES] if _CHUNK.fullmatch(name) else name


def chunk_of(attempt: Attempt) -> str | None:
    """Return the name of the chunk an attempt belongs to; None for one with a job of its own."""
    if attempt.external_id is not None:
        return attempt.external_id if attempt.external_id.startswith(_PREFIX) else None
    if not os.path.exists(f"{attempt.parent}/{attempt.name}/{_NAME}"):
        return None
    names = _lines(attempt.directory, _NAME)
    return names[0] if names and _CHUNK.fullmatch(names[0]) else None


def _lines(directory: Path, name: str) -> list[str]:
    with contextlib.suppress(OSError, UnsafeFileError):
        return read_inside(directory, name, _MOST_BYTES).decode(errors="replace").split()
    return []


def _member(attempt: Attempt, python: str | None, warm: bool) -> Mapping[str, Any]:
    task = attempt.task
    env = {**task.env, **attempt.variables}
    command = task.command_with(python)
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    return {
        "directory": attempt.name,
        "argv": argv,
        "env": env,
        "limit_s": task.resources.walltime_of(attempt.attempt),
        "call": start_of(attempt, command, is_wanted=warm),
    }


def groups(attempts: Iterable[Attempt], most: int) -> list[list[Attempt]]:
    """Group attempts that want the same resources, at most so many together, in their order."""
    alike: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        alike.setdefault(json.dumps(attempt.task.resources.scaled(attempt.attempt), sort_keys=True), []).append(attempt)
    return [same[first : first + most] for same in alike.values() for first in range(0, len(same), most)]
