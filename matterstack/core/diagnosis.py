"""A diagnosis: one thing around runs that was looked at, how it is, why that matters, and what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Grade(StrEnum):
    """How a thing is."""

    WELL = "well"
    WEAK = "weak"
    WRONG = "wrong"


class Diagnosis(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    grade : Grade
        With what is weak one can work, and should know it; with what is wrong one cannot.
    why : str
        What was seen; and where it is not well, why that matters.
    remedy : str
        What to do; empty where it is well.
    """

    what: str
    grade: Grade
    why: str
    remedy: str = ""


def well(what: str, seen: str) -> Diagnosis:
    """Return that a thing is well."""
    return Diagnosis(what, Grade.WELL, seen)


def weak(what: str, why: str, remedy: str) -> Diagnosis:
    """Return that one can work with a thing, and should know something of it."""
    return Diagnosis(what, Grade.WEAK, why, remedy)


def wrong(what: str, why: str, remedy: str) -> Diagnosis:
    """Return that one cannot work with a thing as it is."""
    return Diagnosis(what, Grade.WRONG, why, remedy)
