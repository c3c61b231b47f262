"""Files that a run keeps by their content, below ``files/``: which of them its tasks name."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from matterstack.core.strict_json import parse_json
from matterstack.errors import InvalidJsonError, InvalidTaskError, UnsafeFileError
from matterstack.storage.run_directory import RunDirectory

INPUT, SOURCE, ARGUMENT = "input", "source", "argument"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MOST_BYTES = 100_000_000


def kept_of(directory: RunDirectory, specs: Iterable[str]) -> dict[str, str]:
    """Return what tasks name of what the run keeps: by SHA-256 what it is.

    Parameters
    ----------
    directory : RunDirectory
    specs : iterable of str
        What is done, as JSON text.
    """
    found: dict[str, str] = {}
    programs: dict[str, None] = {}
    for spec in dict.fromkeys(specs):
        for sha256, kind in _named(spec):
            if _SHA256.match(sha256):
                found.setdefault(sha256, kind)
                if kind == SOURCE:
                    programs[sha256] = None
    for program in programs:
        found |= dict.fromkeys(parts_of(directory, program).values(), SOURCE)
    return found


def _named(spec: str) -> Iterator[tuple[str, str]]:
    """Yield what one specification names, which may be anything in a run of somebody else."""
    try:
        said: Any = json.loads(spec)
        files, call = said.get("files") or {}, said.get("call") or {}
        sums = [source["sha256"] for source in files.values() if isinstance(source, dict) and "sha256" in source]
        yield from ((str(sha256), INPUT) for sha256 in sums)
        yield from ((str(name).removesuffix(".npy"), ARGUMENT) for name in call.get("arrays") or ())
        for source in call.get("values") or ():
            if isinstance(source, dict):
                yield from ((str(sha256), INPUT) for sha256 in (source.get("files") or {}).values())
        if "program" in call:
            yield str(call["program"]), SOURCE
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return


def parts_of(directory: RunDirectory, sha256: str) -> dict[str, str]:
    """Return what a program is made of, SHA-256 by path; nothing where it cannot be read, which is told of itself."""
    try:
        listing: Any = parse_json(directory.read_stored(sha256, _MOST_BYTES), max_bytes=_MOST_BYTES)
        files = listing["files"].items()
        return {path: one for path, one in files if isinstance(one, str) and _SHA256.match(one)}
    except (OSError, UnsafeFileError, InvalidTaskError, InvalidJsonError, LookupError, TypeError, AttributeError):
        return {}


def literal(source: Any) -> bytes | None:
    """Return the content of a file of a task that its specification holds itself; None for any other."""
    if isinstance(source, str):
        return source.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(source["base64"])
    except (TypeError, KeyError, ValueError):
        return None
