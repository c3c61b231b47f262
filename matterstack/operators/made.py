"""Records of what attempts were made with: read from their directories, and hashed where nobody has yet."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

from matterstack import interrupts
from matterstack.core.made import (
    MADE,
    MOST_HASHED_BYTES,
    SUMS,
    SURROUNDINGS,
    Made,
    Output,
    environment,
    output_of,
    told_by_call,
)
from matterstack.core.strict_json import parse_json
from matterstack.core.task import RESULT
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import open_inside, read_inside
from matterstack.platforms import host_name

_MOST_BYTES = 1_000_000
_TOO_LARGE = f"it is larger than {MOST_HASHED_BYTES >> 20} MiB"


def here() -> str | None:
    """Return what commands of this process run in."""
    names = ("APPTAINER_NAME", "SINGULARITY_NAME", "LOADEDMODULES")
    return _here(host_name(), *(os.environ.get(name, "") for name in names))


@functools.lru_cache(maxsize=8)
def _here(host: str, apptainer: str, singularity: str, modules: str) -> str | None:
    return environment({"host": host, "container": apptainer or singularity, "modules": modules})


def of_call(directory: str) -> Made:
    """Return what a call wrote of itself; nothing where it did not, or what is no such thing."""
    try:
        return told_by_call(parse_json(read_inside(directory, MADE, _MOST_BYTES)))
    except (OSError, UnsafeFileError, InvalidJsonError):
        return Made()


def of_job(directory: str, outputs: Sequence[str]) -> Made:
    """Return what the script of a job wrote, and the call in it."""
    told = of_call(directory)
    lines = _text(directory, SURROUNDINGS).splitlines()
    if told.environment is None and lines:
        told = told._replace(environment=environment(dict(zip(("host", "container", "modules"), lines, strict=False))))
    wanted = [*outputs, RESULT]
    found = []
    for line in _text(directory, SUMS).splitlines():
        sha256, _, rest = line.partition(" ")
        size, _, number = rest.partition(" ")
        if size.isdecimal() and number.isdecimal() and int(number[:9]) < len(wanted):
            found.append(output_of(wanted[int(number)], sha256, int(size[:19])))
    why_not = f"the job did not hash it: there is no sha256sum there, or {_TOO_LARGE}"
    return told.with_outputs([output for output in found if output is not None], outputs, why_not)


def of_command_here(directory: str, outputs: Sequence[str], *, is_call: bool) -> Made:
    """Return what is known of a command that ran on this machine; what it left is hashed now, within bounds."""
    told = of_call(directory) if is_call else Made()
    if told.environment is None:
        told = told._replace(environment=here())
    known = {output.name for output in told.outputs}
    names = [name for name in (*outputs, RESULT) if name not in known]
    left = MOST_HASHED_BYTES
    found: list[Output] = []
    for name in names:
        if (output := _hashed(directory, name, left)) is not None:
            found.append(output)
            left -= output.size
    return told.with_outputs(found, outputs, f"{_TOO_LARGE}, with what is hashed beside it")


def nothing(outputs: Iterable[str], why: str) -> Made:
    """Return that nothing is known, and why."""
    return Made(None, (), dict.fromkeys(outputs, why))


def _text(directory: str, name: str) -> str:
    try:
        return read_inside(directory, name, _MOST_BYTES).decode(errors="replace")
    except (OSError, UnsafeFileError):
        return ""


def _hashed(directory: str, name: str, most_bytes: int) -> Output | None:
    """Return a file with its hash; None where it is larger, or is no plain file."""
    import hashlib

    if name == RESULT and not os.path.lexists(f"{directory}/{name}"):
        return None  # of most commands
    try:
        with open(open_inside(directory, name), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most_bytes:
                return None
            with interrupts.heard():
                digest: Any = hashlib.file_digest(file, "sha256")
            return Output(name, digest.hexdigest(), size)
    except (OSError, UnsafeFileError):
        return None
