"""A border around code of others: what it raises inside ends there, and is kept."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import CodeType, TracebackType

from matterstack import interrupts
from matterstack.errors import MatterstackError

_OURS = str(Path(__file__).parent.parent)


class Captured(interrupts.heard):
    """A block of somebody else's code, and what it raised; made by `capture`."""

    def __init__(self) -> None:
        self.error: Exception | SystemExit | None = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        super().__exit__(kind, value, traceback)
        if isinstance(value, Exception | SystemExit):
            self.error = value
            return True
        return False


def capture() -> Captured:
    """Run a block of somebody else's code, and of nobody else's; any exception of it becomes ``error``.

    An interrupt is heard here, and passes: it is the user's, not the code's. That the code wants to end the process is
    its error.

    Examples
    --------
    >>> with capture() as caught:
    ...     1 / 0
    >>> caught.error
    ZeroDivisionError('division by zero')
    """
    return Captured()


def describe(error: Exception | SystemExit) -> str:
    """Return one of our errors as its message, and any other with its traceback."""
    if isinstance(error, MatterstackError):
        return str(error)
    return "".join(traceback.format_exception(error))


def describe_from_users_line(error: Exception | SystemExit) -> str:
    """Return what a user's code raised: first what, and where in their own code; then the traceback from there."""
    within = error.__traceback__
    while within is not None and within.tb_frame.f_code.co_filename.startswith(_OURS):
        within = within.tb_next
    if within is None:
        return describe(error)
    import sysconfig

    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    frames = traceback.extract_tb(within)
    own = [frame for frame in frames if not frame.filename.startswith((_OURS, *installed))] or frames
    raised = traceback.TracebackException.from_exception(error)
    raised.__notes__ = None  # they stand below the traceback
    what = "".join(raised.format_exception_only()).strip()
    where = f"at {own[-1].name}, line {own[-1].lineno} of {_file(own[-1].filename)}"
    source = f": {own[-1].line}" if own[-1].line else ""
    return f"{what}, {where}{source}\n" + "".join(traceback.format_exception(type(error), error, within))


def place_of(code: CodeType) -> str:
    """Return where a function was written, as ``line 3 of loop.py``."""
    return f"line {code.co_firstlineno} of {_file(code.co_filename)}"


def _file(name: str) -> str:
    """Return a source file as its author calls it; a kernel gives each cell a file of its own."""
    return "the cell" if name.startswith("<ipython-input") or "/ipykernel_" in name else Path(name).name
