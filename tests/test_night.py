"""A sample of the night: a few runs, a quarter of a minute, and their morning; see `night`."""

from __future__ import annotations

from pathlib import Path

from night import night

KINDS = ("commands", "fails", "warm", "person", "asks", "experiment", "kits", "streams", "license", "license", "raises")


def test_a_short_night(tmp_path: Path) -> None:
    assert night(tmp_path, 15, 3, KINDS, bare=True) == []
