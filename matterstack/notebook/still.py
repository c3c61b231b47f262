"""A still of a drawing: its shapes as a picture, its words as text of the page, light or dark as that is."""

from __future__ import annotations

from html import escape
from typing import Any

from matterstack.notebook.drawing import NODE_HEIGHT, NODE_WIDTH, Drawing, describe
from matterstack.notebook.pictures import glyph, picture
from matterstack.notebook.statuses import BY_CODE, LOOKS, Look

#: Of lines on a ground that may be light or dark.
_LINE = "#8a8a8a"


def drawing_html(drawing: Drawing) -> str:
    """Return a drawing as HTML that needs no script, and no style but its own; all text is escaped.

    Without any style, as on some pages that show notebooks, it is the picture, and a line per node.
    """
    graph, state = drawing.graph(), drawing.state()
    shapes = [f'<path d="{edge["path"]}" fill="none" stroke="{_LINE}"/>' for edge in graph["edges"]]
    words = []
    for number, node in enumerate(graph["nodes"]):
        look, parts = BY_CODE[state["codes"][number]], state["parts"].get(str(number))
        shapes.append(_shape(node, look, parts))
        said = f"{node['label']}: {describe(parts) if parts else look.name}"
        place = f"left:{node['x'] + 6}px;top:{node['y']}px;width:{NODE_WIDTH - 12}px;height:{NODE_HEIGHT}px"
        words.append(
            f"<div title='{escape(said)}' style='position:absolute;{place};overflow:hidden;white-space:nowrap;"
            f"line-height:{NODE_HEIGHT}px;font-size:12px'>{glyph(look, look.name)} {escape(node['shown'])}</div>"
        )
    size = f'width="{graph["width"]}" height="{graph["height"]}"'
    box = f"position:relative;width:{graph['width']}px;height:{graph['height']}px"
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(shapes)}</svg>'
    shown = picture(drawn, "", "position:absolute;left:0px;top:0px;margin:0")
    nodes = f"<div style='{box}'>{shown}{''.join(words)}</div>"
    return f"{counts_html(state['counts'])}<div style='overflow-x:auto'>{nodes}</div>"


def counts_html(counts: dict[str, int]) -> str:
    """Return how many tasks look how, each with its glyph."""
    style = "white-space:nowrap;margin-right:16px"
    some = [
        f"<span style='{style}'>{glyph(look)} {counts[look.code]} {look.name.lower()}</span>"
        for look in LOOKS
        if counts.get(look.code)
    ]
    return f"<div>{' '.join(some) or 'no tasks'}</div>"


def _shape(node: dict[str, Any], look: Look, parts: dict[str, int] | None) -> str:
    x, y = node["x"], node["y"]
    dashed = ' stroke-dasharray="4 3"' if look.code in "BSN" else ""
    frame = f'width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="5" fill="none" stroke="{look.colour}"'
    out = [f'<rect x="{x}" y="{y}" {frame} stroke-width="1.5"{dashed}/>']
    if not node["single"]:  # another one behind it
        right, foot = x + NODE_WIDTH + 3, y + NODE_HEIGHT + 3
        path = f"M{x + 6} {foot}H{right - 5}Q{right} {foot} {right} {foot - 5}V{y + 6}"
        out.append(f'<path d="{path}" fill="none" stroke="{look.colour}" stroke-opacity="0.6"/>')
    at = float(x + 1)
    for part in LOOKS:
        if number := (parts or {}).get(part.code):
            length = (NODE_WIDTH - 2) * number / node["count"]
            place = f'x="{at:.1f}" y="{y + NODE_HEIGHT - 4}" width="{length:.1f}" height="3"'
            out.append(f'<rect {place} fill="{part.colour}"/>')
            at += length
    return "".join(out)
