"""Colours of the views: seen on light and dark pages, and told apart by people who are colour-blind."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy
import pytest

import matterstack
from matterstack.notebook.palette import SERIES
from matterstack.notebook.statuses import LOOKS, RUN_LOOKS

#: Full loss of one kind of cone, in linear sRGB: Machado, Oliveira and Fernandes 2009, DOI 10.1109/TVCG.2009.113.
SEEN_WITH = {
    "all cones": numpy.eye(3).tolist(),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
#: JupyterLab's grounds.
LIGHT, DARK = "#ffffff", "#212121"


def linear(colour: str) -> numpy.ndarray:
    parts = numpy.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return numpy.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    weights = numpy.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: numpy.ndarray) -> numpy.ndarray:
    """OKLab times 100, whose distances are about equal to the eye: https://bottosson.github.io/posts/oklab/."""
    cones = numpy.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    axes = numpy.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return 100 * axes @ numpy.cbrt(cones @ numpy.clip(rgb, 0, 1))


def distance(one: str, other: str, seen_with: str) -> float:
    matrix = numpy.array(SEEN_WITH[seen_with])
    return float(numpy.linalg.norm(oklab(matrix @ linear(one)) - oklab(matrix @ linear(other))))


@pytest.mark.parametrize("ground", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_is_seen_on_a_light_and_on_a_dark_page(ground: str) -> None:
    """WCAG 2.2, 1.4.11: a ratio of 3 for what is no text."""
    for colour in {*SERIES, *(look.colour for look in [*LOOKS, *RUN_LOOKS.values()])}:
        assert contrast(colour, ground) >= 3, colour


@pytest.mark.parametrize("seen_with", SEEN_WITH)
def test_statuses_are_told_apart_by_the_colour_blind(seen_with: str) -> None:
    colours = {look.name: look.colour for look in LOOKS}
    for one, other in itertools.combinations(colours, 2):
        most_asked = {one, other} <= {"COMPLETED", "RUNNING", "WAITING", "FAILED"}
        assert distance(colours[one], colours[other], seen_with) > (10 if most_asked else 5), (one, other)


@pytest.mark.parametrize("seen_with", SEEN_WITH)
def test_the_series_of_a_chart_are_told_apart_by_the_colour_blind(seen_with: str) -> None:
    for one, other in itertools.combinations(SERIES, 2):
        assert distance(one, other, seen_with) > 5, (one, other)


def test_every_status_has_a_colour_and_a_glyph_of_its_own() -> None:
    for what in ("code", "name", "colour", "glyph"):
        assert len({getattr(look, what) for look in LOOKS}) == len(LOOKS)


def test_no_view_has_a_size_of_type_of_its_own() -> None:
    """Five sizes, by name: what is written in pixels elsewhere is a second scale."""
    static = Path(matterstack.__file__).with_name("notebook") / "static"
    for sheet in static.glob("*.css"):
        rules = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        sizes = re.findall(r"font-size:\s*([^;}]+)", rules)
        assert [size for size in sizes if "px" in size] == [], sheet.name
