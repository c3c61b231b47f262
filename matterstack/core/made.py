"""Records of what an attempt was made with and left, as whatever ran beside it tells: its surroundings, and hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from matterstack.core.attempt_files import MACHINERY
from matterstack.core.strict_json import to_text

#: What a call leaves of it, and a job, in its directory.
MADE, SURROUNDINGS, SUMS = f"{MACHINERY}/made.json", f"{MACHINERY}/surroundings", f"{MACHINERY}/sums"
#: A larger file is not hashed.
MOST_HASHED_BYTES = 256 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST = 4000
_MOST_PACKAGES = 500
#: What is told of surroundings, in this order.
_TOLD = ("host", "python", "packages", "container", "modules")


class Output(NamedTuple):
    """A file that an attempt left; its size is in bytes."""

    name: str
    sha256: str
    size: int


class Made(NamedTuple):
    """What an attempt was made with and left.

    Attributes
    ----------
    environment : str or None
        What it ran in, as canonical JSON text: thousands of attempts have one.
    outputs : sequence of Output
    not_hashed : mapping of str to str
        By the name of an output, why nobody has hashed it.
    """

    environment: str | None = None
    outputs: Sequence[Output] = ()
    not_hashed: Mapping[str, str] = MappingProxyType({})

    def with_outputs(self, found: Iterable[Output], wanted: Iterable[str], why_not: str) -> Made:
        """Return it with more outputs; of those that are wanted and not there, `why_not` is said."""
        outputs = {output.name: output for output in (*self.outputs, *found)}
        lacking = {name: self.not_hashed.get(name, why_not) for name in wanted if name not in outputs}
        return Made(self.environment, tuple(outputs.values()), lacking)


class Recalled(NamedTuple):
    """What an attempt got from a cache in place of running.

    Attributes
    ----------
    data : str
        JSON text.
    cached : str
        From which entry, as JSON text.
    made : Made
    """

    data: str
    cached: str
    made: Made


def environment(told: Mapping[str, Any]) -> str | None:
    """Return what is known of surroundings as text, whoever told it; None for nothing.

    Examples
    --------
    >>> environment({"python": "3.12.3", "host": "node1", "shoes": "brown", "container": ""})
    '{"host":"node1","python":"3.12.3"}'
    """
    kept: dict[str, Any] = {}
    for name in _TOLD:
        value = told.get(name)
        if isinstance(value, str) and value:
            kept[name] = value[:_LONGEST]
        elif name == "packages" and isinstance(value, Mapping):
            kept[name] = {
                str(package)[:200]: str(version)[:200]
                for package, version in sorted(value.items(), key=lambda item: str(item[0]))[:_MOST_PACKAGES]
            }
    return to_text(kept) if kept else None


def told_by_call(said: Any) -> Made:
    """Return what a call wrote of itself into its `made.json`, which may be anything."""
    if not isinstance(said, Mapping):
        return Made()
    files = said.get("files")
    outputs = [
        output
        for name, pair in (files.items() if isinstance(files, Mapping) else ())
        if isinstance(pair, list) and len(pair) == 2 and (output := output_of(name, *pair)) is not None
    ]
    return Made(environment(said), outputs)


def output_of(name: str, sha256: object, size: object) -> Output | None:
    """Return an output; None where that is no SHA-256 or no size."""
    good = isinstance(sha256, str) and _SHA256.match(sha256) and type(size) is int and 0 <= size < 1 << 62
    return Output(name, str(sha256), int(str(size))) if good else None
