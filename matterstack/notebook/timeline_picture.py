"""The timeline of a run as a still picture, and what was spent as a table, both for pages without a kernel."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from matterstack.core.text import neutral
from matterstack.notebook.bars import Bar, Bars
from matterstack.notebook.moments import in_words, memory
from matterstack.notebook.palette import BLUE, TEAL
from matterstack.notebook.statuses import COLOURS_OF_ATTEMPTS
from matterstack.orchestration.time_spent import BY, Spending, key_of

#: Rows of what was spent that are shown.
MOST_KEYS = 50
#: What a key is called that is empty.
NAMELESS = {"function": "(no function)", "group": "(no group)"}
HEAD = ("attempts", "failed", "waiting", "running", "core hours", "CPU time", "CPU efficiency", "peak memory")

#: In pixels.
_WIDTH, _GUTTER, _TOP, _STRIP, _GAP = 960, 128, 24, 56, 8
_LANES_AT_MOST = 480
#: Read on white and on the dark ground of JupyterLab alike.
_TEXT, _LINE = "#787878", "#8885"
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY_S = 86400
_MARKS = 8


def label(key: str | int, by: str) -> str:
    """Return what a key is called."""
    return neutral(str(key)) if key != "" else NAMELESS.get(by, "")


def _span(seconds: float) -> str:
    """Return a duration; a short one with two digits."""
    return in_words(seconds) if seconds >= 9.95 or not seconds else f"{seconds:.2g} s"


def words(spent: Spending) -> list[str]:
    """Return what was spent as people read it, in the order of `HEAD`."""
    percent = None if spent.cpu_efficiency is None else 100 * spent.cpu_efficiency
    return [
        str(spent.attempts),
        str(spent.failed or ""),
        _span(spent.waiting_s),
        _span(spent.running_s),
        f"{spent.core_hours:.3g}",
        "" if spent.cpu_s is None else _span(spent.cpu_s),
        "" if percent is None else f"{percent:.0f} %" if percent >= 9.5 else f"{percent:.2g} %",
        memory(spent.peak_memory_gib),
    ]


def spent_html(rows: Sequence[tuple[str | int, Spending]], by: str) -> str:
    """Return what was spent as a table.

    Parameters
    ----------
    rows : sequence of (key, Spending)
    by : str
        What it was counted by.
    """
    style = "style='text-align:right;padding:2px 8px;white-space:nowrap;font-variant-numeric:tabular-nums'"
    head = "".join(f"<th {style}>{name}</th>" for name in HEAD)
    lines = [f"<tr><th style='text-align:left;padding:2px 8px'>{by}</th>{head}</tr>"]
    for key, spent in rows[:MOST_KEYS]:
        cells = "".join(f"<td {style}>{cell}</td>" for cell in words(spent))
        lines.append(f"<tr><td style='text-align:left;padding:2px 8px'>{escape(label(key, by))}</td>{cells}</tr>")
    more = f"<p>and {len(rows) - MOST_KEYS} more: run.time_spent has all</p>" if len(rows) > MOST_KEYS else ""
    return f"<div style='overflow-x:auto'><table>{''.join(lines)}</table></div>{more}"


def timeline_html(bars: Bars, by: str, now: float) -> str:
    """Return the bars as a picture.

    Parameters
    ----------
    bars : Bars
    by : {'function', 'operator', 'iteration', 'group'}
    now : float
        Seconds since the Unix epoch: what is under way is drawn up to there.
    """
    shown = sorted(bars.bars.values(), key=lambda bar: bar.row.id)
    if not shown:
        return "<p>Nothing was submitted yet.</p>"
    encoded = base64.b64encode(_Picture(shown, by, now).svg().encode()).decode()
    alt = f"{len(shown)} attempts by {by}, each from its submission to its end"
    return f"<div style='overflow-x:auto'><img alt='{alt}' src='data:image/svg+xml;base64,{encoded}'></div>"


class _Picture:
    """The drawing of some bars."""

    def __init__(self, bars: Sequence[Bar], by: str, now: float) -> None:
        self.bars, self.by, self.now = bars, by, now
        self.place = BY.index(by)
        self.low = min(bar.row.submitted_at for bar in bars)
        self.high = max(max(now if bar.row.ended_at is None else bar.row.ended_at for bar in bars), self.low + 1e-3)
        lanes: dict[str | int, int] = {}
        for bar in bars:
            key = key_of(bar.row, by)
            lanes[key] = max(lanes.get(key, 0), bar.lanes[self.place] + 1)
        self.lane = min(12.0, max(1.0, _LANES_AT_MOST / sum(lanes.values())))
        self.tops: dict[str | int, float] = {}
        top = float(_TOP)
        for key, number in lanes.items():
            self.tops[key] = top
            top += max(number * self.lane, 14.0) + _GAP
        self.bottom = top

    def x(self, at: float) -> float:
        return _GUTTER + (_WIDTH - _GUTTER - 8) * (at - self.low) / (self.high - self.low)

    def svg(self) -> str:
        height = self.bottom + _STRIP + 16
        parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height:.0f}' "
            f"font-family='system-ui,sans-serif' font-size='11' fill='{_TEXT}'>"
        ]
        for at, said in marks(self.low, self.high):
            line = f"<path d='M{self.x(at):.1f} {_TOP - 4}V{height:.0f}' stroke='{_LINE}'/>"
            anchor = "middle" if self.x(at) < _WIDTH - 40 else "end"  # at the edge it would be cut off
            parts.append(f"{line}<text x='{self.x(at):.1f}' y='12' text-anchor='{anchor}'>{said}</text>")
        for key, top in self.tops.items():
            name = label(key, self.by)
            short = name if len(name) <= 20 else f"{name[:19]}…"
            parts.append(f"<text x='{_GUTTER - 8}' y='{top + 11:.1f}' text-anchor='end'>{escape(short)}</text>")
        parts += self._bars()
        parts += self._strip()
        return f"{''.join(parts)}</svg>"

    def _bars(self) -> Iterator[str]:
        """Yield a path for each colour, in whole pixels; what touches in a lane is one piece of it."""
        pieces: dict[tuple[str, bool, float], list[tuple[int, int]]] = {}
        for bar in self.bars:
            row = bar.row
            y = self.tops[key_of(row, self.by)] + (bar.lanes[self.place] + 0.5) * self.lane
            end = self.now if row.ended_at is None else row.ended_at
            start = end if row.started_at is None else row.started_at
            colour = COLOURS_OF_ATTEMPTS.get(row.status, _TEXT)
            for is_pale, low, high in ((True, row.submitted_at, start), (False, start, end)):
                if high <= low:
                    continue
                line = pieces.setdefault((colour, is_pale, y), [])
                left, right = int(self.x(low)), max(int(self.x(high)), int(self.x(low)) + 1)
                if line and left <= line[-1][1]:
                    line[-1] = (line[-1][0], max(right, line[-1][1]))
                else:
                    line.append((left, right))
        paths: dict[tuple[str, bool], list[str]] = {}
        for (colour, is_pale, y), line in pieces.items():
            drawn = paths.setdefault((colour, is_pale), [])
            drawn += [f"M{left} {y:.1f}H{right}" for left, right in line]
        thick = max(self.lane - (1 if self.lane >= 4 else 0), 0.6)
        for (colour, is_pale), drawn in paths.items():
            opacity = 0.35 if is_pale else 1
            look = f"stroke='{colour}' stroke-width='{thick:.1f}' stroke-opacity='{opacity}'"
            yield f"<path d='{''.join(drawn)}' {look}/>"

    def _strip(self) -> Iterator[str]:
        """Yield the lines of how many run, and of how many wait."""
        floor = self.bottom + _STRIP
        lines = []
        for name, colour, spans in (("running", BLUE, self._running()), ("waiting", TEAL, self._waiting())):
            lines.append((name, colour, self._counts(spans)))
        most = max(1, *(max(counts) for _, _, counts in lines))
        for number, (name, colour, counts) in enumerate(lines):
            dash = " stroke-dasharray='4 3'" if number else ""
            points = "".join(
                f"L{_GUTTER + place * 2} {floor - count * (_STRIP - 16) / most:.1f}"
                for place, count in enumerate(counts)
            )
            yield f"<path d='M{points[1:]}' fill='none' stroke='{colour}' stroke-width='1.5'{dash}/>"
            y = self.bottom + 12 + 14 * number
            yield f"<path d='M{_GUTTER - 76} {y - 4}h16' stroke='{colour}' stroke-width='2'{dash}/>"
            yield f"<text x='{_GUTTER - 8}' y='{y}' text-anchor='end'>{name}</text>"
        yield f"<text x='{_WIDTH - 8}' y='{self.bottom + 10}' text-anchor='end'>{most} at most</text>"

    def _running(self) -> Iterator[tuple[float, float]]:
        for row in (bar.row for bar in self.bars):
            if row.started_at is not None:
                yield row.started_at, self.now if row.ended_at is None else row.ended_at

    def _waiting(self) -> Iterator[tuple[float, float]]:
        for row in (bar.row for bar in self.bars):
            ends = [at for at in (row.started_at, row.ended_at, self.now) if at is not None]
            yield row.submitted_at, ends[0]

    def _counts(self, spans: Iterable[tuple[float, float]]) -> list[int]:
        """Return how many spans there are at each second pixel."""
        columns = (_WIDTH - _GUTTER - 8) // 2
        steps = [0] * (columns + 1)
        for low, high in spans:
            first, last = (int((self.x(at) - _GUTTER) / 2 + 0.5) for at in (low, high))
            steps[min(max(first, 0), columns)] += 1
            steps[min(max(last, 0), columns)] -= 1
        counts, now = [], 0
        for step in steps[:columns]:
            now += step
            counts.append(now)
        return counts


def marks(low: float, high: float) -> Iterator[tuple[float, str]]:
    """Yield moments between two, with what is written there, in UTC.

    Parameters
    ----------
    low, high : float
        Seconds since the Unix epoch.
    """
    wanted = (high - low) / _MARKS
    step = next((step for step in _STEPS_S if step >= wanted), _DAY_S * max(1, round(wanted / _DAY_S)))
    form = "%m-%d" if step >= _DAY_S else "%H:%M" if step >= 60 else "%H:%M:%S"
    number = int(low // step) + 1
    while number * step <= high:
        at = number * step
        text = f"{datetime.fromtimestamp(at, UTC):{form if at % _DAY_S else '%m-%d'}}"
        yield at, f"{text}.{round(at % 1 * 10)}" if step < 1 and at % _DAY_S else text
        number += 1
