"""A document: sections of words, tables and figures, to be written as a page or as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """A paragraph."""

    text: str


class Facts(NamedTuple):
    """Things by their names, a line each; those that are empty are left out."""

    rows: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """Rows of texts below a head.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequence of str
    total : int
        How many rows there are; the first ones are shown.
    where : str
        Where the others are.
    numbers : frozenset of int
        Columns of numbers.
    hashes : frozenset of int
        Columns of SHA-256.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int
    where: str
    numbers: frozenset[int] = frozenset()
    hashes: frozenset[int] = frozenset()


class Figure(NamedTuple):
    """A drawing.

    Attributes
    ----------
    html : str
        That needs no script, with all text in it escaped.
    caption : str
        What one sees, in words.
    """

    html: str
    caption: str


class Gallery(NamedTuple):
    """Figures beside each other.

    Attributes
    ----------
    figures : sequence of Figure
    are_large : bool
        Whether there is something to be read in them.
    """

    figures: Sequence[Figure]
    are_large: bool = False


class Text(NamedTuple):
    """Text as it stands, as source is; folded away on a page."""

    caption: str
    text: str


Block = Words | Facts | Table | Figure | Gallery | Text


class Section(NamedTuple):
    """A part of a document."""

    title: str
    blocks: Sequence[Block]


class Document(NamedTuple):
    """A document.

    Attributes
    ----------
    title, status : str
    head : sequence of Block
        What stands before the first section.
    sections : sequence of Section
        Those without anything in them are left out.
    """

    title: str
    status: str
    head: Sequence[Block]
    sections: Sequence[Section]
