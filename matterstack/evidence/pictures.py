"""Pictures that tasks left, as images that a page holds: those that are what their names say, up to an amount."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.parsers import expat

from matterstack.core.text import neutral
from matterstack.errors import UnsafeFileError
from matterstack.evidence.attempt_files import AttemptFiles
from matterstack.evidence.document import Figure
from matterstack.notebook.contents import TYPES
from matterstack.storage.rows import AttemptRecord

MOST_PICTURES, MOST_BYTES, MOST_BYTES_IN_ALL = 24, 1_000_000, 10_000_000
_BEGINS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}
_SVG = "http://www.w3.org/2000/svg svg"


class Pictures(NamedTuple):
    """Pictures of a run.

    Attributes
    ----------
    figures : list of Figure
    left_out : list of tuple
        Of each other one its attempt and name, and why it is not shown.
    """

    figures: list[Figure]
    left_out: list[tuple[str, str]]


def pictures_of(files: AttemptFiles, records: Sequence[AttemptRecord]) -> Pictures:
    """Return the pictures that completed attempts left and that their record names, the first ones first."""
    found = Pictures([], [])
    room = MOST_BYTES_IN_ALL
    for record, name, sha256, kind in _named(files, records):
        title = f"{record.name}: {name}"
        if len(found.figures) == MOST_PICTURES:
            found.left_out.append((title, f"{MOST_PICTURES} are shown at most"))
            continue
        try:
            content = _checked(files, record, name, sha256, kind)
        except FileNotFoundError:
            found.left_out.append((title, "it is not there any more"))
        except UnsafeFileError as error:
            found.left_out.append((title, str(error)))
        except OSError as error:  # without the path of this machine
            found.left_out.append((title, f"it cannot be read: {error.strerror}"))
        else:
            if len(content) > room:
                found.left_out.append((title, f"{MOST_BYTES_IN_ALL // 10**6} MB are shown at most"))
                continue
            room -= len(content)
            source = base64.b64encode(content).decode()
            html = f"<img alt='{escape(neutral(name))}' src='data:{kind};base64,{source}'>"
            found.figures.append(Figure(html, title))
    return found


def _named(files: AttemptFiles, records: Sequence[AttemptRecord]) -> Iterator[tuple[AttemptRecord, str, str, str]]:
    """Yield what is called as pictures are: attempt, name, SHA-256 and type."""
    for record in records:
        if record.attempt.status == "COMPLETED":
            for name, sha256, _ in files.left(record):
                if (kind := TYPES.get(PurePosixPath(name).suffix.lower())) is not None:
                    yield record, name, sha256, kind


def _checked(files: AttemptFiles, record: AttemptRecord, name: str, sha256: str, kind: str) -> bytes:
    """Return what a picture holds, which is what its name and its record say.

    Raises
    ------
    FileNotFoundError
        It is not there.
    UnsafeFileError
        It is too large, or something else.
    """
    try:
        content = files.read(record, files.results(record, name), MOST_BYTES)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"it cannot be shown: {error}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UnsafeFileError("it was changed after it was recorded")
    if not _is(kind, content):
        raise UnsafeFileError(f"it is no picture of type {kind}")
    return content


def _is(kind: str, content: bytes) -> bool:
    """Return whether content begins as files of its type do; an SVG is read to its end."""
    if kind == "image/webp":
        return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return _is_svg(content) if kind == "image/svg+xml" else content.startswith(_BEGINS[kind])


def _is_svg(content: bytes) -> bool:
    """Return whether it is XML with an ``svg`` as its root, which defines no entities: these can grow without bound."""
    roots: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def begin(name: str, _: object) -> None:
        roots.append(name)
        parser.StartElementHandler = None

    def refuse(*_: object) -> None:
        raise ValueError("it defines an entity")

    parser.StartElementHandler = begin
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return roots == [_SVG]
