"""The scripts and the style of the views, as widgets load them."""

from __future__ import annotations

from pathlib import Path

_STATIC = Path(__file__).with_name("static")

#: The style of all views: what all share, and then their own.
CSS = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted(_STATIC.glob("*.css"), key=lambda path: (path.stem != "views", path.stem))
)
#: A panel, and what it opens: the browser of an attempt, and the scene of a structure.
PANEL = ("browse.js", "structure.js", "panel.js")


def script(*names: str) -> str:
    """Return the ES module of a view: what all share, and then its own.

    Parameters
    ----------
    *names : str
        Of the files, as in ``dag.js``.
    """
    return "\n".join((_STATIC / part).read_text(encoding="utf-8") for part in ("shared.js", *names))
