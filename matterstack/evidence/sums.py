"""Sums: what an export holds, by SHA-256, as sha256sum writes and checks it; for whoever verifies the export."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from matterstack.errors import UnsafeFileError
from matterstack.evidence.left_out import EVIDENCE
from matterstack.files import read_inside

SUMS = "SHA256SUMS"
_EVIDENCE = frozenset({EVIDENCE, "evidence.schema.json", "report.html", "report.md", "ro-crate-metadata.json"})
_MOST_BYTES = 1_000_000_000
_LINE = re.compile(rb"\\?([0-9a-f]{64}) [ *](.+)")
#: How sha256sum writes a name in which these are; the line begins with a backslash then.
_ESCAPED = ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"))


def is_evidence(path: str) -> bool:
    """Return whether a file of an export tells of its run, and is no part of that, which may go on."""
    return path in _EVIDENCE or path.startswith("tables/")


def as_sums(sums: Mapping[str, str]) -> bytes:
    r"""Return files by their SHA-256 as a text that ``sha256sum -c`` reads.

    Parameters
    ----------
    sums : mapping of str to str
        SHA-256 by path.

    Examples
    --------
    >>> as_sums({"report.md": "0" * 64}).endswith(b"0  report.md\n")
    True
    """
    return b"".join(_line(path.encode("utf-8", "surrogateescape"), sums[path]) for path in sorted(sums))


def _line(path: bytes, sha256: str) -> bytes:
    name = path
    for character, written in _ESCAPED:
        name = name.replace(character, written)
    return (b"" if name == path else b"\\") + f"{sha256}  ".encode() + name + b"\n"


def sums_of(root: Path) -> dict[str, str]:
    """Return what an export says that it holds: SHA-256 by path; names with odd characters are left out.

    Raises
    ------
    FileNotFoundError
        There are none: it is no export, or they were removed.
    UnsafeFileError
        They are not as an export writes them.
    """
    found = {}
    for line in read_inside(root, SUMS, _MOST_BYTES).splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise UnsafeFileError(f"{SUMS} is not as an export writes it")
        if not line.startswith(b"\\"):
            found[match[2].decode("utf-8", "surrogateescape")] = match[1].decode()
    if EVIDENCE not in found:
        raise UnsafeFileError(f"{SUMS} does not name {EVIDENCE}, which every export has")
    return found
