"""Laid-out files: what a run puts into the directory of an attempt that the record tells to the byte."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from matterstack.core.calls import Call
from matterstack.evidence.attempt_files import as_object
from matterstack.evidence.kept_files import literal
from matterstack.orchestration.call_inputs import as_arguments
from matterstack.orchestration.inputs import as_parameters
from matterstack.storage.rows import AttemptRecord

#: What a record says that a stranger wrote may be anything.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def laid_out(record: AttemptRecord, parts: Callable[[str], Mapping[str, str]]) -> dict[str, str]:
    """Return SHA-256 by name: of files that the plan holds, of parameters, and of the arguments and program of a call.

    Parameters
    ----------
    record : AttemptRecord
    parts : callable
        Tells of a program by its SHA-256 what it is made of.
    """
    spec = as_object(record.spec)
    found: dict[str, str] = {}
    with contextlib.suppress(*_NONSENSE):
        found |= _held(spec)
    with contextlib.suppress(*_NONSENSE):
        found |= _called(spec, parts)
    return found


def _held(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return what the plan itself holds."""
    files = {name: literal(source) for name, source in as_object(spec.get("files")).items()}
    if spec.get("parameters") is not None:
        files["parameters.json"] = as_parameters(spec["parameters"])
    return {name: _sum(content) for name, content in files.items() if content is not None}


def _called(spec: Mapping[str, Any], parts: Callable[[str], Mapping[str, str]]) -> dict[str, str]:
    """Return what a call is made with; nothing of a task that is none."""
    if "call" not in spec:
        return {}
    call = Call.from_json(spec["call"])
    arrays = {path: path.rpartition("/")[2].removesuffix(".npy") for path in call.arrays}
    return {**parts(str(call.program)), **arrays, "args.json": _sum(as_arguments(call))}


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
