"""A scatter as SVG for pages without a kernel: in the colours of its page, be it light or dark. All is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from matterstack.core.text import neutral
from matterstack.notebook.palette import GREY, GROUPS, HIGHLIGHT, RAMP

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 32, 48
_MOST_POINTS = 2000
_MOST_LETTERS = 18


class Picture(NamedTuple):
    """What is drawn.

    Attributes
    ----------
    along : mapping of str to sequence of float
        Values along ``x``, ``y`` and, where it is drawn, ``colour``.
    titles : mapping of str to str
    words : mapping of str to sequence of str
        What the values are the places of, where they are of words.
    logs : set of str
        Which of the axes is logarithmic.
    best : sequence of int
        Places of the points that stand out.
    line : sequence of (float, float)
        Corners of the line along them.
    """

    along: Mapping[str, Sequence[float]]
    titles: Mapping[str, str]
    words: Mapping[str, Sequence[str]]
    logs: set[str]
    best: Sequence[int]
    line: Sequence[tuple[float, float]]


class Scale:
    """From values of an axis to places on the picture.

    Parameters
    ----------
    values : sequence of float
    words : sequence of str
        Where the values are places of words.
    is_log : bool
    start, end : float
        In pixels.
    """

    def __init__(self, values: Sequence[float], words: Sequence[str], is_log: bool, start: float, end: float) -> None:
        self.words, self.is_log, self.start, self.end = words, is_log and not words, start, end
        shown = [place for value in values if math.isfinite(place := self._of(value))]
        low, high = (-0.5, len(words) - 0.5) if words else (min(shown, default=0.0), max(shown, default=1.0))
        room = 0.0 if words else (high - low) * 0.04 or max(abs(high) * 0.04, 0.5)
        self.low, self.high = low - room, high + room

    def _of(self, value: float) -> float:
        if not self.is_log:
            return value
        return math.log10(value) if value > 0 else math.nan

    def at(self, value: float) -> float:
        """Return where a value is, in pixels; NaN for what a logarithmic axis does not have."""
        share = (self._of(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def marks(self) -> list[tuple[float, str]]:
        """Return where marks stand, and what is written there."""
        if self.words:
            return [(self.at(place), _short(word)) for place, word in enumerate(self.words)]
        if self.is_log and self.high - self.low > 1:
            powers = range(math.ceil(self.low), math.floor(self.high) + 1)
            return [(self.at(10.0**power), f"1e{power}") for power in powers]
        span = (self.high - self.low) or 1.0
        power = 10.0 ** math.floor(math.log10(span / 6))
        step = power * next((factor for factor in (1, 2, 5) if span / (factor * power) <= 6), 10)
        numbers = [number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        said = [10.0**number if self.is_log else number for number in numbers]
        return [(self.at(number), f"{number:.4g}") for number in said]


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def scatter_svg(picture: Picture) -> str:
    """Return the picture as SVG that needs nothing else."""
    along, words = picture.along, picture.words
    xs, ys = along.get("x", ()), along.get("y", ())
    x = Scale(xs, words.get("x", ()), "x" in picture.logs, _LEFT, _WIDTH - _RIGHT)
    y = Scale(ys, words.get("y", ()), "y" in picture.logs, _HEIGHT - _BOTTOM, _TOP)
    colours, legend = _colours(picture)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
        f"<title>{_said(picture, 'y')} over {_said(picture, 'x')}</title>",
        *_axes(x, y, picture),
        legend,
    ]
    places = [place for place in range(len(xs)) if math.isfinite(x.at(xs[place])) and math.isfinite(y.at(ys[place]))]
    step = max(1, len(places) // _MOST_POINTS)
    out += [
        f'<circle cx="{x.at(xs[place]):.1f}" cy="{y.at(ys[place]):.1f}" r="3" fill="{colours(place)}" '
        'fill-opacity="0.8"/>'
        for place in places[::step]
    ]
    corners = [(x.at(a), y.at(b)) for a, b in picture.line]
    if corners := [corner for corner in corners if all(map(math.isfinite, corner))]:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        out.append(f'<polyline points="{path}" fill="none" stroke="{HIGHLIGHT}" stroke-width="2"/>')
    seen = set(places)
    out += [
        f'<circle cx="{x.at(xs[place]):.1f}" cy="{y.at(ys[place]):.1f}" r="5" fill="{HIGHLIGHT}"/>'
        for place in picture.best[:_MOST_POINTS]
        if place in seen
    ]
    return "".join([*out, "</svg>"])


def _said(picture: Picture, axis: str) -> str:
    return escape(neutral(picture.titles.get(axis, "")))


def _axes(x: Scale, y: Scale, picture: Picture) -> list[str]:
    line = 'stroke="currentColor" stroke-opacity="0.15"'
    out = []
    for at, text in x.marks():
        out.append(f'<path d="M{at:.1f} {_TOP} V{_HEIGHT - _BOTTOM}" {line}/>')
        out.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>')
    for at, text in y.marks():
        out.append(f'<path d="M{_LEFT} {at:.1f} H{_WIDTH - _RIGHT}" {line}/>')
        out.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) // 2
    out.append(f'<text x="{(_LEFT + _WIDTH) // 2}" y="{_HEIGHT - 8}" text-anchor="middle">{_said(picture, "x")}</text>')
    turned = f'transform="translate(16,{middle}) rotate(-90)" text-anchor="middle"'
    return [*out, f"<text {turned}>{_said(picture, 'y')}</text>"]


def _colours(picture: Picture) -> tuple[Callable[[int], str], str]:
    """Return the colour of a point by its place, and the legend as SVG."""
    values, words = picture.along.get("colour"), picture.words.get("colour", ())
    if values is None:
        return (lambda _: GROUPS[0]), ""
    title = f'<text x="{_LEFT}" y="16">{_said(picture, "colour")}</text>'
    at = _LEFT + 8 + 7 * len(picture.titles.get("colour", ""))
    if words:
        out = [title]
        for place, word in enumerate(words[:12]):
            if at > _WIDTH - 80:
                break
            out.append(f'<circle cx="{at + 8}" cy="12" r="4" fill="{GROUPS[place % len(GROUPS)]}"/>')
            out.append(f'<text x="{at + 16}" y="16">{escape(_short(word))}</text>')
            at += 32 + 7 * min(len(word), _MOST_LETTERS)
        return (lambda place: GREY if math.isnan(values[place]) else GROUPS[int(values[place]) % len(GROUPS)]), "".join(
            out
        )
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)

    def colour(place: int) -> str:
        if math.isnan(values[place]):
            return GREY
        share = (values[place] - low) / ((high - low) or 1.0)
        return RAMP[min(len(RAMP) - 1, int(share * len(RAMP)))]

    boxes = "".join(
        f'<rect x="{at + 56 + 16 * place}" y="7" width="16" height="10" fill="{shade}"/>'
        for place, shade in enumerate(RAMP)
    )
    ends = f'<text x="{at + 52}" y="16" text-anchor="end">{low:.4g}</text>'
    ends += f'<text x="{at + 60 + 16 * len(RAMP)}" y="16">{high:.4g}</text>'
    return colour, title + boxes + ends
