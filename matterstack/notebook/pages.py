"""Pages of a text file, however large it is and whatever is in it; and where in it something stands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from matterstack import interrupts
from matterstack.core.text import neutral
from matterstack.files import open_inside, read_part

#: So many bytes are shown at once at most, ...
PAGE_BYTES = 1 << 16
#: ... and so many before a place are looked through for the beginning of its line.
_BEFORE_BYTES = 1 << 14
#: So many bytes are searched at once.
_CHUNK_BYTES = 4 << 20
#: No more places are told of one search.
MOST_FOUND = 10_000
_MOST_WORD = 1000


class Page(NamedTuple):
    """A part of a text file, as it is shown.

    Attributes
    ----------
    start, end : int
        Where in the file it begins, and where the next one does: in bytes.
    text : str
        What does not show, and what is no text, stands there as escapes.
    place : int or None
        How many characters of the text come before what was asked for.
    is_last : bool
        The file had no more when it was read.
    size : int
        Of the file, in bytes.
    file : str
        Tells it from another one that gets its name.
    """

    start: int
    end: int
    text: str
    place: int | None
    is_last: bool
    size: int
    file: str


@contextmanager
def opened(root: Path, relative: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a plain file below `root` for the block, following no link.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    UnsafeFileError
        A link on the way, or something that is not a regular file.
    """
    descriptor = open_inside(root, relative)
    try:
        yield descriptor, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def identity(status: os.stat_result) -> str:
    """Return what tells a file from another one that gets its name."""
    return f"{status.st_dev}.{status.st_ino}"


@interrupts.held()
def page_from(root: Path, relative: str, at: int) -> Page:
    """Return the page that begins at a byte, as the page before ended there."""
    with opened(root, relative) as (file, status):
        return _page(file, status, max(0, at))


@interrupts.held()
def page_before(root: Path, relative: str, at: int) -> Page:
    """Return the page that ends before a byte; that at the end of a file for one that is beyond it."""
    with opened(root, relative) as (file, status):
        end = min(max(0, at), status.st_size)
        start = max(0, end - PAGE_BYTES)
        raw = read_part(file, end - start, start)
        if start:
            cut = raw.find(b"\n", 0, len(raw) - 1) + 1 or _continued(raw)
            start, raw = start + cut, raw[cut:]
        is_last = end >= status.st_size
        if is_last:
            raw = raw[: len(raw) - _unfinished(raw)]
        return Page(start, start + len(raw), shown(raw), None, is_last, status.st_size, identity(status))


@interrupts.held()
def page_around(root: Path, relative: str, at: int) -> Page:
    """Return a page that has a byte in one of its first lines."""
    with opened(root, relative) as (file, status):
        at = min(max(0, at), max(0, status.st_size - 1))
        before = read_part(file, min(at, _BEFORE_BYTES), max(0, at - _BEFORE_BYTES))
        cut = before.rfind(b"\n") + 1
        if not cut and at > len(before):
            cut = _continued(before)
        page = _page(file, status, at - len(before) + cut)
        return page._replace(place=len(shown(before[cut:])))


def _page(file: int, status: os.stat_result, at: int) -> Page:
    raw = read_part(file, PAGE_BYTES, at)
    is_last = at + len(raw) >= status.st_size
    cut = len(raw) - _unfinished(raw)
    if not is_last:
        cut = raw.rfind(b"\n") + 1 or cut
    return Page(at, at + cut, shown(raw[:cut]), None, is_last, status.st_size, identity(status))


def _continued(raw: bytes) -> int:
    """Return how many bytes at the beginning belong to a character that begins before."""
    return next((n for n in range(min(3, len(raw))) if raw[n] & 0xC0 != 0x80), min(3, len(raw)))


def _unfinished(raw: bytes) -> int:
    """Return how many bytes at the end belong to a character that ends after."""
    for back in range(1, min(3, len(raw)) + 1):
        byte = raw[-back]
        if byte & 0xC0 != 0x80:
            length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
            return back if length > back else 0
    return 0


def shown(raw: bytes) -> str:
    r"""Return bytes as text to look at: what a terminal would do is told, and not done.

    Examples
    --------
    >>> print(shown(b"50 %\r\x1b[1m100 %\x1b[0m \xff"))
    50 %
    \x1b[1m100 %\x1b[0m \xff
    """
    text = raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(map(neutral, text.split("\n")))


class Found(NamedTuple):
    """How far a search has come: what it found since it last told, and how many bytes it has gone through."""

    places: list[int]
    at: int
    size: int
    is_over: bool


def search(root: Path, relative: str, word: str, start: int = 0) -> Iterator[Found]:
    """Look for a word in a file, and tell after each few megabytes; upper and lower case are alike.

    Parameters
    ----------
    root : pathlib.Path
    relative : str
        The file, below it.
    word : str
    start : int
        Where to begin, in bytes.

    Yields
    ------
    Found
        Of a file that grows meanwhile as much is searched as there was; of one that was cut short, what is left.
    """
    word = word[:_MOST_WORD]
    forms = (word, word.lower(), word.upper(), word.title())
    needles = sorted({form.encode("utf-8", "surrogateescape").lower() for form in forms})
    overlap = max(map(len, needles)) - 1
    count, last = 0, start
    with opened(root, relative) as (file, status):
        size, at, carried = status.st_size, start, b""
        while at < size and count < MOST_FOUND:
            chunk = read_part(file, min(_CHUNK_BYTES, size - at), at)
            if not chunk:
                break
            text, base = carried + chunk.lower(), at - len(carried)
            places = []
            for place, length in _occurrences(text, needles):
                if base + place >= last and count < MOST_FOUND:
                    places.append(base + place)
                    last, count = base + place + length, count + 1
            at += len(chunk)
            carried = text[-overlap:] if overlap else b""
            yield Found(places, at, size, False)
        yield Found([], at, size, True)


def _occurrences(text: bytes, needles: list[bytes]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for needle in needles:
        place = text.find(needle) if needle else -1
        while place >= 0 and len(found) <= MOST_FOUND * len(needles):
            found.append((place, len(needle)))
            place = text.find(needle, place + len(needle))
    return sorted(found)
