"""Keys of a cache: all that a result depends on as far as it is recorded, in parts that have names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matterstack.core.text import neutral

FORMAT = 1
#: By kind of part, what it is called in front of a name.
_CALLED = {
    "source": "",
    "arguments": "argument ",
    "files": "file ",
    "data": "data of ",
    "command": "",
    "env": "variable ",
    "depends": "",
    "outputs": "output ",
    "environment": "",
    "parameters": "parameter ",
    "made": "",
}
_LONGEST = 60

Parts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Key:
    """What a result depends on.

    Parameters
    ----------
    name : str
        Of the function; of a command its first word.
    parts : mapping
        By kind and name, texts: values that are short, hashes of what is long or may be secret.
    """

    name: str
    parts: Parts

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all parts."""
        return digest_of([FORMAT, self.name, self.parts])


def digest_of(data: Any) -> str:
    """Return the SHA-256 of plain data as canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def short(text: str) -> str:
    """Return a text that stands in a key: itself, or its hash where it is long."""
    return text if len(text) <= 200 else f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def differences(parts: Parts, other: Parts) -> list[str]:
    """Return in words where a key differs from another one that is known.

    Examples
    --------
    >>> differences({"source": {"helper f": "sha256:1"}, "environment": {"ase": "3.29.0"}},
    ...             {"source": {"helper f": "sha256:2"}, "environment": {"ase": "3.28.0"}})
    ['helper f changed', 'ase 3.28.0 -> 3.29.0']
    """
    found = {
        (kind, name): _said(
            f"{_CALLED.get(kind, '')}{name}", other.get(kind, {}).get(name), parts.get(kind, {}).get(name)
        )
        for kind in dict.fromkeys((*parts, *other))
        for name in dict.fromkeys((*parts.get(kind, {}), *other.get(kind, {})))
        if parts.get(kind, {}).get(name) != other.get(kind, {}).get(name)
    }
    # What was added or taken away has changed the order as well.
    return [said for (_, name), said in found.items() if not name.startswith("order of ")] or list(found.values())


def _said(what: str, before: str | None, now: str | None) -> str:
    what = neutral(what)
    if before is None:
        return f"{what} is new"
    if now is None:
        return f"{what} is gone"
    readable = all(len(one) <= _LONGEST and not one.startswith(("sha256:", "{")) for one in (before, now))
    return f"{what} {neutral(before)} -> {neutral(now)}" if readable else f"{what} changed"
