"""Small drawings as HTML images, which pages that take ``<svg>`` out of what they show let pass."""

from __future__ import annotations

import base64
from html import escape

from matterstack.notebook.statuses import Look


def picture(svg: str, alt: str = "", style: str = "") -> str:
    """Return SVG as an HTML image: JupyterLab takes ``<svg>`` out of what a notebook shows that one does not trust.

    Parameters
    ----------
    svg : str
        With its width and height.
    alt, style : str
    """
    source = base64.b64encode(svg.encode()).decode()
    return f"<img alt='{escape(alt)}' style='max-width:none;{style}' src='data:image/svg+xml;base64,{source}'>"


def glyph(look: Look, alt: str = "") -> str:
    """Return the glyph of a status as an image."""
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="14" height="14" viewBox="0 0 16 16">'
        f'<path d="{look.glyph}" fill="none" stroke="{look.colour}" stroke-width="2.2" stroke-linecap="round" '
        'stroke-linejoin="round"/></svg>'
    )
    return picture(drawn, alt, "display:inline;vertical-align:-2px;margin:0")
