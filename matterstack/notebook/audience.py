"""The audience of a cell: a page that may show widgets, or a program that saves what the cell shows."""

from __future__ import annotations

import os
import sys

#: Voila sets it; it executes a notebook as such a program does, and has a page ask the same kernel then.
_OF_VOILA = "VOILA_PREHEAT"


def may_have_page() -> bool:
    """Return whether a page may show the widgets of the cell that runs.

    nbconvert, papermill and nbclient say that nobody can be asked (``allow_stdin``). What they save is looked at
    without a kernel: a widget in it would ask another machine for its programs, and be blank without a network.
    """
    if "IPython" not in sys.modules or _OF_VOILA in os.environ:
        return True
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or not hasattr(kernel, "get_parent"):
        return True
    return (kernel.get_parent() or {}).get("content", {}).get("allow_stdin") is not False
