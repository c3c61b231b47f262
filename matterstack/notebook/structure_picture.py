"""A structure as a still picture, for pages that cannot turn it: an SVG that reads on light and on dark."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matterstack.core.text import neutral
from matterstack.notebook.structures import Element, Frame, Frames, element_of, frames_of_value

#: Pixels.
_SIZE, _MARGIN = 200, 6
_MOST_ATOMS = 400
#: Of a bond, in covalent radii of both atoms; as in structure.js, as is all that follows.
_BOND = 1.15
_TURN, _TILT = np.radians(-25), np.radians(12)
#: Has a contrast of 4 with a white page, and with a dark one.
_LINE = "#808080"


def structure_svg(data: Any) -> str:
    """Return a small picture of the first structure in a value, where ASE is there; else nothing.

    Parameters
    ----------
    data : object
        What was JSON, as `frames_of_value` reads it.
    """
    found = frames_of_value(data)
    try:
        return "" if found is None else picture_html(found)
    except ImportError:
        return ""


def picture_html(frames: Frames, size: int = _SIZE) -> str:
    """Return the first frame as an image.

    Parameters
    ----------
    frames : Frames
    size : int
        Its width, in pixels.
    """
    frame = frames.frames[0]
    if len(frame.numbers) > _MOST_ATOMS:
        return f"<p>a structure of {len(frame.numbers)} atoms, too large to be drawn here</p>"
    formula = escape(neutral(frames.formula))
    encoded = base64.b64encode(_svg(frame).encode()).decode()
    return f"<img alt='{formula}' title='{formula}' width='{size}' src='data:image/svg+xml;base64,{encoded}'>"


def _svg(frame: Frame) -> str:
    elements = {int(number): element_of(int(number)) for number in np.unique(frame.numbers)}
    radii = np.array([0.22 + 0.35 * elements[int(number)].radius for number in frame.numbers])
    corners = _corners(frame.cell)
    seen = _turned(np.vstack([frame.positions, corners]))
    atoms, box = seen[: len(radii)], seen[len(radii) :]
    around = np.vstack([atoms[:, :2] - radii[:, None], atoms[:, :2] + radii[:, None], box[:, :2]])
    low, high = around.min(axis=0), around.max(axis=0)
    scale = (_SIZE - 2 * _MARGIN) / max(float((high - low).max()), 1e-6)
    shift = _SIZE / 2 - scale * (low + high) / 2
    atoms, box = atoms * scale + [*shift, 0], box * scale + [*shift, 0]
    lines = [_line(box[a], box[b], 1.0, 0.7) for a in range(len(box)) for b in range(a) if _is_edge(a, b)]
    drawn = [
        (float(z), _circle(x, y, radius * scale, int(number)))
        for (x, y, z), radius, number in zip(atoms, radii, frame.numbers, strict=True)
    ]
    for a, b in _bonds(frame, elements):
        drawn.append((float(atoms[a, 2] + atoms[b, 2]) / 2, _line(atoms[a], atoms[b], max(1.0, 0.16 * scale), 1.0)))
    gradients = "".join(_gradient(number, element) for number, element in elements.items())
    parts = "".join(part for _, part in sorted(drawn))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_SIZE} {_SIZE}' width='{_SIZE}' height='{_SIZE}'>"
        f"<defs>{gradients}</defs>{''.join(lines)}{parts}</svg>"
    )


def _turned(points: NDArray[Any]) -> NDArray[np.float64]:
    """Return points as they are seen from the front, a little from the right and above: right, down, and nearer."""
    x, y, z = points.astype(np.float64).T
    x, y = x * np.cos(_TURN) - y * np.sin(_TURN), x * np.sin(_TURN) + y * np.cos(_TURN)
    up, near = z * np.cos(_TILT) + y * np.sin(_TILT), z * np.sin(_TILT) - y * np.cos(_TILT)
    return np.stack([x, -up, near], axis=1)


def _corners(cell: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if cell is None:
        return np.zeros((0, 3))
    return np.array([[number >> axis & 1 for axis in range(3)] for number in range(8)]) @ cell


def _is_edge(a: int, b: int) -> bool:
    return (a ^ b).bit_count() == 1


def _bonds(frame: Frame, elements: dict[int, Element]) -> list[tuple[int, int]]:
    """Return which atoms are joined: two metals only where most atoms of one are not joined to anything else."""
    radii = np.array([elements[int(number)].radius for number in frame.numbers])
    metal = np.array([elements[int(number)].metal for number in frame.numbers])
    apart = np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=2)
    joined = (apart < _BOND * (radii[:, None] + radii[None])) & (apart > 0.1)
    touches = joined[:, ~metal].any(axis=1)
    most = {number: bool(touches[frame.numbers == number].mean() > 0.5) for number in elements}
    bound = metal & np.array([most[int(number)] for number in frame.numbers])
    joined &= ~(bound[:, None] & bound[None])
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(joined, 1))]


def _line(a: NDArray[np.float64], b: NDArray[np.float64], width: float, opacity: float) -> str:
    ends = f"x1='{a[0]:.1f}' y1='{a[1]:.1f}' x2='{b[0]:.1f}' y2='{b[1]:.1f}'"
    return f"<line {ends} stroke='{_LINE}' stroke-width='{width:.1f}' stroke-opacity='{opacity}'/>"


def _circle(x: float, y: float, radius: float, number: int) -> str:
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}' fill='url(#e{number})' stroke='{_LINE}'/>"


def _gradient(number: int, element: Element) -> str:
    stops = ((0, _mixed(element.colour, 255, 0.65)), (0.55, element.colour), (1, _mixed(element.colour, 0, 0.35)))
    inner = "".join(f"<stop offset='{at}' stop-color='{colour}'/>" for at, colour in stops)
    return f"<radialGradient id='e{number}' cx='0.36' cy='0.32' r='0.75'>{inner}</radialGradient>"


def _mixed(colour: str, with_: int, share: float) -> str:
    parts = (round(int(colour[at : at + 2], 16) * (1 - share) + with_ * share) for at in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in parts)
