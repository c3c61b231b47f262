"""Palette of all views: nine colours that people who are colour-blind tell apart, on a light and on a dark page.

They were searched for under these conditions, which a test holds: each has a contrast of 3 with white and with
JupyterLab's dark ground (WCAG 2.2, 1.4.11), and as seen with each of the three kinds of colour blindness (Machado,
Oliveira and Fernandes 2009, DOI 10.1109/TVCG.2009.113) any two are apart in OKLab; those that matter most twice as far.
"""

from __future__ import annotations

GREEN = "#107d5e"
BLUE = "#368ef7"
AMBER = "#ce8103"
TEAL = "#2287a5"
VIOLET = "#7a5ec3"
GREY = "#939192"
RED = "#c24003"
ROSE = "#bd4e7c"
TAN = "#ae8566"

#: Of the series of a chart, in the order in which they are taken.
SERIES = (BLUE, RED, GREEN, AMBER, VIOLET, ROSE)
#: Of what stands out among points, and of the groups of these then.
HIGHLIGHT = RED
GROUPS = tuple(colour for colour in SERIES if colour != HIGHLIGHT)
#: Of numbers, from the smallest to the largest: the middle of viridis, whose ends cannot be seen on one of the grounds.
RAMP = ("#46327e", "#3f4f8c", "#2f6b8e", "#24868e", "#22a085", "#49b971", "#7fd04f")
